//! A board runs on its own threads, under any runtime, and its stop always ends.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod place;
mod runtimes;
mod signals;
mod starts;
mod stops;

#[path = "../support/mod.rs"]
mod examples;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/waiting.rs"]
mod waiting;
