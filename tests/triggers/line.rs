//! A cron line of five fields. Its day fields are read from their text at each question.

use chrono::{Datelike, NaiveDate};

use crate::walker::Plan;

/// A line of five fields, read in the plainest way.
pub(crate) struct Line {
    minutes: Vec<bool>,
    hours: Vec<bool>,
    months: Vec<bool>,
    day: String,
    weekday: String,
    fixed: bool,
}

impl Line {
    pub(crate) fn new(text: &str) -> Self {
        let [minute, hour, day, month, weekday] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let table =
            |field: &str, size: u32| (0..size).map(|value| Self::has(field, value, u32::from(size == 13))).collect();
        Self {
            minutes: table(minute, 60),
            hours: table(hour, 24),
            months: table(month, 13),
            day: day.to_owned(),
            weekday: weekday.to_owned(),
            fixed: !minute.starts_with('*') && !hour.starts_with('*'),
        }
    }

    /// The plan of this line for the evaluator.
    pub(crate) fn plan(self) -> Plan {
        let minutes = (0..1440).map(|minute| self.hours[minute / 60] && self.minutes[minute % 60]).collect();
        Plan::new(minutes, self.fixed, move |date| self.on(date))
    }

    /// True if a list of numbers, ranges and steps contains `value`. The values of the field begin at `least`.
    fn has(list: &str, value: u32, least: u32) -> bool {
        list.split(',').filter(|item| !item.starts_with("L-")).any(|item| {
            let (range, step) =
                item.split_once('/').map_or((item, 1), |(range, step)| (range, step.parse().unwrap()));
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (least, 99),
                Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
                None if range.parse::<u32>().is_ok() => (range.parse().unwrap(), range.parse().unwrap()),
                None => return false,
            };
            value >= from && value <= to && (value - from).is_multiple_of(step)
        })
    }

    /// True if the line runs on `date`.
    pub(crate) fn on(&self, date: NaiveDate) -> bool {
        if !self.months[date.month() as usize] {
            return false;
        }
        let (day, weekday) = (self.on_day(date), self.on_weekday(date));
        if self.day.starts_with('*') || self.weekday.starts_with('*') { day && weekday } else { day || weekday }
    }

    fn on_day(&self, date: NaiveDate) -> bool {
        let workday = |date: &NaiveDate| date.weekday().number_from_monday() < 6;
        let same_month = |other: &NaiveDate| other.month() == date.month();
        Self::has(&self.day, date.day(), 1)
            || self.day.split(',').any(|item| match item {
                "L" => !same_month(&date.succ_opt().unwrap()),
                "LW" => {
                    workday(&date) && date.iter_days().skip(1).take_while(same_month).all(|later| !workday(&later))
                }
                item if item.starts_with("L-") => {
                    let before: usize = item[2..].parse().unwrap();
                    date.iter_days().skip(1).take_while(same_month).count() == before
                }
                item => item.strip_suffix('W').is_some_and(|day| {
                    // Candidates from near to far. Of two days at the same distance, the day at the near end of the
                    // weekend counts.
                    let Some(wanted) = date.with_day(day.parse().unwrap()) else { return false };
                    let days = [0, -1, 1, -2, 2].map(|shift| wanted + chrono::Duration::days(shift));
                    let nearest = days.into_iter().find(|candidate| same_month(candidate) && workday(candidate));
                    nearest == Some(date)
                }),
            })
    }

    fn on_weekday(&self, date: NaiveDate) -> bool {
        let weekday = date.weekday().num_days_from_sunday();
        let mine = |text: &str| text.parse::<u32>().unwrap() % 7 == weekday;
        Self::has(&self.weekday, weekday, 0)
            || weekday == 0 && Self::has(&self.weekday, 7, 0)
            || self.weekday.split(',').any(|item| match item.split_once('#') {
                Some((day, nth)) => mine(day) && date.day().div_ceil(7) == nth.parse::<u32>().unwrap(),
                None => item
                    .strip_suffix('L')
                    .is_some_and(|day| mine(day) && (date + chrono::Duration::days(7)).month() != date.month()),
            })
    }
}
