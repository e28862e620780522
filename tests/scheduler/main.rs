//! Schedules, on a board whose time passes by hand.

#![allow(clippy::print_stdout, reason = "each test says what it did")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(all(unix, feature = "sqlite"))]
#[path = "../support/node.rs"]
mod node;
mod operations;
mod policies;
#[cfg(all(unix, feature = "sqlite"))]
mod processes;
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[path = "../support/servers.rs"]
mod servers;
#[cfg(feature = "sqlite")]
mod storage;
mod support;
mod time;
#[cfg(all(unix, feature = "sqlite"))]
#[path = "../support/waiting.rs"]
mod waiting;
