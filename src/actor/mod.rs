//! General helpers for actors: a restartable address, and signs of life.

mod address;
mod liveness;

pub(crate) use address::{NoAnswer, RestartableAddr};
pub use liveness::Part;
#[cfg(feature = "testing")]
pub(crate) use liveness::{Crash, crash_on_request};
pub(crate) use liveness::{Liveness, Ping, Presence, Supervised};
