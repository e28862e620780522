//! Triggers in words.
//!
//! This module decides what to say. The [`Voice`] of each language decides how to say it.

mod chinese;
mod cron;
mod english;
mod russian;

use chrono::{Datelike, NaiveTime, Timelike};

use super::calendar::{Calendar, CalendarUnit, ShortMonth};
use super::date::Date;
use super::{Rule, Trigger, Zone};
use crate::clock::Timestamp;

/// A language for the description of triggers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
    /// Russian.
    Russian,
}

/// The unit of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// The values `from` to `to`, every `step`-th of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    from: u32,
    to: u32,
    step: u32,
}

/// The phrases of a language. Weekdays are numbered 0 (Sunday) to 7 (Sunday at the end of a range).
trait Voice {
    /// `a, b and c`
    fn list(&self, parts: &[String]) -> String;
    /// `5–20 in steps of 3`
    fn run(&self, run: Run) -> String;
    /// `at 09:00 and 17:00`; adds "every day" when `daily` is true, because the text then says nothing about days.
    fn at(&self, times: &[String], daily: bool) -> String;
    /// `every 15 minutes`
    fn every(&self, n: u32, unit: Unit) -> String;
    /// `in minutes 5 and 20–30`; units are seconds, minutes or hours.
    fn during(&self, unit: Unit, runs: &[Run]) -> String;
    fn days(&self, runs: &[Run]) -> String;
    fn last_day(&self) -> String;
    /// So many days before the last day, at least 1.
    fn before_last(&self, days: u32) -> String;
    fn last_workday(&self) -> String;
    fn near(&self, day: u32) -> String;
    fn weekdays(&self, runs: &[Run]) -> String;
    /// The `nth` (1 to 5) such weekday of a month; `None` means the last.
    fn nth(&self, weekday: u32, nth: Option<u32>) -> String;
    /// Any of the parts suffices.
    fn either(&self, parts: &[String]) -> String;
    /// The days of `one` that are also days of `other`.
    fn both(&self, one: &str, other: &str) -> String;
    fn months(&self, runs: &[Run]) -> String;
    fn years(&self, runs: &[Run]) -> String;
    /// Puts times, days, months and years in order. A part that says nothing is empty.
    fn sentence(&self, time: &str, days: &str, months: &str, years: &str) -> String;
    /// Joins how often and when exactly: `every 15 minutes, in hours 9–17`.
    fn pieces(&self, parts: &[String]) -> String {
        parts.join(", ")
    }
    /// `every 2 weeks on Friday at 09:00`
    fn calendar(&self, every: &str, days: &str, time: &str) -> String {
        self.sentence(every, days, time, "")
    }
    fn in_zone(&self, text: &str, zone: Zone) -> String;
    /// `2 hours 30 minutes`; all numbers but the last are whole units.
    fn span(&self, parts: &[(u32, Unit)]) -> String;
    fn every_span(&self, span: &str) -> String;
    fn counted_from(&self, anchor: &str) -> String;
    fn once(&self, time: &str) -> String;
    fn short_month(&self, rule: ShortMonth) -> String;
    fn any_of(&self, parts: &[String]) -> String;
    fn all_of(&self, parts: &[String]) -> String;
    fn from(&self, start: &str) -> String;
    fn until(&self, end: &str) -> String;
    fn spread(&self, span: &str) -> String;
}

impl Trigger {
    /// Describes the trigger in words, without a full stop.
    ///
    /// ```
    /// use callboard::{Language, Trigger, Zone};
    /// let trigger = Trigger::cron("0 9 * * 1-5", "Europe/Berlin".parse::<Zone>()?)?;
    /// assert_eq!(trigger.describe(Language::English), "at 09:00 on Monday to Friday, Europe/Berlin time");
    /// assert_eq!(trigger.describe(Language::Chinese), "每周一至周五，09:00（Europe/Berlin 时间）");
    /// assert_eq!(trigger.describe(Language::Russian), "в 09:00 с понедельника по пятницу, время Europe/Berlin");
    /// # Ok::<(), callboard::TriggerError>(())
    /// ```
    pub fn describe(&self, language: Language) -> String {
        self.say(match language {
            Language::English => &english::English,
            Language::Chinese => &chinese::Chinese,
            Language::Russian => &russian::Russian,
        })
    }

    fn say(&self, voice: &dyn Voice) -> String {
        let parts = |parts: &[Self]| parts.iter().map(|part| part.say(voice)).collect::<Vec<_>>();
        let mut text = match &self.rule {
            Rule::Cron(cron) => voice.in_zone(&cron::say(voice, &cron.fields()), cron.zone),
            Rule::Calendar(calendar) => say_calendar(voice, calendar),
            Rule::Date(Date::Moment(moment)) => voice.once(&show(*moment)),
            Rule::Date(Date::Local(wall, zone)) => {
                voice.in_zone(&voice.once(&wall.format("%Y-%m-%d %H:%M:%S%.f").to_string()), *zone)
            }
            Rule::Interval(interval) => {
                let every = voice.every_span(&span(voice, interval.period_us));
                let single = single_unit(interval.period_us).map(|(n, unit)| voice.every(n, unit));
                let anchor = interval.anchor.map(|anchor| voice.counted_from(&show(anchor)));
                single.unwrap_or(every) + &anchor.unwrap_or_default()
            }
            Rule::AnyOf(any) => voice.any_of(&parts(&any.0)),
            Rule::AllOf(all) => voice.all_of(&parts(&all.parts)),
        };
        text.extend(self.start_at.map(|start| voice.from(&show(start))));
        text.extend(self.end_at.map(|end| voice.until(&show(end))));
        if self.jitter_us > 0 {
            text += &voice.spread(&span(voice, self.jitter_us));
        }
        text
    }
}

fn say_calendar(voice: &dyn Voice, calendar: &Calendar) -> String {
    let Calendar { every, unit, first, time, short, zone } = calendar;
    let time = voice.at(&[clock(*time)], false);
    let (unit, days) = match unit {
        CalendarUnit::Day => (Unit::Day, String::new()),
        CalendarUnit::Week => {
            let day = first.weekday().num_days_from_sunday();
            (Unit::Week, voice.weekdays(&[Run { from: day, to: day, step: 1 }]))
        }
        CalendarUnit::Month => (Unit::Month, voice.days(&[Run { from: first.day(), to: first.day(), step: 1 }])),
    };
    let short = match unit {
        Unit::Month if first.day() > 28 => voice.short_month(*short),
        _ => String::new(),
    };
    let every = voice.every(*every, unit);
    let text = voice.calendar(&every, &days, &time) + &short + &voice.from(&first.to_string());
    voice.in_zone(&text, *zone)
}

/// `09:00`; with seconds if they are not 0.
fn clock(time: NaiveTime) -> String {
    time.format(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}

fn show(moment: Timestamp) -> String {
    moment.to_datetime().format("%Y-%m-%d %H:%M:%S%.f UTC").to_string()
}

/// Units of a span in microseconds, the greatest first.
const UNITS: [(Unit, i64); 6] = [
    (Unit::Day, 86_400_000_000),
    (Unit::Hour, 3_600_000_000),
    (Unit::Minute, 60_000_000),
    (Unit::Second, 1_000_000),
    (Unit::Millisecond, 1_000),
    (Unit::Microsecond, 1),
];

fn span_parts(us: i64) -> Vec<(u32, Unit)> {
    let mut rest = us;
    let mut part = |(unit, size): (Unit, i64)| {
        let count = u32::try_from(rest / size).unwrap_or(u32::MAX);
        rest %= size;
        (count > 0).then_some((count, unit))
    };
    UNITS.into_iter().filter_map(&mut part).collect()
}

fn span(voice: &dyn Voice, us: i64) -> String {
    voice.span(&span_parts(us))
}

fn single_unit(us: i64) -> Option<(u32, Unit)> {
    match span_parts(us).as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}
