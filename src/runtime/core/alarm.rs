//! When the next maintenance round is due.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Timestamp;

/// Time of the next maintenance round. A task that becomes due later than this needs no wake-up message.
#[derive(Debug, Default)]
pub(crate) struct Alarm(AtomicI64);

impl Alarm {
    pub(crate) fn set(&self, at: Timestamp) {
        self.0.store(at.as_micros(), Ordering::Release);
    }

    /// True when `due` lies before the next maintenance round. The next round then counts as due at `due`.
    pub(crate) fn is_moved_by(&self, due: Timestamp) -> bool {
        self.0.fetch_min(due.as_micros(), Ordering::AcqRel) > due.as_micros()
    }
}
