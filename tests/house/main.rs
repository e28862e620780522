//! Checks of the project as a whole: its floors, and the licences of its dependencies.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod floors;
mod licences;
mod source;
