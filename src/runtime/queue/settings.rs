//! Queue settings and limits, on their way from storage to the queue actor.

use std::sync::atomic::{AtomicU64, Ordering};

use actix::Message;

use crate::backend::{Limit, QueueSettings};

/// Queue settings and limits, as a look at storage found them.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Configure {
    pub(crate) settings: Vec<QueueSettings>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) look: Look,
}

/// A look at stored settings. A later look has seen everything that earlier looks have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Look(u64);

/// Numbers looks in the order in which they begin.
///
/// Maintenance and the board both look, and their results may overtake each other. Without an order, a maintenance
/// round that looked just before a pause would undo the pause.
#[derive(Debug, Default)]
pub(crate) struct Looks(AtomicU64);

impl Looks {
    /// Begins a look. Call it before storage is asked.
    pub(crate) fn begin(&self) -> Look {
        Look(self.0.fetch_add(1, Ordering::AcqRel) + 1)
    }
}
