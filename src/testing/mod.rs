//! Test helpers: for programs that use callboard, and for backends.
//!
//! [`TestBoard`] is a board on memory with a clock that moves by hand. It is for the tests of a program that uses
//! callboard. [`conformance!`](crate::conformance) runs the suite that every backend passes. [`World`] is a small
//! test environment for a backend's own tests.
#![allow(clippy::panic, clippy::missing_panics_doc, reason = "what helps a test fails it by a panic")]

mod board;
pub mod conformance;
mod crash;
mod factory;
mod faulty;
mod flood;
mod skew;

pub use board::TestBoard;
pub use conformance::Harness;
pub use crash::crash;
pub use factory::{World, at, schedule};
pub use faulty::{Fault, Faulty};
pub use flood::flood;
pub use skew::skewed;
