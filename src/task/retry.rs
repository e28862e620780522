//! Decides when a failed task runs again. Pure arithmetic.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::read::RetryParts;

/// The wait between a failed attempt and the next attempt.
///
/// ```
/// use callboard::Retry;
/// use std::time::Duration;
/// let retry = Retry::exponential(Duration::from_secs(1)).cap(Duration::from_secs(10)).jitter(0.0);
/// let waits: Vec<_> = (1..=5).map(|failures| retry.delay(failures, 0.5).as_secs()).collect();
/// assert_eq!(waits, [1, 2, 4, 8, 10]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", try_from = "RetryParts")]
pub enum Retry {
    /// The wait is the same after each failure.
    Fixed {
        /// The wait between attempts, in microseconds.
        delay_us: u64,
    },
    /// The wait doubles with each failure, up to a cap, and jitter spreads it.
    Exponential {
        /// The wait after the first failure, in microseconds.
        base_us: u64,
        /// The longest wait, in microseconds.
        cap_us: u64,
        /// Random share of the wait, 0 to 1: 0.2 gives 90 % to 110 % of the wait, but never more than the cap. A share
        /// below 1e-9 is stored as 0.
        jitter: f64,
    },
}

/// The smallest share that is stored; of an hour it is 4 µs. Storage keeps the number as text, and a much smaller
/// number would be too long for its column.
const LEAST_SHARE: f64 = 1e-9;

impl Default for Retry {
    /// Exponential from 1 s, capped at 1 h, with a jitter of 20 %.
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1))
    }
}

impl Retry {
    /// Waits `delay` after each failure.
    pub fn fixed(delay: Duration) -> Self {
        Self::Fixed { delay_us: to_us(delay) }
    }

    /// Waits `base` after the first failure, and doubles the wait after each further failure. The wait is at most 1 h,
    /// with a jitter of 20 %.
    pub fn exponential(base: Duration) -> Self {
        Self::Exponential { base_us: to_us(base), cap_us: 3_600_000_000, jitter: 0.2 }
    }

    /// Changes the longest wait of an exponential policy; a fixed policy is unchanged.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        if let Self::Exponential { cap_us, .. } = &mut self {
            *cap_us = to_us(cap);
        }
        self
    }

    /// Changes the random share (0 to 1) of an exponential policy; a fixed policy is unchanged.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        if let Self::Exponential { jitter, .. } = &mut self {
            *jitter = as_share(share);
        }
        self
    }

    /// Returns the reason if a field holds an invalid value. The fields are public and may have been read from JSON, so
    /// any value is possible.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::Exponential { jitter, .. } if !(0.0..=1.0).contains(jitter) => {
                Some(format!("retry.jitter is {jitter}; it is a share from 0 to 1"))
            }
            Self::Fixed { .. } | Self::Exponential { .. } => None,
        }
    }

    /// The policy as storage keeps it: a share below [`LEAST_SHARE`] becomes 0.
    pub(crate) fn stored(mut self) -> Self {
        if let Self::Exponential { jitter, .. } = &mut self
            && *jitter < LEAST_SHARE
        {
            *jitter = 0.0;
        }
        self
    }

    /// The wait after the `failures`-th failure (1 is the first). `dice` is a random number from 0 to 1. The cap is
    /// applied last, so that no wait exceeds it, whatever the jitter is.
    pub fn delay(&self, failures: u32, dice: f64) -> Duration {
        match *self {
            Self::Fixed { delay_us } => Duration::from_micros(delay_us),
            Self::Exponential { base_us, cap_us, jitter } => {
                let doublings = failures.saturating_sub(1).min(63);
                let plain = base_us.saturating_mul(1_u64 << doublings).min(cap_us);
                let dice = if dice.is_finite() { dice.clamp(0.0, 1.0) } else { 0.5 };
                let spread = 1.0 + as_share(jitter) * (dice - 0.5);
                // At most 1.5 times the greatest 64-bit number of microseconds.
                Duration::from_micros(plain).mul_f64(spread).min(Duration::from_micros(cap_us))
            }
        }
    }
}

fn as_share(number: f64) -> f64 {
    if number.is_finite() && number >= LEAST_SHARE { number.min(1.0) } else { 0.0 }
}

fn to_us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exponential(base_us: u64, cap_us: u64, jitter: f64) -> Retry {
        Retry::exponential(Duration::from_micros(base_us)).cap(Duration::from_micros(cap_us)).jitter(jitter)
    }

    #[test]
    fn fixed_is_the_same_each_time() {
        let retry = Retry::fixed(Duration::from_secs(7)).cap(Duration::ZERO).jitter(1.0);
        assert!([0, 1, 2, u32::MAX].iter().all(|failures| retry.delay(*failures, 0.9) == Duration::from_secs(7)));
    }

    #[test]
    fn jitter_spreads_to_both_sides() {
        let retry = Retry::exponential(Duration::from_secs(10)).jitter(0.2);
        let waits = [0.0, 0.5, 1.0].map(|dice| retry.delay(1, dice));
        assert_eq!(waits, [9, 10, 11].map(Duration::from_secs));
    }

    #[test]
    fn a_share_that_is_too_small_to_tell_means_none() {
        for tiny in [1e-300, f64::MIN_POSITIVE, f64::from_bits(1), 9.9e-10, -0.0] {
            assert_eq!(exponential(5, 5, tiny), exponential(5, 5, 0.0));
            let given = Retry::Exponential { base_us: 5, cap_us: 5, jitter: tiny };
            assert_eq!((given.fault(), given.stored()), (None, exponential(5, 5, 0.0)), "{tiny}");
        }
        let least = exponential(5, 5, 1e-9);
        assert_eq!(least.stored(), least);
    }

    #[test]
    fn a_share_that_is_no_number_means_none() {
        assert_eq!(exponential(5, 5, f64::NAN), exponential(5, 5, 0.0));
        assert_eq!(exponential(5, 5, -3.0), exponential(5, 5, 0.0));
    }

    proptest! {
        #[test]
        fn no_wait_exceeds_the_cap(
            base_us in any::<u64>(), cap_us in any::<u64>(), jitter in prop::num::f64::ANY,
            failures in any::<u32>(), dice in prop::num::f64::ANY,
        ) {
            let wait = Retry::Exponential { base_us, cap_us, jitter }.delay(failures, dice);
            prop_assert!(wait <= Duration::from_micros(cap_us), "{wait:?}");
        }

        #[test]
        fn without_jitter_it_never_shrinks(base in any::<u64>(), cap in any::<u64>(), failures in 1..200_u32) {
            let retry = exponential(base, cap, 0.0);
            prop_assert!(retry.delay(failures, 0.3) <= retry.delay(failures + 1, 0.7));
        }

        #[test]
        fn what_is_stored_is_short_as_text(jitter in prop::num::f64::ANY) {
            let given = Retry::Exponential { base_us: 5, cap_us: 5, jitter };
            if given.fault().is_none() && let Retry::Exponential { jitter, .. } = given.stored() {
                prop_assert!(jitter.to_string().len() <= 32, "{jitter}");
                prop_assert_eq!(jitter.to_string().parse(), Ok(jitter));
            }
        }

        #[test]
        fn any_policy_from_storage_gives_a_wait(
            base_us in any::<u64>(), cap_us in any::<u64>(), jitter in 0.0..=1.0_f64, failures in any::<u32>(),
        ) {
            let text = serde_json::to_string(&Retry::Exponential { base_us, cap_us, jitter }).unwrap();
            let read: Retry = serde_json::from_str(&text).unwrap();
            read.delay(failures, f64::NAN);
        }
    }
}
