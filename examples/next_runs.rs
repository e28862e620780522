//! Prints the next times of a cron expression, as a JSON array of UTC times.
//!
//! Run it with `cargo run --example next_runs -- EXPR [--tz ZONE] [--from T] [-n N]`: the next N times (default 5)
//! after T (RFC 3339; default now) on the clock of ZONE (an IANA name; default UTC). For example
//! `next_runs "0 9 * * 1-5" --tz America/New_York --from 2026-03-06T00:00:00Z -n 2` prints
//!
//! ```text
//! ["2026-03-06T14:00:00Z","2026-03-09T13:00:00Z"]
//! ```
//!
//! The error of an invalid expression goes to standard error, and the status is 2.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::process::ExitCode;

use callboard::{Clock, Timestamp, Trigger, Zone};
use chrono::{DateTime, SecondsFormat, Utc};
use lexopt::{Arg, Parser, ValueExt};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// More than a reader needs, and little enough for the machine's memory.
const MOST: usize = 1_000_000;

fn main() -> ExitCode {
    match next_runs() {
        Ok(times) => {
            println!("{times}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("next_runs: {error}");
            ExitCode::from(2)
        }
    }
}

fn next_runs() -> Result<String, Failure> {
    let (mut expression, mut zone, mut from, mut n) = (None, Zone::UTC, Clock::system().now(), 5);
    let mut arguments = Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("tz") => zone = arguments.value()?.parse_with(str::parse)?,
            Arg::Long("from") => from = arguments.value()?.parse_with(moment)?,
            Arg::Short('n') => n = arguments.value()?.parse()?,
            Arg::Value(value) if expression.is_none() => expression = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let expression = expression.ok_or("give a cron expression in quotes, such as \"0 9 * * 1-5\"")?;
    let times = Trigger::cron(&expression, zone)?.preview(from, n.min(MOST));
    Ok(serde_json::to_string(&times.into_iter().map(show).collect::<Vec<_>>())?)
}

fn moment(text: &str) -> Result<Timestamp, Failure> {
    let time = text.parse::<DateTime<Utc>>();
    Ok(time.map_err(|error| format!("{error}; write a time as 2026-03-06T00:00:00Z"))?.into())
}

fn show(time: Timestamp) -> String {
    time.to_datetime().to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
