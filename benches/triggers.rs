//! The cost of finding the next time of a trigger, and of parsing a trigger from its text.
//!
//! `cargo bench --bench triggers` prints a line of JSON for each expression.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::hint::black_box;
use std::time::Instant;

use callboard::{Timestamp, Trigger, TriggerText};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const ROUNDS: u32 = 20_000;

fn main() -> Outcome<()> {
    let cron = ["*/15 * * * *", "0 9 * * 1-5", "0 0 1 * *", "30 2 15W * 5#2", "*/10 * * * * *", "0 0 29 2 */7"];
    let others = [
        ("interval", "every 90s"),
        ("calendar", "every 2 weeks at 09:00 from 2026-03-06"),
        ("all_of", r#"[{"kind":"cron","expr":"0 9 * * 5"},{"kind":"cron","expr":"0 9 13 * *"}]"#),
        ("any_of", r#"[{"kind":"cron","expr":"0 9 * * 5"},{"kind":"cron","expr":"0 9 13 * *"}]"#),
    ];
    for (kind, expr) in cron.map(|expr| ("cron", expr)).into_iter().chain(others) {
        let text = TriggerText { kind: kind.to_owned(), expr: expr.to_owned(), zone: "America/New_York".to_owned() };
        let trigger = Trigger::from_text(&text)?;
        let next = timed(|round| {
            // Moments spread over the years 2000 to 2040.
            let moment = Timestamp::from_micros(946_684_800_000_000 + i64::from(round) * 63_113_851_000);
            black_box(trigger.next_after(black_box(moment)));
        });
        let read = timed(|_| drop(black_box(Trigger::from_text(black_box(&text)))));
        println!("{}", serde_json::json!({ "kind": kind, "expr": expr, "next_ns": next, "read_ns": read }));
    }
    Ok(())
}

/// Nanoseconds per round.
fn timed(mut work: impl FnMut(u32)) -> u64 {
    let begin = Instant::now();
    (0..ROUNDS).for_each(&mut work);
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX) / u64::from(ROUNDS)
}
