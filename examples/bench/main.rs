//! Measures callboard on this machine and prints a line of JSON for each scenario.
//!
//! ```text
//! cargo run --release --example bench -- SCENARIO [--url URL] [--tasks N] [--producers N] [--concurrency N]
//!                                              [--payload BYTES] [--waiting N] [--scheduled N] [--schedules N]
//!                                              [--seconds N] [--writers N] [--group N] [--nodes N] [--keys N]
//! ```
//! Scenarios: `push` (single pushes, by one producer or more), `bulk` (1,000 at a time), `flow` (push, run a no-op,
//! complete; history kept), `drain` (workers empty a full queue), `latency` (push to start on an idle queue), `load`
//! (the same at half load), `claim` (claims beside waiting tasks), `look` (the periodic checks of a node, beside
//! waiting and scheduled tasks), `idle` (CPU and memory of a board at rest), `disk` (forced writes to the disk under a
//! database), `hotkeys` (`--nodes` boards whose producers push the same `--keys` unique keys), `hops` (the cost of
//! waking two threads), `schedules` (the cost of `--tasks` schedules: loading, CPU and delay of firings, evenly spread
//! or with `--group 2` all at once). The line of a run contains all its numbers and its settings.

#![allow(clippy::print_stdout, reason = "a program that prints its result")]

mod keys;
mod machine;
mod options;
mod scenarios;
mod schedules;

use options::Options;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    let measured = actix_rt::System::new().block_on(scenarios::run(&options))?;
    let line = json!({
        "scenario": options.scenario,
        "backend": options.backend_name(),
        "durability": match options.backend_name() {
            "memory" => "none",
            "sqlite" => "synchronous=FULL",
            _ => "the server's default",
        },
        "settings": options.to_json(),
        "measured": measured,
        "machine": machine::describe(),
    });
    println!("{line}");
    Ok(())
}
