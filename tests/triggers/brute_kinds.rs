//! Compares calendar intervals, and triggers whose parts must all match, with the evaluator in `walker.rs`.

use callboard::{CalendarUnit, ShortMonth, Trigger, Zone};
use chrono::{Datelike, Days, NaiveDate, NaiveTime};

use crate::line::Line;
use crate::transitions::{Dice, YEARS, naive};
use crate::walker::{Plan, WallClock};

/// A calendar interval, described in the plainest way.
#[derive(Clone, Copy, Debug)]
struct Calendar {
    every: u32,
    unit: CalendarUnit,
    first: NaiveDate,
    minute: u32,
    short: ShortMonth,
}

impl Calendar {
    fn any(dice: &mut Dice, first: NaiveDate, minute: u32) -> Self {
        let (unit, most) = *dice.pick(&[(CalendarUnit::Day, 10), (CalendarUnit::Week, 4), (CalendarUnit::Month, 14)]);
        let short = *dice.pick(&[ShortMonth::Skip, ShortMonth::LastDay]);
        Self { every: 1 + u32::try_from(dice.roll(most)).unwrap(), unit, first, minute, short }
    }

    fn trigger(self, zone: Zone) -> Trigger {
        let time = NaiveTime::from_hms_opt(self.minute / 60, self.minute % 60, 0).unwrap();
        let trigger = Trigger::calendar(self.every, self.unit, self.first, time, zone).unwrap();
        if self.unit == CalendarUnit::Month { trigger.short_months(self.short).unwrap() } else { trigger }
    }

    fn on(self, date: NaiveDate) -> bool {
        let days = (date - self.first).num_days();
        let each = i64::from(self.every);
        days >= 0
            && match self.unit {
                CalendarUnit::Day => days % each == 0,
                CalendarUnit::Week => days % (7 * each) == 0,
                CalendarUnit::Month => {
                    let of = |date: NaiveDate| i64::from(date.year()) * 12 + i64::from(date.month0());
                    let is_last = (date + Days::new(1)).month() != date.month();
                    let due = date.day() == self.first.day()
                        || self.short == ShortMonth::LastDay && is_last && date.day() < self.first.day();
                    (of(date) - of(self.first)) % each == 0 && due
                }
            }
    }

    fn plan(self) -> Plan {
        let minutes = (0..1440).map(|minute| minute == self.minute).collect();
        Plan::new(minutes, true, move |date| self.on(date))
    }
}

/// A minute of the day near the minutes that a transition skips or repeats.
fn near(dice: &mut Dice, wall: i64) -> u32 {
    let minute = wall.rem_euclid(86_400) / 60 + 1440 - 90 + i64::try_from(dice.roll(180)).unwrap();
    u32::try_from(minute % 1440).unwrap()
}

/// Calls `look` with up to 3 transitions of each zone that has any. Returns the number of calls.
fn sampled(salt: u64, mut look: impl FnMut(&WallClock, Zone, i64, i64, &mut Dice)) -> usize {
    let mut seen = 0;
    for (seed, zone) in Zone::all().enumerate() {
        let mut dice = Dice::new(seed as u64 + salt);
        let clock = WallClock::new(zone);
        let sets: Vec<_> = clock.sets.iter().filter(|set| YEARS.contains(&set.at)).copied().collect();
        for _ in 0..3.min(sets.len()) {
            let set = dice.pick(&sets);
            look(&clock, zone, set.at, set.at + set.before.max(set.after), &mut dice);
            seen += 1;
        }
    }
    seen
}

const DAY: i64 = 86_400;

#[test]
fn calendar_intervals_over_transitions_of_all_zones() {
    let mut firings = 0;
    let seen = sampled(11, |clock, zone, at, wall, dice| {
        let begun = at - 40 * DAY + i64::try_from(dice.roll(40)).unwrap() * DAY;
        let calendars: Vec<_> = (0..6)
            .map(|_| {
                let minute = near(dice, wall);
                Calendar::any(dice, naive(begun).date(), minute)
            })
            .collect();
        let plans: Vec<_> = calendars.iter().map(|one| one.plan()).collect();
        let both: Vec<_> = plans.iter().zip(calendars.iter().map(|one| one.trigger(zone))).collect();
        firings += clock.compare(&both, at - 50 * DAY..at + 50 * DAY);
    });
    println!("{seen} transitions, {firings} firings");
    assert!(seen > 1_000 && firings > 30_000);
}

#[test]
fn calendar_intervals_of_months_over_80_years() {
    let zone: Zone = "America/New_York".parse().unwrap();
    let (clock, mut dice) = (WallClock::new(zone), Dice::new(17));
    for day in 25..=31 {
        let first = NaiveDate::from_ymd_opt(1970, 1, day).unwrap();
        let calendars: Vec<_> = (0..6).map(|_| Calendar::any(&mut dice, first, 150)).collect();
        let plans: Vec<_> = calendars.iter().map(|one| one.plan()).collect();
        let both: Vec<_> = plans.iter().zip(calendars.iter().map(|one| one.trigger(zone))).collect();
        assert!(clock.compare(&both, YEARS) > 400, "{calendars:?}");
    }
}

#[test]
fn all_of_over_transitions_of_all_zones() {
    let (mut firings, mut never) = (0, 0);
    let seen = sampled(13, |clock, zone, at, wall, dice| {
        let minute = near(dice, wall);
        let hour = minute / 60;
        let lines = [
            format!("*/{} * * * *", 1 + dice.roll(20)),
            format!("{}-59 * * * {}-6", dice.roll(30), dice.roll(6)),
            format!("* {hour},{} * * *", (hour + 1) % 24),
            format!("* */{} {}-31 * *", 1 + dice.roll(3), 1 + dice.roll(20)),
            "* * * * *".to_owned(),
        ];
        let (one, other) = (dice.pick(&lines).clone(), dice.pick(&lines).clone());
        let calendar = Calendar::any(dice, naive(at - 20 * DAY).date(), minute);
        let cases: [(Vec<Plan>, Vec<Trigger>); 2] = [
            (vec![plan(&one), plan(&other)], vec![cron(&one, zone), cron(&other, zone)]),
            (vec![plan(&one), calendar.plan()], vec![cron(&one, zone), calendar.trigger(zone)]),
        ];
        for (plans, parts) in cases {
            match Trigger::all_of(parts) {
                Ok(trigger) => {
                    firings += clock.compare(&[(&Plan::all(plans), trigger)], at - 12 * 3600..at + 12 * 3600)
                }
                Err(_) => never += 1,
            }
        }
    });
    println!("{seen} transitions, {firings} firings, {never} that have no time in common");
    assert!(seen > 1_000 && firings > 30_000 && never < seen);
}

fn plan(line: &str) -> Plan {
    Line::new(line).plan()
}

fn cron(line: &str, zone: Zone) -> Trigger {
    Trigger::cron(line, zone).unwrap()
}
