//! When upkeep is due.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Timestamp;

/// When maintenance looks next: lets whoever makes a task due later than that skip the message.
#[derive(Debug, Default)]
pub(crate) struct Alarm(AtomicI64);

impl Alarm {
    pub(crate) fn set(&self, at: Timestamp) {
        self.0.store(at.as_micros(), Ordering::Release);
    }

    /// True when `due` lies before the next look, which is then taken to be at `due`.
    pub(crate) fn is_moved_by(&self, due: Timestamp) -> bool {
        self.0.fetch_min(due.as_micros(), Ordering::AcqRel) > due.as_micros()
    }
}
