//! What is counted.

use std::sync::atomic::AtomicU64;

/// Facts counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Writes refused because their claim no longer held.
    pub(crate) fenced: AtomicU64,
    /// Commits that failed and were tried again.
    pub(crate) storage_retries: AtomicU64,
    /// Runs that ended by themselves after their timeout.
    pub(crate) late: AtomicU64,
    /// Tasks rescued from dead nodes.
    pub(crate) rescued: AtomicU64,
}
