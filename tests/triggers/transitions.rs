//! The moments at which wall clocks are set. They are found only by reading the clocks.

use callboard::Zone;
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// From 1970-01-01 to 2050-01-01, in seconds since 1970.
pub(crate) const YEARS: std::ops::Range<i64> = 0..2_524_608_000;

pub(crate) fn naive(seconds: i64) -> NaiveDateTime {
    DateTime::from_timestamp(seconds, 0).unwrap().naive_utc()
}

pub(crate) fn tz(zone: Zone) -> Tz {
    zone.name().parse().unwrap()
}

pub(crate) fn offset(tz: Tz, instant: i64) -> i64 {
    tz.offset_from_utc_datetime(&naive(instant)).fix().local_minus_utc().into()
}

/// At `at` a clock is set from the offset `before` to the offset `after`. All values are in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transition {
    pub(crate) at: i64,
    pub(crate) before: i64,
    pub(crate) after: i64,
}

impl Transition {
    /// The seconds by which the clock is set ahead; negative when it is set back.
    pub(crate) fn jump(&self) -> i64 {
        self.after - self.before
    }
}

/// All transitions of `range`. The search steps by four days, because no zone has two transitions within four days.
pub(crate) fn transitions(tz: Tz, range: std::ops::Range<i64>) -> Vec<Transition> {
    let step = 4 * 86_400;
    let mut found = Vec::new();
    let (mut from, mut before) = (range.start, offset(tz, range.start));
    while from < range.end {
        let to = from + step;
        let after = offset(tz, to);
        if after != before {
            found.push(Transition { at: bisect(tz, from, to), before, after });
        }
        (from, before) = (to, after);
    }
    found
}

/// The first second in `(from, to]` whose offset differs from the offset at `from`.
pub(crate) fn bisect(tz: Tz, mut from: i64, mut to: i64) -> i64 {
    let old = offset(tz, from);
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        if offset(tz, middle) == old {
            from = middle;
        } else {
            to = middle;
        }
    }
    to
}

/// A small source of pseudo-random numbers that are the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number from 0 to `size - 1`.
    pub(crate) fn roll(&mut self, size: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % size
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.roll(list.len() as u64)).unwrap()]
    }
}
