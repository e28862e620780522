//! Supervision: watches the actors, and restarts an actor that dies.

pub(crate) mod guardian;
mod parts;
mod threads;

pub(crate) use guardian::{Guardian, start_part};
pub(crate) use parts::Parts;
pub(crate) use threads::{Threads, beat, follow_storage};
