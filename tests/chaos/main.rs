//! Tests with real processes, real kills and full disks: every promise holds there too.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "each test says what it did")]

mod clocks;
mod corrupt;
mod crash_loop;
mod disk_full;
mod flood;
mod frozen;
mod kills;
mod migrations;
mod processes;
mod rescue;
mod support;
mod upkeep;
