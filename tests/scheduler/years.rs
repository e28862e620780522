//! Years on a clock that the test moves: the firings of each day over all clock changes of the zones, with outages in
//! between.

use std::time::Duration;

use callboard::testing::{TestBoard, at};
use callboard::{Coalesce, Firing, FiringStatus, Overlap, Schedule, Timestamp};
use chrono::{NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::support::{DAY, HOUR, builder, cron, history, moment, schedule, start};

/// The days of the simulation, and a few more.
const DAYS: usize = 1_200;

/// The moment of each day at which a clock of `zone` shows `time`. If the clock shows it twice, it is the first moment.
/// If the clock skips it, it is the moment right after the gap.
fn days(zone: Tz, time: NaiveTime) -> Vec<Timestamp> {
    let first = NaiveDate::from_ymd_opt(2025, 12, 31).unwrap();
    let minute = chrono::TimeDelta::minutes(1);
    let shown = |date: NaiveDate| {
        let walls = std::iter::successors(Some(date.and_time(time)), |wall| Some(*wall + minute));
        walls.map(|wall| zone.from_local_datetime(&wall).earliest()).find_map(|moment| moment).unwrap()
    };
    let moments = first.iter_days().take(DAYS).map(|date| Timestamp::from(shown(date).with_timezone(&Utc)));
    moments.filter(|moment| *moment > at(0)).collect()
}

/// Selects the times that make a task from all times that became due in an outage. The second argument is the end of
/// the outage.
type Rule = fn(&[Timestamp], Timestamp) -> Vec<Timestamp>;

struct Case {
    name: &'static str,
    line: &'static str,
    zone: &'static str,
    policy: fn(Schedule) -> Schedule,
    after_an_outage: Rule,
}

const GRACE: Duration = Duration::from_secs(36 * 3_600);

const CASES: [Case; 5] = [
    Case {
        name: "latest",
        line: "30 1 * * *",
        zone: "America/New_York",
        policy: |schedule| schedule,
        after_an_outage: |due, _| due.iter().rev().take(1).copied().collect(),
    },
    Case {
        name: "earliest",
        line: "30 2 * * *",
        zone: "Europe/Berlin",
        policy: |schedule| schedule.coalesce(Coalesce::Earliest),
        after_an_outage: |due, _| due.iter().take(1).copied().collect(),
    },
    Case {
        name: "all",
        line: "15 2 * * *",
        zone: "Australia/Lord_Howe",
        policy: |schedule| schedule.coalesce(Coalesce::All(100)).overlap(Overlap::Allow),
        after_an_outage: |due, _| due.to_vec(),
    },
    Case {
        name: "none",
        line: "0 0 * * *",
        zone: "Africa/Cairo",
        policy: |schedule| schedule.coalesce(Coalesce::None),
        // An outage may end exactly at a time that is due, so that this time fires.
        after_an_outage: |due, now| due.iter().copied().filter(|time| now == *time).collect(),
    },
    Case {
        name: "grace",
        line: "30 2 * * *",
        zone: "America/New_York",
        policy: |schedule| schedule.misfire_grace(GRACE).coalesce(Coalesce::All(100)).overlap(Overlap::Allow),
        after_an_outage: |due, now| due.iter().copied().filter(|time| now.since(*time) <= GRACE).collect(),
    },
];

/// The times that a case must have fired by `now`. Each outage is given by its first and its last moment.
fn expected(case: &Case, outages: &[(Timestamp, Timestamp)], now: Timestamp) -> Vec<Timestamp> {
    let mut fields = case.line.split(' ').map(|field| field.parse().unwrap_or(0));
    let (minute, hour) = (fields.next().unwrap(), fields.next().unwrap());
    let all = days(case.zone.parse().unwrap(), NaiveTime::from_hms_opt(hour, minute, 0).unwrap());
    let in_outage = |time: &Timestamp| outages.iter().any(|(from, to)| time > from && time <= to);
    let mut fired: Vec<_> = all.iter().copied().filter(|time| *time <= now && !in_outage(time)).collect();
    for (from, to) in outages {
        let due: Vec<_> = all.iter().copied().filter(|time| time > from && time <= to).collect();
        fired.extend((case.after_an_outage)(&due, *to));
    }
    fired.sort_unstable();
    fired
}

#[actix_rt::test]
async fn three_years_in_four_zones_with_an_outage_now_and_then() {
    let describe = |case: &Case| (case.policy)(schedule(case.name, cron(case.line, case.zone)).keep_firings(10_000));
    let board = start(CASES.iter().fold(builder(), |builder, case| builder.schedule(describe(case)))).await;
    let mut outages = Vec::new();
    for _ in 0..13 {
        board.advance(80 * DAY).await;
        let from = board.clock().now();
        board.jump(4 * DAY + 7 * HOUR).await;
        board.settle().await;
        outages.push((from, board.clock().now()));
    }
    let now = board.clock().now();
    for case in &CASES {
        let firings = history(&board, case.name).await;
        assert_eq!(fired(&firings), expected(case, &outages, now), "{}", case.name);
        let on_time = |firing: &Firing| outages.iter().any(|(_, to)| *to == firing.at) || firing.lateness().is_zero();
        assert!(firings.iter().all(on_time), "{}", case.name);
    }
    the_hours_that_are_skipped_and_repeated(&board).await;
}

fn fired(firings: &[Firing]) -> Vec<Timestamp> {
    let fired = firings.iter().filter(|firing| firing.status == FiringStatus::Fired);
    fired.map(|firing| firing.nominal_at).collect()
}

/// Checks some days of the simulation against times that are written out.
async fn the_hours_that_are_skipped_and_repeated(board: &TestBoard) {
    for (name, day, times) in [
        // Clocks in New York show 01:30 twice, at 05:30 and 06:30 UTC.
        ("latest", "2026-11-01", &["2026-11-01T05:30:00Z"][..]),
        ("latest", "2026-11-02", &["2026-11-02T06:30:00Z"]),
        // The clocks skip 02:30, so the run comes right after the gap.
        ("grace", "2026-03-08", &["2026-03-08T07:00:00Z"]),
        ("earliest", "2026-03-29", &["2026-03-29T01:00:00Z"]),
        ("earliest", "2026-10-25", &["2026-10-25T00:30:00Z"]),
    ] {
        let midnight = moment(&format!("{day}T00:00:00Z"));
        let firings = history(board, name).await;
        let on_day = firings.iter().filter(|firing| (midnight..midnight + DAY).contains(&firing.nominal_at));
        let found: Vec<_> = on_day.map(|firing| firing.nominal_at).collect();
        assert_eq!(found, times.iter().map(|time| moment(time)).collect::<Vec<_>>(), "{name} on {day}");
    }
}
