//! The wall time that a trigger names for a run, near the moments at which clocks are set.

use callboard::{CalendarUnit, Timestamp, Trigger, Zone};
use chrono::{Days, NaiveDateTime, NaiveTime, Timelike};

use crate::transitions::{Dice, Transition, YEARS, naive, offset, transitions, tz};
use crate::{cron, moment, zone};

/// A change of at least so many seconds is a correction: the times that it skips are left out.
const CORRECTION: i64 = 3 * 3600;

fn seconds(moment: Timestamp) -> i64 {
    moment.as_micros() / 1_000_000
}

/// The wall time that the clock shows at a moment.
fn shown(zone: Zone, moment: Timestamp) -> NaiveDateTime {
    naive(seconds(moment) + offset(tz(zone), seconds(moment)))
}

/// A minute of the day that the change affects, or in a fifth of all cases any minute.
fn minute_near(transition: &Transition, dice: &mut Dice) -> i64 {
    let (from, to) = (transition.at + transition.before, transition.at + transition.after);
    let span = (to - from).abs().max(60);
    let wall = from.min(to) + i64::try_from(dice.roll(span.unsigned_abs())).unwrap();
    let any = i64::try_from(dice.roll(1440)).unwrap();
    if dice.roll(5) == 0 { any } else { wall.rem_euclid(86_400) / 60 }
}

/// Asserts that a daily run names each date once, in order, and the same time on each date.
fn names_each_day(trigger: &Trigger, zone: Zone, minute: i64, transition: &Transition) {
    let from = Timestamp::from_micros((transition.at - 3 * 86_400) * 1_000_000);
    let runs = trigger.preview(from, 6);
    let first = trigger.local_time(runs[0]).date_naive();
    for (day, run) in (0..).zip(&runs) {
        let named = trigger.local_time(*run);
        let what = || format!("{} in {zone}: {run} is named {named}", trigger.to_text().expr);
        assert_eq!(named.date_naive(), first + Days::new(day), "{}", what());
        let time = named.time();
        assert_eq!(i64::from(time.hour() * 60 + time.minute()), minute, "{}", what());
        // The named time differs from the shown time only if the clock skips the named time.
        let left_out = seconds(*run) == transition.at && named.naive_local() != shown(zone, *run);
        assert!(left_out || named.naive_local() == shown(zone, *run), "{}", what());
        assert!(left_out || Timestamp::from(named.to_utc()) == *run, "{}", what());
    }
}

#[test]
fn daily_runs_name_each_date_once_whatever_clock_is_set() {
    let mut compared = 0;
    for (seed, zone) in Zone::all().enumerate() {
        let mut dice = Dice::new(seed as u64 + 11);
        let all = transitions(tz(zone), YEARS);
        let small: Vec<_> = all.iter().filter(|set| set.jump().abs() < CORRECTION && set.jump() % 60 == 0).collect();
        // Only changes that stand alone, because a second change within the compared days would affect the times too.
        let alone =
            |set: &&&Transition| all.iter().filter(|other| (other.at - set.at).abs() < 8 * 86_400).count() == 1;
        let small: Vec<_> = small.iter().filter(alone).collect();
        for _ in 0..10.min(small.len()) {
            let transition = **dice.pick(&small);
            let minute = minute_near(transition, &mut dice);
            let time = NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(minute * 60).unwrap(), 0).unwrap();
            let line = Trigger::cron(&format!("{} {} * * *", minute % 60, minute / 60), zone).unwrap();
            let begin = naive(transition.at).date() - Days::new(40);
            let calendar = Trigger::calendar(1, CalendarUnit::Day, begin, time, zone).unwrap();
            let both = Trigger::all_of(vec![line.clone(), calendar.clone()]).unwrap();
            let either = Trigger::any_of(vec![line.clone(), Trigger::interval("100w").unwrap()]).unwrap();
            for trigger in [&line, &calendar, &both] {
                names_each_day(trigger, zone, minute, transition);
                compared += 1;
            }
            // A part of a combination names its time as it would alone.
            let at = Timestamp::from_micros(transition.at * 1_000_000);
            let before = Timestamp::from_micros(transition.at * 1_000_000 - 1);
            if line.next_after(before) == Some(at) {
                assert_eq!(either.local_time(at), line.local_time(at));
            }
        }
    }
    println!("{compared} triggers");
    assert!(compared > 8_000, "{compared}");
}

#[test]
fn runs_by_real_time_are_named_as_the_clock_shows_them() {
    for (seed, zone) in Zone::all().enumerate() {
        let mut dice = Dice::new(seed as u64 + 13);
        let all = transitions(tz(zone), YEARS);
        for _ in 0..4.min(all.len()) {
            let transition = dice.pick(&all);
            let from = Timestamp::from_micros((transition.at - 7200) * 1_000_000);
            for line in [format!("*/{} * * * *", 7 + dice.roll(53)), format!("{} * * * *", dice.roll(60))] {
                let trigger = Trigger::cron(&line, zone).unwrap();
                for run in trigger.preview(from, 12) {
                    assert_eq!(trigger.local_time(run).naive_local(), shown(zone, run), "{line} in {zone}: {run}");
                }
            }
        }
    }
}

#[track_caller]
fn named(trigger: &Trigger, at: &str, expected: &str) {
    assert_eq!(trigger.local_time(moment(at)).to_rfc3339(), expected, "{}", trigger.to_text().expr);
}

#[test]
fn what_is_named_when_several_times_come_at_once() {
    // The clocks skip the last hour of 2026-03-28.
    let change = "2026-03-29T01:00Z";
    named(&cron("30 23 * * *", "America/Nuuk"), change, "2026-03-28T23:30:00-02:00");
    named(&cron("15,30 23 * * *", "America/Nuuk"), change, "2026-03-28T23:15:00-02:00");
    // A time that the clock shows takes precedence over a time that it skips.
    named(&cron("0 0,23 * * *", "America/Nuuk"), change, "2026-03-29T00:00:00-01:00");
    let midnight = || cron("0 0 * * *", "America/Nuuk");
    let late = || cron("30 23 * * *", "America/Nuuk");
    for parts in [vec![midnight(), late()], vec![late(), midnight()]] {
        named(&Trigger::any_of(parts).unwrap(), change, "2026-03-29T00:00:00-01:00");
    }
    named(&Trigger::any_of(vec![late()]).unwrap(), change, "2026-03-28T23:30:00-02:00");
    // A run that is asked for in between is named as the clock shows it.
    named(&late(), "2026-03-29T01:00:01Z", "2026-03-29T00:00:01-01:00");
    let asked = Timestamp::from_micros(moment(change).as_micros() + 7);
    assert_eq!(late().local_time(asked).to_rfc3339(), "2026-03-29T00:00:00.000007-01:00");
    // Dates are named as they were given.
    let wall = "2026-03-28T23:30:00".parse().unwrap();
    let date = Trigger::at_local(wall, zone("America/Nuuk")).unwrap();
    assert_eq!(date.next_after(moment("2026-03-01")), Some(moment(change)));
    named(&date, change, "2026-03-28T23:30:00-02:00");
    // The hour is repeated, and a fixed run belongs to its first pass.
    let twice = cron("30 2 * * *", "Europe/Berlin");
    named(&twice, "2026-10-25T00:30Z", "2026-10-25T02:30:00+02:00");
    named(&cron("30 * * * *", "Europe/Berlin"), "2026-10-25T01:30Z", "2026-10-25T02:30:00+01:00");
    // Without a zone, or with several zones, the time is named in UTC.
    named(&Trigger::interval("1h").unwrap(), change, "2026-03-29T01:00:00+00:00");
    let several = Trigger::any_of(vec![late(), cron("30 23 * * *", "Asia/Tokyo")]).unwrap();
    named(&several, change, "2026-03-29T01:00:00+00:00");
}
