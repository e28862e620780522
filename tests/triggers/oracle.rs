//! Comparison with `croner`, where both evaluators mean the same. They differ on purpose in these points:
//!
//! - For croner a day field with `*/2` is restricted. For cron(8), and here, it is unrestricted. When both day fields
//!   differ from a plain `*`, croner takes a match of either field, and we require both. So day fields here have no
//!   steps from `*`.
//! - Croner calls a run fixed when seconds, minute and hour have a single value each. Here, as in Debian's cron, a run
//!   is fixed unless minute or hour begins with `*`. So lists and ranges are compared only away from transitions.
//! - For a fixed run in a skipped hour, croner requires that the day after the change matches as well. It gives up on
//!   changes of more than two hours. So days are `*` near a change, and greater changes are left to `brute`.
//! - Croner reads `15W,L` as `15W,LW`. So no line here has both.

use callboard::{Timestamp, Trigger, Zone};
use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds};

use crate::transitions::{Dice, YEARS, transitions, tz};

/// Compares the next `n` times of both evaluators, from `instant` on.
fn compare(line: &str, zone: Zone, instant: i64, n: usize) {
    let pattern = CronParser::builder().seconds(Seconds::Optional).build().parse(line).unwrap();
    let trigger = Trigger::cron(line, zone).unwrap();
    let mut now = DateTime::from_timestamp(instant, 0).unwrap();
    for _ in 0..n {
        let expected =
            pattern.find_next_occurrence(&now.with_timezone(&tz(zone)), false).unwrap().with_timezone(&Utc);
        let found = trigger.next_after(Timestamp::from(now)).map(Timestamp::to_datetime);
        assert_eq!(found, Some(expected), "{line} in {zone} after {now}");
        now = expected;
    }
}

fn field(dice: &mut Dice, least: u64, most: u64) -> String {
    let value = |dice: &mut Dice| least + dice.roll(most - least + 1);
    match dice.roll(6) {
        0 => format!("*/{}", 1 + dice.roll(most)),
        1 => "*".to_owned(),
        2 => format!("{},{},{}", value(dice), value(dice), value(dice)),
        3 => {
            let from = value(dice);
            format!("{from}-{}/{}", from + dice.roll(most - from + 1), 1 + dice.roll(most / 2))
        }
        _ => value(dice).to_string(),
    }
}

fn days(dice: &mut Dice) -> String {
    let (day, weekday) = (1 + dice.roll(28), dice.roll(8));
    let list = [
        format!("* {{}} {weekday}"),
        format!("{day} {{}} *"),
        format!("{day} {{}} {weekday}"),
        format!("{day},{}-31 {{}} {weekday}-7", 1 + dice.roll(31)),
        format!("1-28/{day} {{}} MON-FRI/2"),
        "L {} *".to_owned(),
        format!("{day}W {{}} *"),
        "LW {} *".to_owned(),
        format!("* {{}} {weekday}L"),
        format!("* {{}} {weekday}#{}", 1 + dice.roll(4)),
        format!("{day}W {{}} {weekday}#{}", 1 + dice.roll(5)),
        "* {} *".to_owned(),
    ];
    let month = match dice.roll(4) {
        0 => field(dice, 1, 12),
        1 => "JAN-MAR,oct".to_owned(),
        _ => "*".to_owned(),
    };
    dice.pick(&list).replace("{}", &month)
}

#[test]
fn any_line_where_no_clock_is_set() {
    // A zone whose clock has not been set for a long time cannot show a difference.
    let mut compared = 0;
    for (seed, zone) in Zone::all().enumerate() {
        let mut dice = Dice::new(seed as u64 + 5);
        for _ in 0..8 {
            let seconds = if dice.roll(3) == 0 { field(&mut dice, 0, 59) + " " } else { String::new() };
            let line =
                format!("{seconds}{} {} {}", field(&mut dice, 0, 59), field(&mut dice, 0, 23), days(&mut dice));
            let utc = i64::try_from(dice.roll(YEARS.end as u64)).unwrap();
            compare(&line, Zone::UTC, utc, 3);
            compared += 1;
        }
        // In the zone itself, only times of the day that no transition touches are compared.
        let seconds = if dice.roll(2) == 0 { field(&mut dice, 0, 59) + " " } else { String::new() };
        let line = format!("{seconds}{} {} {}", dice.roll(60), 9 + dice.roll(10), days(&mut dice));
        if transitions(tz(zone), YEARS).iter().all(|transition| transition.jump().abs() <= 7200) {
            compare(&line, zone, i64::try_from(dice.roll(YEARS.end as u64)).unwrap(), 4);
            compared += 1;
        }
    }
    println!("{compared} lines");
}

#[test]
fn fixed_and_wildcard_lines_at_sampled_transitions() {
    let mut compared = 0;
    for (seed, zone) in Zone::all().enumerate() {
        let mut dice = Dice::new(seed as u64 + 3);
        let all: Vec<_> = transitions(tz(zone), YEARS).into_iter().filter(|one| one.jump().abs() <= 7200).collect();
        for _ in 0..6.min(all.len()) {
            let transition = dice.pick(&all);
            let wall = transition.at + transition.before.max(transition.after) - 1800;
            let hour = wall.rem_euclid(86_400) / 3600;
            let minute = dice.roll(60);
            let from = transition.at - i64::try_from(dice.roll(90_000)).unwrap();
            compare(&format!("{minute} {hour} * * *"), zone, from, 3);
            compare(&format!("*/{} * * * *", 7 + dice.roll(53)), zone, transition.at - 3 * 3600, 12);
            compare(&format!("{minute} */{} * * *", 1 + dice.roll(4)), zone, transition.at - 5 * 3600, 8);
            // Lines with seconds. A fixed run has a single second, because croner calls only such a run fixed.
            let second = dice.roll(60);
            compare(&format!("{second} {minute} {hour} * * *"), zone, from, 3);
            compare(
                &format!("*/{} */{} * * * *", 7 + dice.roll(53), 1 + dice.roll(59)),
                zone,
                transition.at - 3600,
                12,
            );
            compare(&format!("{second} {minute} */{} * * *", 1 + dice.roll(4)), zone, transition.at - 5 * 3600, 8);
            compared += 6;
        }
    }
    println!("{compared} lines");
}
