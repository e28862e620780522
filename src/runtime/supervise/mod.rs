//! Supervision: who watches the actors, and what happens when one dies.

pub(crate) mod guardian;
mod life;
mod parts;
mod threads;

pub(crate) use crate::actor::Line;
pub(crate) use guardian::{Guardian, start_part};
pub use life::Part;
#[cfg(feature = "testing")]
pub(crate) use life::{Crash, crash_on_request};
pub(crate) use life::{Life, Pulse, RollCall};
pub(crate) use parts::Parts;
pub(crate) use threads::{Threads, beat, follow_storage};
