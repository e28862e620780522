//! For tests: of programs that use callboard, and of backends.
//!
//! [`conformance!`](crate::conformance) runs the suite that every backend passes; [`World`] is a small stage for
//! a backend's own tests.
#![allow(clippy::panic, clippy::missing_panics_doc, reason = "what helps a test fails it by a panic")]

pub mod conformance;
mod crash;
mod factory;
mod faulty;

pub use conformance::Harness;
pub use crash::crash;
pub use factory::{World, at};
pub use faulty::{Fault, Faulty};
