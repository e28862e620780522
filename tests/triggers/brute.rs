//! Compares cron lines with the evaluator in `walker.rs`.

use callboard::{Trigger, Zone};

use crate::line::Line;
use crate::transitions::{Dice, Transition, YEARS, naive};
use crate::walker::{Plan, WallClock};

fn plan(text: &str) -> Plan {
    Line::new(text).plan()
}

/// Lines that the transition affects. Their times are around the hours that it skips or repeats.
fn lines_for(transition: &Transition, dice: &mut Dice) -> Vec<String> {
    let hour = naive(transition.at + transition.before.max(transition.after) - 1800);
    let hour = chrono::Timelike::hour(&hour);
    let near = |dice: &mut Dice| (u64::from(hour) + 22 + dice.roll(5)) % 24;
    let minute = |dice: &mut Dice| dice.roll(60);
    let days = [
        "* * *",
        "* * *",
        "* * 1-6",
        "*/2 * 0",
        "1-15 * 6",
        "L * 0,6",
        "L-3 * *",
        "L-1,L-28 * 1#1",
        "* * 0L",
        "15W,LW * *",
        "* * 0#2,5#5",
        "1,31 */3 3-7/2",
    ];
    let days = |dice: &mut Dice| *dice.pick(&days);
    vec![
        format!("{} {} {}", minute(dice), near(dice), days(dice)),
        format!("{},{} {} {}", minute(dice), minute(dice), near(dice), days(dice)),
        format!("{}-59/7 {},{} {}", dice.roll(30), near(dice), near(dice), days(dice)),
        format!("*/{} {} {}", 1 + dice.roll(40), near(dice), days(dice)),
        format!("{} */{} {}", minute(dice), 1 + dice.roll(5), days(dice)),
        format!("{} 0-23 {}", minute(dice), days(dice)),
    ]
}

fn around(clock: &WallClock, zone: Zone, transition: &Transition, dice: &mut Dice) -> usize {
    let lines = lines_for(transition, dice);
    let plans: Vec<_> = lines.iter().map(|line| plan(line)).collect();
    let both: Vec<_> =
        plans.iter().zip(&lines).map(|(plan, line)| (plan, Trigger::cron(line, zone).unwrap())).collect();
    let begin = transition.at - 30 * 3600 - i64::try_from(dice.roll(7200)).unwrap();
    clock.compare(&both, begin..transition.at + 30 * 3600)
}

#[test]
fn sampled_transitions_of_all_zones() {
    let (mut zones, mut compared, mut firings) = (0, 0, 0);
    for (seed, zone) in Zone::all().enumerate() {
        let mut dice = Dice::new(seed as u64 + 7);
        let clock = WallClock::new(zone);
        let all: Vec<_> = clock.sets.iter().filter(|set| YEARS.contains(&set.at)).copied().collect();
        zones += 1;
        for _ in 0..8.min(all.len()) {
            firings += around(&clock, zone, dice.pick(&all), &mut dice);
            compared += 1;
        }
        // Changes of more or less than an hour are rare, so all of them are compared.
        for transition in all.iter().filter(|transition| transition.jump().abs() != 3600) {
            firings += around(&clock, zone, transition, &mut dice);
            compared += 1;
        }
    }
    println!("{zones} zones, {compared} transitions, {firings} firings");
    assert!(zones > 500 && compared > 3_000 && firings > 150_000);
}

#[test]
fn each_day_before_the_last_of_each_month() {
    let days = chrono::NaiveDate::from_ymd_opt(1999, 1, 1).unwrap().iter_days().take(366 * 9);
    let days: Vec<_> = days.collect();
    let from = chrono::NaiveDateTime::from(days[0]).and_utc() - chrono::Duration::seconds(1);
    for text in
        (0..=30).map(|before| format!("L-{before}")).chain(["L-1,L-2".into(), "L,L-9,15W".into(), "3,L-27".into()])
    {
        let line = if text == "L-0" { "0 0 L * *".to_owned() } else { format!("0 0 {text} * *") };
        let plan = Line::new(&line);
        let expected: Vec<_> = days.iter().filter(|day| plan.on(**day)).copied().collect();
        let trigger = Trigger::cron(&line, Zone::UTC).unwrap();
        let found = trigger.preview(from.into(), expected.len());
        let found: Vec<_> = found.into_iter().map(|time| time.to_datetime().date_naive()).collect();
        assert_eq!(found, expected, "{line}");
        assert!(expected.len() > 40, "{line}: {}", expected.len());
    }
}

/// Zones whose clocks have had about every kind of change.
const TWENTY: [&str; 20] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Moscow",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Caracas",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Africa/Monrovia",
    "Asia/Shanghai",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Antarctica/Casey",
    "Antarctica/Troll",
];

/// Lines that fire at most once a day. Each minute of 80 years is compared.
const SELDOM: [&str; 7] =
    ["30 2 * * *", "0 0 * * *", "0 9 * * 1-5", "59 23 LW * *", "30 1 29 2 *", "45 2 */2 3,10 7", "10 4 15W * 5#2"];

/// Lines that fire often. They are compared around all transitions, and on a single day of each half year.
const OFTEN: [&str; 5] =
    ["15 0,1,2,3 * * 0-5", "*/15 * * * *", "0 */2 * * *", "5-59/10 1-3 1,15,L * 0", "* 2 * * 0L"];

fn in_full(zones: &[&str]) {
    const DAY: i64 = 86_400;
    let (seldom, often) = (SELDOM.map(plan), OFTEN.map(plan));
    let mut firings = 0;
    for name in zones {
        let zone: Zone = name.parse().unwrap();
        let clock = WallClock::new(zone);
        let trigger = |line: &str| Trigger::cron(line, zone).unwrap();
        let rare: Vec<_> = seldom.iter().zip(SELDOM.map(trigger)).collect();
        firings += clock.compare(&rare, YEARS);
        let frequent: Vec<_> = often.iter().zip(OFTEN.map(trigger)).collect();
        for set in clock.sets.iter().filter(|set| YEARS.contains(&set.at)) {
            firings += clock.compare(&frequent, set.at - DAY / 3..set.at + DAY / 3);
        }
        // Only days away from clock changes. A walk that begins in a repeated hour does not know the first pass of that
        // hour.
        let is_calm = |begin: &i64| clock.sets.iter().all(|set| (set.at - begin).abs() > 2 * DAY);
        for begin in (0..160).map(|half| half * 15_778_476 + DAY).filter(is_calm) {
            firings += clock.compare(&frequent, begin..begin + DAY);
        }
    }
    assert!(firings > 400_000, "{zones:?}: only {firings} firings");
}

// Several tests, so that several processors share the work.
#[test]
fn five_zones_in_full() {
    in_full(&TWENTY[..5]);
}

#[test]
fn five_more_zones_in_full() {
    in_full(&TWENTY[5..10]);
}

#[test]
fn another_five_zones_in_full() {
    in_full(&TWENTY[10..15]);
}

#[test]
fn the_last_five_zones_in_full() {
    in_full(&TWENTY[15..]);
}
