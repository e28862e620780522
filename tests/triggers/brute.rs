//! An evaluator that shares nothing with the library but the time zones of `chrono-tz`: it walks through real time
//! minute by minute, looks at the wall clock, and keeps Debian's rule as its cron(8) tells it.
//!
//! The clock is set ahead by less than 3 hours: fixed runs of the minutes in between come at once. Set back by less
//! than 3 hours: fixed runs wait until the clock shows what it has not shown before. By more: the clock was
//! corrected, and counts as it is. Runs with `*` in minute or hour always go by the clock as it is.

use crate::line::Line;
use crate::transitions::{Dice, Transition, YEARS, bisect, naive, offset, transitions, tz};
use callboard::{Timestamp, Trigger, Zone};

const DAY: i64 = 86_400;

/// One line on its way through time.
struct Walker {
    line: Line,
    /// The first wall minute that was not shown yet; fixed runs wait for it.
    fresh: i64,
    today: (i64, bool),
    firings: Vec<i64>,
}

impl Walker {
    fn new(text: &str, wall: i64) -> Self {
        Self { line: Line::new(text), fresh: wall, today: (i64::MIN, false), firings: Vec::new() }
    }

    fn matches(&mut self, wall: i64) -> bool {
        let (hour, minute) = (wall.rem_euclid(DAY) / 3600, wall.rem_euclid(3600) / 60);
        if !self.line.hours[hour as usize] || !self.line.minutes[minute as usize] {
            return false;
        }
        let day = wall.div_euclid(DAY);
        if self.today.0 != day {
            self.today = (day, self.line.on(naive(wall).date()));
        }
        self.today.1
    }

    /// The clock shows the full minute `wall` at `instant`.
    fn minute(&mut self, instant: i64, wall: i64) {
        if self.line.fixed && wall < self.fresh {
            return;
        }
        if self.matches(wall) && self.firings.last() != Some(&instant) {
            self.firings.push(instant);
        }
        self.fresh = self.fresh.max(wall + 60);
    }

    /// The clock is set at `at`.
    fn set(&mut self, at: i64, before: i64, after: i64) {
        let (from, to) = (at + before, at + after);
        if (to - from).abs() >= 3 * 3600 {
            self.fresh = to;
        } else if self.line.fixed && to > from {
            // Full minutes that the clock would have shown next, had it not been set.
            let mut skipped = (from + 59).div_euclid(60) * 60;
            while skipped < to {
                if skipped >= self.fresh && self.matches(skipped) && self.firings.last() != Some(&at) {
                    self.firings.push(at);
                }
                skipped += 60;
            }
            self.fresh = self.fresh.max(skipped);
        }
    }
}

/// What all lines do in `range`.
fn walk(zone: Zone, lines: &[&str], range: std::ops::Range<i64>) -> Vec<Vec<i64>> {
    let tz = tz(zone);
    let mut shift = offset(tz, range.start);
    let mut walkers: Vec<_> = lines.iter().map(|line| Walker::new(line, range.start + shift)).collect();
    // The next full minute of the wall clock.
    let aligned = |instant: i64, shift: i64| instant + (-(instant + shift)).rem_euclid(60);
    let mut now = aligned(range.start, shift);
    while now < range.end {
        walkers.iter_mut().for_each(|walker| walker.minute(now, now + shift));
        let next = offset(tz, now + 60);
        if next == shift {
            now += 60;
            continue;
        }
        let at = bisect(tz, now, now + 60);
        walkers.iter_mut().for_each(|walker| walker.set(at, shift, next));
        (now, shift) = (aligned(at, next), next);
    }
    walkers.into_iter().map(|walker| walker.firings).collect()
}

fn compare(zone: Zone, lines: &[&str], range: std::ops::Range<i64>) -> usize {
    let expected = walk(zone, lines, range.clone());
    for (line, expected) in lines.iter().zip(&expected) {
        let trigger = Trigger::cron(line, zone).unwrap();
        let mut now = Timestamp::from_micros(range.start * 1_000_000 - 1);
        let mut found = Vec::with_capacity(expected.len());
        while let Some(next) = trigger.next_after(now).filter(|next| next.as_micros() < range.end * 1_000_000) {
            assert!(next > now, "{line} in {zone}: {next} is not after {now}");
            found.push(next.as_micros() / 1_000_000);
            now = next;
        }
        if found != *expected {
            let differs = found.iter().zip(expected).position(|(one, other)| one != other);
            let at = differs.unwrap_or(found.len().min(expected.len()));
            let show = |times: &[i64]| {
                times.iter().skip(at.saturating_sub(1)).take(4).map(|time| naive(*time)).collect::<Vec<_>>()
            };
            panic!("{line} in {zone}: found {:?}, expected {:?}", show(&found), show(expected));
        }
    }
    expected.iter().map(Vec::len).sum()
}

/// Lines that have to do with the transition: around the hours that it skips or repeats.
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

fn around(zone: Zone, transition: &Transition, dice: &mut Dice) -> usize {
    let lines = lines_for(transition, dice);
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let begin = transition.at - 30 * 3600 - i64::try_from(dice.roll(7200)).unwrap();
    compare(zone, &lines, begin..transition.at + 30 * 3600)
}

#[test]
fn sampled_transitions_of_all_zones() {
    let (mut zones, mut compared, mut firings) = (0, 0, 0);
    for (seed, zone) in Zone::all().enumerate() {
        let mut dice = Dice::new(seed as u64 + 7);
        let all = transitions(tz(zone), YEARS);
        zones += 1;
        for _ in 0..8.min(all.len()) {
            firings += around(zone, dice.pick(&all), &mut dice);
            compared += 1;
        }
        // Changes of another kind than an hour are rare, and all looked at.
        for transition in all.iter().filter(|transition| transition.jump().abs() != 3600) {
            firings += around(zone, transition, &mut dice);
            compared += 1;
        }
    }
    println!("{zones} zones, {compared} transitions, {firings} firings");
    assert!(zones > 500 && compared > 3_000 && firings > 150_000);
}

/// Zones whose clocks have done about everything that clocks do.
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

#[test]
#[ignore = "minutes: every minute of 80 years in 20 zones, and every transition of all zones; run it with --release"]
fn twenty_zones_in_full_and_every_transition() {
    let lines = [
        "30 2 * * *",
        "0 0 * * *",
        "15 0,1,2,3 * * 0-5",
        "*/15 * * * *",
        "0 */2 * * *",
        "5-59/10 1-3 1,15,L * 0",
        "0 9 * * 1-5",
        "59 23 LW * *",
        "30 1 29 2 *",
        "45 2 */2 3,10 7",
        "10 4 15W * 5#2",
        "* 2 * * 0L",
    ];
    let mut firings = 0;
    for zone in TWENTY {
        firings += compare(zone.parse().unwrap(), &lines, YEARS);
        println!("{zone}: {firings} firings so far");
    }
    let mut compared = 0;
    for (seed, zone) in Zone::all().enumerate() {
        let mut dice = Dice::new(seed as u64 + 1_000_003);
        for transition in transitions(tz(zone), YEARS) {
            firings += around(zone, &transition, &mut dice);
            compared += 1;
        }
    }
    println!("{compared} transitions, {firings} firings");
}
