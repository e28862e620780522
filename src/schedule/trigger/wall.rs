//! From wall-clock times to moments: the rule for clocks that are set ahead and back.
//!
//! It is the rule of Debian's cron. There are two kinds of runs:
//! - A run is of the **wildcard** kind when the minute or the hour field of its expression begins with `*`. It fires
//!   whenever the clock shows a matching time. It does not fire for a time that the clock skips, and it fires again
//!   for a time that the clock repeats.
//! - Every other run is **fixed**. A time that the clock skips fires at the moment of the change; several such times
//!   fire together, once. A time that the clock shows twice fires the first time.
//!
//! A change of 3 hours or more is not summer time but a correction, as when an island moves to the other side of the
//! date line. The times that a correction skips or repeats are skipped or repeated for both kinds of runs.

use chrono::{Datelike, NaiveTime, Timelike};

use super::days::{Days, Month};
use super::zone::{Shown, Zone, naive};

pub(super) const DAY: i64 = 86_400;

/// 9999-12-31T23:59:59Z. No trigger fires later, and RFC 3339 cannot write later times.
pub(super) const LAST: i64 = 253_402_300_799;

/// 0001-01-01T00:00:00Z. A search begins here at the earliest, so that all sums stay far from their limits.
pub(super) const FIRST: i64 = -62_135_596_800;

/// A clock change of this length or more, in seconds, is a correction.
const CORRECTION: i64 = 3 * 3600;

/// How many months are searched for a matching day: the calendar repeats itself after 400 years.
const MONTHS_AHEAD: usize = 400 * 12 + 1;

/// The matching times of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Face {
    /// Bit 0 is second 0.
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u64,
    /// True for the wildcard kind: the run follows real time and not the face of the clock; see the module.
    pub(super) wildcard: bool,
}

impl Face {
    /// Matches nothing.
    pub(super) const NONE: Self = Self { seconds: 0, minutes: 0, hours: 0, wildcard: false };

    /// Once a day.
    pub(super) fn at(time: NaiveTime) -> Self {
        Self { seconds: 1 << time.second(), minutes: 1 << time.minute(), hours: 1 << time.hour(), wildcard: false }
    }

    /// The times that match both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            seconds: self.seconds & other.seconds,
            minutes: self.minutes & other.minutes,
            hours: self.hours & other.hours,
            wildcard: self.wildcard && other.wildcard,
        }
    }

    /// The first matching second of a day that is not before `second`.
    fn next(&self, second: u32) -> Option<u32> {
        let (hour, minute) = (second / 3600, second / 60 % 60);
        if self.hours & 1 << hour != 0 {
            if self.minutes & 1 << minute != 0
                && let Some(found) = from(self.seconds, second % 60)
            {
                return Some(hour * 3600 + minute * 60 + found);
            }
            if let Some(minute) = from(self.minutes, minute + 1) {
                return Some(hour * 3600 + minute * 60 + from(self.seconds, 0)?);
            }
        }
        let hour = from(self.hours, hour + 1)?;
        Some(hour * 3600 + from(self.minutes, 0)? * 60 + from(self.seconds, 0)?)
    }

    fn is_empty(&self) -> bool {
        self.seconds == 0 || self.minutes == 0 || self.hours == 0
    }
}

/// The lowest bit of `mask` that is not below `least`.
fn from(mask: u64, least: u32) -> Option<u32> {
    let rest = mask & u64::MAX.checked_shl(least)?;
    (rest != 0).then(|| rest.trailing_zeros())
}

/// The first matching wall time that is not before `wall`. `None` when no time matches for 400 years.
pub(super) fn next_wall<D: Days + ?Sized>(face: &Face, days: &D, wall: i64) -> Option<i64> {
    if face.is_empty() || wall > LAST {
        return None;
    }
    let (day, second) = (wall.div_euclid(DAY), wall.rem_euclid(DAY));
    let date = naive(wall).date();
    let mut month = Month::new(date.year(), date.month(), day - i64::from(date.day0()));
    let mut left = days.within(month) & u32::MAX << date.day0();
    if left & 1 << date.day0() != 0 {
        let second = u32::try_from(second).expect("a remainder of a day's seconds fits");
        if let Some(found) = face.next(second) {
            return Some(day * DAY + i64::from(found));
        }
        left &= !(1 << date.day0());
    }
    let midnight = i64::from(face.next(0)?);
    for _ in 0..MONTHS_AHEAD {
        if left != 0 {
            let found = (month.first + i64::from(left.trailing_zeros())) * DAY + midnight;
            return (found <= LAST).then_some(found);
        }
        month = month.next();
        left = days.within(month);
    }
    None
}

/// The first moment after `after` at which the trigger fires; both in seconds since the epoch.
pub(super) fn next_instant<D: Days + ?Sized>(zone: Zone, face: &Face, days: &D, after: i64) -> Option<i64> {
    // Two days are more than any offset.
    let after = after.max(days.first().saturating_sub(2).saturating_mul(DAY)).max(FIRST);
    let search = Search { zone, face, days, after };
    let offset = zone.offset_at(after);
    let shown = after + offset;
    let Shown::Twice { first, second } = zone.shows(shown) else {
        return search.from(shown + 1);
    };
    if !search.repeats(second - first) {
        // A fixed run has already fired for all times that the clock shows again.
        let again = if after == second { set_back_from(zone, first, second) } else { shown };
        return search.from((shown + 1).max(again));
    }
    let found = search.from(shown + 1);
    if after == second {
        return found;
    }
    // `after` lies before the clock is set back. The times shown after the change are earlier on the face of the
    // clock, but later in real time.
    let change = zone.set_back(first, second);
    if found.is_some_and(|found| found < change) {
        return found;
    }
    let later = zone.offset_at(change);
    let again = next_wall(face, days, change + later).map(|wall| wall - later);
    [found, again].into_iter().flatten().min()
}

/// The wall time that a trigger names when it fires at `moment`, and the offset that belongs to it; both in seconds.
/// It is the time that the clock shows then, or the first matching time that the clock skips at that moment.
pub(super) fn named<D: Days + ?Sized>(zone: Zone, face: &Face, days: &D, moment: i64) -> (i64, i64) {
    let (before, offset) = (zone.offset_at(moment - 1), zone.offset_at(moment));
    let (begin, shown) = (moment + before, moment + offset);
    let left_out = begin < shown && !face.wildcard && shown - begin < CORRECTION;
    // The common case is decided without a search.
    if !left_out || next_wall(face, days, shown) == Some(shown) {
        return (shown, offset);
    }
    match next_wall(face, days, begin) {
        Some(wall) if wall < shown => (wall, before),
        _ => (shown, offset),
    }
}

/// The wall time from which the clock is set back.
fn set_back_from(zone: Zone, first: i64, second: i64) -> i64 {
    let change = zone.set_back(first, second);
    change + zone.offset_at(change - 1)
}

struct Search<'a, D: ?Sized> {
    zone: Zone,
    face: &'a Face,
    days: &'a D,
    after: i64,
}

impl<D: Days + ?Sized> Search<'_, D> {
    /// True if a clock change of `seconds` applies to the runs too: skipped times do not fire, and repeated times
    /// fire again.
    fn repeats(&self, seconds: i64) -> bool {
        self.face.wildcard || seconds >= CORRECTION
    }

    /// The moment of the first matching wall time that is not before `wall` and whose moment lies after `self.after`.
    fn from(&self, mut wall: i64) -> Option<i64> {
        loop {
            wall = next_wall(self.face, self.days, wall)?;
            let moment = match self.zone.shows(wall) {
                Shown::Once(moment) => moment,
                Shown::Twice { first, second } if first <= self.after && self.repeats(second - first) => second,
                Shown::Twice { first, .. } => first,
                Shown::Never { begin, end, .. } if self.repeats(end - begin) => {
                    wall = end;
                    continue;
                }
                Shown::Never { at, .. } => at,
            };
            if moment > self.after {
                return (moment <= LAST).then_some(moment);
            }
            wall += 1;
        }
    }
}
