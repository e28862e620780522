//! General helpers for actors: an address that outlasts a restart, and signs of life.

mod address;
mod pulse;

pub(crate) use address::{Line, Silent};
pub use pulse::Part;
#[cfg(feature = "testing")]
pub(crate) use pulse::{Crash, crash_on_request};
pub(crate) use pulse::{Life, Presence, Pulse, RollCall};
