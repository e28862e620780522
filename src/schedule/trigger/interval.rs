//! Equal spans of real time, independent of the wall clock.

use std::fmt;
use std::time::Duration;

use super::error::TriggerError;
use crate::clock::{Timestamp, micros};

/// A hundred years, in microseconds: the longest span of an interval or a jitter.
const LONGEST_US: i64 = 100 * 365 * 86_400_000_000;

/// The shortest interval, in microseconds.
const SHORTEST_US: i64 = 1_000;

/// Units for reading and writing, in microseconds, the greatest first.
const UNITS: [(&str, i64); 7] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Fires at `anchor + k * period` for k = 0, 1, 2, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) period_us: i64,
    pub(super) anchor: Option<Timestamp>,
}

impl Interval {
    pub(super) fn new(period: Duration, anchor: Option<Timestamp>) -> Result<Self, TriggerError> {
        let period_us = whole_us("interval", period, SHORTEST_US)?;
        Ok(Self { period_us, anchor })
    }

    /// The first firing after `after`. Without an anchor it counts from `start_at`, and without that from
    /// 1970-01-01T00:00:00Z. So all nodes count alike, also after a restart.
    pub(super) fn next(&self, after: Timestamp, start_at: Option<Timestamp>) -> Option<Timestamp> {
        let anchor = self.anchor.or(start_at).unwrap_or_default().as_micros();
        if after.as_micros() < anchor {
            return Some(Timestamp::from_micros(anchor));
        }
        let periods = after.as_micros().checked_sub(anchor)? / self.period_us + 1;
        let next = periods.checked_mul(self.period_us)?.checked_add(anchor)?;
        Some(Timestamp::from_micros(next))
    }
}

/// Converts a span to whole microseconds; it must be at least `least`.
pub(super) fn whole_us(what: &'static str, span: Duration, least: i64) -> Result<i64, TriggerError> {
    let us = micros(span);
    if span.subsec_nanos().is_multiple_of(1_000) && (least..=LONGEST_US).contains(&us) {
        return Ok(us);
    }
    let problem = format!("it is not between {} and 100 years, in whole microseconds", Span(least));
    Err(TriggerError::invalid(what, &format!("{span:?}"), problem, "choose a span in between"))
}

/// A span as text, such as `2h30m`.
pub(super) struct Span(pub(super) i64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        // Weeks are read but not written: `14d` is clearer than `2w`.
        for (unit, size) in &UNITS[1..] {
            if rest >= *size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

/// Reads a span such as `90s`, `2h30m` or `1d 12h`, in microseconds.
pub(super) fn read_span(what: &'static str, text: &str) -> Result<i64, TriggerError> {
    let refuse = |problem: &str| {
        let hint =
            "write numbers with units, as in 90s, 2h30m or 1d 12h; the units are w, d, h, m (minutes), s, ms, us";
        TriggerError::invalid(what, text, problem, hint)
    };
    let mut rest = text.trim_start();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err(refuse("it is empty"));
    }
    while !rest.is_empty() {
        let (number, tail) = split(rest, |letter| letter.is_ascii_digit());
        let (unit, tail) = split(tail, |letter| letter.is_ascii_alphabetic());
        let number: i64 = number.parse().map_err(|_| refuse("a number is missing or too long"))?;
        let size = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| size);
        let size = size.ok_or_else(|| refuse("a unit is missing or unknown"))?;
        let part = number.checked_mul(*size).and_then(|part| part.checked_add(total));
        total = part.filter(|total| *total <= LONGEST_US).ok_or_else(|| refuse("it is longer than 100 years"))?;
        rest = tail.trim_start();
    }
    Ok(total)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|letter| !belongs(letter)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, seconds) in [("90s", 90), ("2h30m", 9_000), ("1d 12h", 129_600), ("1w", 604_800), ("60m", 3_600)] {
            assert_eq!(read_span("interval", text).unwrap(), seconds * 1_000_000, "{text}");
        }
        for text in ["", "90", "s", "1.5h", "-1s", "2 h", "5y", "1h30", "99999999999999999999s", "99999999w", "1H"] {
            assert!(read_span("interval", text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn spans_are_written_as_they_are_read(us in 0..=LONGEST_US) {
            prop_assert_eq!(read_span("interval", &Span(us).to_string()).unwrap(), us);
        }

        #[test]
        fn firings_lie_on_the_grid(
            period_us in SHORTEST_US..=LONGEST_US, anchor in any::<i64>(), after in any::<i64>(),
        ) {
            let (anchor, after) = (Timestamp::from_micros(anchor), Timestamp::from_micros(after));
            let interval = Interval { period_us, anchor: Some(anchor) };
            if let Some(next) = interval.next(after, None) {
                prop_assert!(next > after && next >= anchor);
                let (next, anchor) = (i128::from(next.as_micros()), i128::from(anchor.as_micros()));
                prop_assert_eq!((next - anchor) % i128::from(period_us), 0);
                prop_assert!(next == anchor || next - i128::from(period_us) <= i128::from(after.as_micros()));
            }
        }
    }
}
