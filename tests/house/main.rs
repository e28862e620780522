//! What holds for the project as a whole: its floors, and the licences of what it is built with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod floors;
mod licences;
mod source;
