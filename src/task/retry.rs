//! When a failed task runs again: pure arithmetic.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long to wait between a failed attempt and the next.
///
/// ```
/// use callboard::Retry;
/// use std::time::Duration;
/// let retry = Retry::exponential(Duration::from_secs(1)).cap(Duration::from_secs(10)).jitter(0.0);
/// let waits: Vec<_> = (1..=5).map(|failures| retry.delay(failures, 0.5).as_secs()).collect();
/// assert_eq!(waits, [1, 2, 4, 8, 10]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Retry {
    /// The same wait each time.
    Fixed {
        /// Microseconds between attempts.
        delay_us: u64,
    },
    /// The wait doubles with each failure, up to a cap, and is spread by jitter.
    Exponential {
        /// Microseconds after the first failure.
        base_us: u64,
        /// Microseconds that no wait exceeds.
        cap_us: u64,
        /// Share of the wait that is random, 0 to 1: 0.2 gives 90 % to 110 %.
        jitter: f64,
    },
}

impl Default for Retry {
    /// Exponential from 1 s, at most 1 h, with a jitter of 20 %.
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1))
    }
}

impl Retry {
    /// Waits `delay` after each failure.
    pub fn fixed(delay: Duration) -> Self {
        Self::Fixed { delay_us: to_us(delay) }
    }

    /// Waits `base` after the first failure and twice as long after each further one; at most 1 h, with a jitter
    /// of 20 %.
    pub fn exponential(base: Duration) -> Self {
        Self::Exponential { base_us: to_us(base), cap_us: 3_600_000_000, jitter: 0.2 }
    }

    /// Changes the longest wait of an exponential policy; a fixed one stays as it is.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        if let Self::Exponential { cap_us, .. } = &mut self {
            *cap_us = to_us(cap);
        }
        self
    }

    /// Changes the random share (0 to 1) of an exponential policy; a fixed one stays as it is.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        if let Self::Exponential { jitter, .. } = &mut self {
            *jitter = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        }
        self
    }

    /// The wait after the `failures`-th failure (1 is the first). `dice` is a random number from 0 to 1.
    pub fn delay(&self, failures: u32, dice: f64) -> Duration {
        match *self {
            Self::Fixed { delay_us } => Duration::from_micros(delay_us),
            Self::Exponential { base_us, cap_us, jitter } => {
                let doublings = failures.saturating_sub(1).min(63);
                let plain = base_us.saturating_mul(1_u64 << doublings).min(cap_us);
                let spread = 1.0 + jitter * (dice.clamp(0.0, 1.0) - 0.5);
                Duration::from_micros(plain).mul_f64(spread.max(0.0))
            }
        }
    }
}

fn to_us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
