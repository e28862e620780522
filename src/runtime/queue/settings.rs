//! How queues are to be run and which limits hold, on the way from storage to the queue actor.

use std::sync::atomic::{AtomicU64, Ordering};

use actix::Message;

use crate::backend::{Limit, QueueSettings};

/// How queues are to be run and which limits hold, as a look at storage found it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Configure {
    pub(crate) settings: Vec<QueueSettings>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) look: Look,
}

/// A look at stored settings. One that began later has seen all that earlier ones have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Look(u64);

/// Numbers looks in the order in which they begin.
///
/// Upkeep and the board both look, and their findings overtake one another: without an order a round of upkeep that
/// looked just before a pause would undo it.
#[derive(Debug, Default)]
pub(crate) struct Looks(AtomicU64);

impl Looks {
    /// To be called before storage is asked.
    pub(crate) fn begin(&self) -> Look {
        Look(self.0.fetch_add(1, Ordering::AcqRel) + 1)
    }
}
