//! The counters of a board.

use std::sync::atomic::AtomicU64;

/// Events counted since the start of the board.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Writes refused because their claim no longer held.
    pub(crate) fenced: AtomicU64,
    /// Commits that failed and were retried.
    pub(crate) storage_retries: AtomicU64,
    /// Runs that ended by themselves after their timeout.
    pub(crate) late: AtomicU64,
    /// Tasks rescued from dead nodes.
    pub(crate) rescued: AtomicU64,
}
