//! The lease, as far as this node knows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Until when this node may claim: its lease, as far as it knows.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    // Microseconds on the clock's growing hand.
    until: AtomicU64,
    healthy_since: AtomicU64,
}

impl Lease {
    /// The lease was renewed by a heartbeat that was sent at `sent`.
    pub(crate) fn renew(&self, sent: Duration, lease: Duration) {
        let healthy = self.healthy_since.load(Ordering::Relaxed);
        // A lease that had run out: this node stood still, and so may have others.
        let lapsed = self.until.load(Ordering::Acquire) < micros(sent);
        if healthy == 0 || lapsed {
            self.healthy_since.store(micros(sent).max(1), Ordering::Relaxed);
        }
        self.until.store(micros(sent.saturating_add(lease)), Ordering::Release);
    }

    /// A heartbeat failed.
    pub(crate) fn missed(&self) {
        self.healthy_since.store(0, Ordering::Relaxed);
    }

    /// True while claims are safe: the lease holds for another `margin`.
    pub(crate) fn is_safe(&self, now: Duration, margin: Duration) -> bool {
        micros(now.saturating_add(margin)) < self.until.load(Ordering::Acquire)
    }

    /// How long heartbeats have got through without a miss.
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
