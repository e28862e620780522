//! Schedules on a board whose clock is moved by the test.

#![allow(clippy::print_stdout, reason = "each test says what it did")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod edited;
#[cfg(feature = "sqlite")]
mod everywhere;
#[cfg(all(unix, feature = "sqlite"))]
#[path = "../support/firings.rs"]
mod firings;
#[cfg(feature = "sqlite")]
mod gaps;
#[cfg(all(unix, feature = "sqlite"))]
#[path = "../support/node.rs"]
mod node;
mod operations;
mod policies;
#[cfg(all(unix, feature = "sqlite"))]
mod processes;
#[cfg(all(unix, feature = "sqlite"))]
mod seen;
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[path = "../support/servers.rs"]
mod servers;
mod side_by_side;
#[cfg(feature = "sqlite")]
mod storage;
mod support;
mod time;
#[cfg(feature = "sqlite")]
#[path = "../support/waiting.rs"]
mod waiting;
mod years;
