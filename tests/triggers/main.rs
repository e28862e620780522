//! Triggers through the public interface: tables of known times, refusals, storage, and comparisons with two other
//! evaluators.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod brute;
mod brute_kinds;
mod kinds;
mod line;
mod named;
mod oracle;
mod refusals;
mod seeds;
mod storage;
mod summer_time;
mod transitions;
mod walker;
mod words;

use callboard::{Timestamp, Trigger, Zone};
use chrono::{DateTime, Utc};

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn cron(expression: &str, zone_name: &str) -> Trigger {
    Trigger::cron(expression, zone(zone_name)).unwrap()
}

/// Parses a moment such as `2026-03-06T14:00:00Z`. The seconds, or the whole time of day, may be left out.
fn moment(text: &str) -> Timestamp {
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        17 => text.replace('Z', ":00Z"),
        _ => text.to_owned(),
    };
    full.parse::<DateTime<Utc>>().unwrap().into()
}

/// Formats a moment as `2026-03-06T14:00Z`, with seconds only when they are not 0.
fn show(moment: Timestamp) -> String {
    let time = moment.to_datetime();
    let form = if moment.as_micros() % 60_000_000 == 0 { "%Y-%m-%dT%H:%MZ" } else { "%Y-%m-%dT%H:%M:%S%.fZ" };
    time.format(form).to_string()
}

/// Asserts that the next times after `from` are `times`.
#[track_caller]
fn expect(trigger: &Trigger, from: &str, times: &[&str]) {
    let found: Vec<_> = trigger.preview(moment(from), times.len()).into_iter().map(show).collect();
    assert_eq!(found, times, "{} in {:?} from {from}", trigger.to_text().expr, trigger.zone());
}
