//! The lease of this node, as far as the node knows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time until which this node may claim: its lease, as far as the node knows.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    // Microseconds of monotonic time, as in `healthy_since`.
    until: AtomicU64,
    healthy_since: AtomicU64,
}

impl Lease {
    /// Records that a heartbeat sent at `sent` has renewed the lease.
    pub(crate) fn renew(&self, sent: Duration, lease: Duration) {
        let healthy = self.healthy_since.load(Ordering::Relaxed);
        // The lease had run out: this node stood still, and other nodes may have stood still too.
        let lapsed = self.until.load(Ordering::Acquire) < micros(sent);
        if healthy == 0 || lapsed {
            self.healthy_since.store(micros(sent).max(1), Ordering::Relaxed);
        }
        self.until.store(micros(sent.saturating_add(lease)), Ordering::Release);
    }

    /// Records that a heartbeat failed.
    pub(crate) fn missed(&self) {
        self.healthy_since.store(0, Ordering::Relaxed);
    }

    /// True while claims are safe: the lease holds for more than `margin` after `now`.
    pub(crate) fn is_safe(&self, now: Duration, margin: Duration) -> bool {
        micros(now.saturating_add(margin)) < self.until.load(Ordering::Acquire)
    }

    /// How long heartbeats have succeeded without a miss. `None` after a miss, and before the first heartbeat.
    pub(crate) fn healthy_for(&self, now: Duration) -> Option<Duration> {
        match self.healthy_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(now.saturating_sub(Duration::from_micros(since))),
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
