//! The kinds of triggers other than cron, and also bounds, jitter and combinations.

use std::time::Duration;

use callboard::{CalendarUnit, ShortMonth};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::*;

fn calendar(every: u32, unit: CalendarUnit, first: &str, time: &str, zone_name: &str) -> Trigger {
    let (first, time): (NaiveDate, NaiveTime) = (first.parse().unwrap(), time.parse().unwrap());
    Trigger::calendar(every, unit, first, time, zone(zone_name)).unwrap()
}

#[test]
fn intervals_count_from_their_anchor() {
    let trigger = Trigger::interval("2h30m").unwrap().anchored_at(moment("2026-03-06T14:00Z")).unwrap();
    expect(&trigger, "2026-01-01", &["2026-03-06T14:00Z", "2026-03-06T16:30Z"]);
    expect(&trigger, "2026-03-07T00:00Z", &["2026-03-07T02:30Z"]);
    assert_eq!(trigger, Trigger::interval("every 2h30m from 2026-03-06T14:00:00Z").unwrap());
    // Without an anchor, intervals count from their start. Without a start too, they count from 1970.
    let started = Trigger::every(Duration::from_secs(90)).unwrap().start_at(moment("2026-03-06T14:00:07Z")).unwrap();
    expect(&started, "2026-01-01", &["2026-03-06T14:00:07Z", "2026-03-06T14:01:37Z"]);
    expect(&Trigger::interval("1w").unwrap(), "2026-03-06T10:00Z", &["2026-03-12T00:00Z", "2026-03-19T00:00Z"]);
}

#[test]
fn calendar_intervals_keep_the_wall_time() {
    use CalendarUnit::{Day, Month, Week};
    let days = calendar(3, Day, "2026-03-27", "02:30:00", "Europe/Berlin");
    // From the second time on the offset differs, because the clocks are set ahead on 29 March.
    expect(&days, "2026-01-01", &["2026-03-27T01:30Z", "2026-03-30T00:30Z", "2026-04-02T00:30Z"]);
    let weeks = calendar(2, Week, "2026-03-06", "09:00:00", "America/New_York");
    expect(&weeks, "2026-03-06", &["2026-03-06T14:00Z", "2026-03-20T13:00Z", "2026-04-03T13:00Z"]);
    let skipping = calendar(1, Month, "2026-01-31", "12:00:00", "UTC");
    expect(&skipping, "2026-01-01", &["2026-01-31T12:00Z", "2026-03-31T12:00Z", "2026-05-31T12:00Z"]);
    let last = skipping.short_months(ShortMonth::LastDay).unwrap();
    expect(
        &last,
        "2026-01-01",
        &["2026-01-31T12:00Z", "2026-02-28T12:00Z", "2026-03-31T12:00Z", "2026-04-30T12:00Z"],
    );
    let yearly = calendar(12, Month, "2024-02-29", "00:00:00", "UTC");
    expect(&yearly, "2024-03-01", &["2028-02-29T00:00Z", "2032-02-29T00:00Z"]);
    // The questions lie long before the first time, and long after it.
    expect(&last, "0001-01-01", &["2026-01-31T12:00Z"]);
    expect(&last, "9999-12-01", &["9999-12-31T12:00Z"]);
    assert_eq!(last.next_after(moment("9999-12-31T12:00Z")), None);
}

#[test]
fn a_calendar_run_in_the_skipped_hour_runs_right_after_it() {
    let daily = calendar(1, CalendarUnit::Day, "2026-03-01", "02:30:00", "Europe/Berlin");
    expect(&daily, "2026-03-28T12:00Z", &["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
    expect(&daily, "2026-10-24T12:00Z", &["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
}

#[test]
fn dates_fire_once() {
    let date = Trigger::at(moment("2026-03-06T14:00Z")).unwrap();
    expect(&date, "2026-01-01", &["2026-03-06T14:00Z"]);
    assert_eq!(date.next_after(moment("2026-03-06T14:00Z")), None);
    for (wall, expected) in [
        ("2026-03-06T09:00:00", "2026-03-06T14:00Z"),
        ("2026-03-08T02:30:00", "2026-03-08T07:00Z"),
        ("2026-11-01T01:30:00", "2026-11-01T05:30Z"),
        ("2026-03-06T09:00:00.25", "2026-03-06T14:00:00.250Z"),
    ] {
        let wall: NaiveDateTime = wall.parse().unwrap();
        let local = Trigger::at_local(wall, zone("America/New_York")).unwrap();
        assert_eq!(local.preview(moment("2026-01-01"), 2).into_iter().map(show).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn any_of_fires_with_each_part_once() {
    let parts =
        vec![cron("0 9 * * *", "UTC"), cron("0 */9 * * *", "UTC"), Trigger::at(moment("2026-03-06T10:00Z")).unwrap()];
    let any = Trigger::any_of(parts).unwrap();
    expect(
        &any,
        "2026-03-06T00:00Z",
        &["2026-03-06T09:00Z", "2026-03-06T10:00Z", "2026-03-06T18:00Z", "2026-03-07T00:00Z"],
    );
    let bounded = cron("0 9 * * *", "UTC").end_at(moment("2026-03-06T09:00Z")).unwrap();
    let any = Trigger::any_of(vec![bounded, cron("0 12 * * *", "Asia/Tokyo")]).unwrap();
    expect(
        &any,
        "2026-03-06T00:00Z",
        &["2026-03-06T03:00Z", "2026-03-06T09:00Z", "2026-03-07T03:00Z", "2026-03-08T03:00Z"],
    );
    assert_eq!(any.zone(), None);
}

#[test]
fn all_of_fires_when_the_clock_matches_all() {
    let fortnightly = calendar(2, CalendarUnit::Week, "2026-03-06", "09:00:00", "Europe/Berlin");
    let first_week = cron("* * 1-7 * *", "Europe/Berlin");
    let all = Trigger::all_of(vec![fortnightly, first_week]).unwrap();
    expect(&all, "2026-01-01", &["2026-03-06T08:00Z", "2026-04-03T07:00Z", "2026-05-01T07:00Z"]);
    // A single fixed part makes the whole trigger fixed, so it fires once in the repeated hour.
    let all = Trigger::all_of(vec![cron("* * * * 7", "Europe/Berlin"), cron("30 2 * * *", "Europe/Berlin")]).unwrap();
    expect(&all, "2026-10-24T12:00Z", &["2026-10-25T00:30Z", "2026-11-01T01:30Z"]);
    let all =
        Trigger::all_of(vec![cron("* * * * 7", "Europe/Berlin"), cron("*/30 2 * * *", "Europe/Berlin")]).unwrap();
    expect(&all, "2026-10-25T00:30Z", &["2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-11-01T01:00Z"]);
}

#[test]
fn bounds_are_inclusive() {
    let (start, end) = (moment("2026-03-06T09:00Z"), moment("2026-03-08T09:00Z"));
    let trigger = cron("0 9 * * *", "UTC").start_at(start).unwrap().end_at(end).unwrap();
    assert_eq!(
        trigger.preview(moment("1999-01-01"), 9).into_iter().map(show).collect::<Vec<_>>(),
        ["2026-03-06T09:00Z", "2026-03-07T09:00Z", "2026-03-08T09:00Z"]
    );
}

#[test]
fn jitter_moves_the_run_and_not_the_nominal_time() {
    let plain = cron("@hourly", "UTC");
    let spread = plain.clone().jitter(Duration::from_secs(60)).unwrap();
    let from = moment("2026-03-06");
    assert_eq!(plain.preview(from, 50), spread.preview(from, 50));
    let lateness = |name: &str| -> Vec<Duration> {
        spread.preview(from, 50).into_iter().map(|time| spread.runs_at(name, time).since(time)).collect()
    };
    assert!(lateness("a").iter().all(|late| *late <= Duration::from_secs(60)));
    assert_eq!(lateness("a"), lateness("a"));
    assert_ne!(lateness("a"), lateness("b"));
    assert!(lateness("a").iter().any(|late| *late < Duration::from_secs(20)));
    assert!(lateness("a").iter().any(|late| *late > Duration::from_secs(40)));
    assert_eq!(plain.runs_at("a", from), from);
}
