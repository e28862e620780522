//! Time zones, and what their clocks show at which moment.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};
use serde::{Deserialize, Serialize};

use super::error::{TriggerError, cut, nearest};

/// A time zone by its IANA name.
///
/// The rules are compiled in. So every node of the same version uses the same rules, whatever its machine has
/// installed. The rules reach to 2100. After that a zone keeps its last offset.
///
/// ```
/// use callboard::Zone;
/// assert_eq!("America/New_York".parse::<Zone>()?.name(), "America/New_York");
/// let refused = "America/NewYork".parse::<Zone>().unwrap_err();
/// assert!(refused.to_string().contains("did you mean \"America/New_York\"?"));
/// # Ok::<(), callboard::TriggerError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(Tz);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(Tz::UTC);

    /// Its IANA name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// All known zones.
    pub fn all() -> impl Iterator<Item = Self> {
        TZ_VARIANTS.iter().copied().map(Self)
    }

    /// How far the wall clock is ahead of UTC, in seconds, at `instant` (seconds since the epoch).
    pub(super) fn offset_at(self, instant: i64) -> i64 {
        self.0.offset_from_utc_datetime(&naive(instant)).fix().local_minus_utc().into()
    }

    /// When the wall clock shows `wall` (seconds since 1970-01-01T00:00:00 on that clock).
    pub(super) fn shows(self, wall: i64) -> Shown {
        let local = naive(wall);
        let minus = |offset: <Tz as TimeZone>::Offset| wall - i64::from(offset.fix().local_minus_utc());
        match self.0.offset_from_local_datetime(&local) {
            LocalResult::Single(offset) => Shown::Once(minus(offset)),
            LocalResult::Ambiguous(one, other) => {
                let (one, other) = (minus(one), minus(other));
                Shown::Twice { first: one.min(other), second: one.max(other) }
            }
            LocalResult::None => self.gap(wall, &local),
        }
    }

    fn gap(self, wall: i64, local: &NaiveDateTime) -> Shown {
        let begin = GapInfo::new(local, &self.0).and_then(|gap| gap.begin);
        // A gap without a beginning would lie before the first rule of the zone, and there is no gap there.
        let Some((begin, offset)) = begin else { return Shown::Once(wall) };
        let begin = begin.and_utc().timestamp();
        let at = begin - i64::from(offset.fix().local_minus_utc());
        Shown::Never { at, begin, end: at + self.offset_at(at) }
    }

    /// The moment in `(first, second]` at which the clock was set back.
    pub(super) fn set_back(self, first: i64, second: i64) -> i64 {
        let offset = self.offset_at(first);
        let (mut before, mut after) = (first, second);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.offset_at(middle) == offset {
                before = middle;
            } else {
                after = middle;
            }
        }
        after
    }
}

/// When a wall clock shows a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Once(i64),
    /// The clock is set back over this time.
    Twice {
        first: i64,
        second: i64,
    },
    /// The clock is set ahead over this time, at the instant `at`, from the wall time `begin` to the wall time `end`.
    Never {
        at: i64,
        begin: i64,
        end: i64,
    },
}

/// The date and time that lie `seconds` after 1970-01-01T00:00:00.
pub(super) fn naive(seconds: i64) -> NaiveDateTime {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().naive_utc()
}

impl FromStr for Zone {
    type Err = TriggerError;
    fn from_str(name: &str) -> Result<Self, TriggerError> {
        name.parse().map(Self).map_err(|_| TriggerError::UnknownZone {
            given: cut(name),
            nearest: nearest(name, TZ_VARIANTS.iter().map(|zone| zone.name())),
        })
    }
}

impl TryFrom<String> for Zone {
    type Error = TriggerError;
    fn try_from(name: String) -> Result<Self, TriggerError> {
        name.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name().to_owned()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        for (given, meant) in [
            ("America/NewYork", Some("America/New_York")),
            ("new york", Some("America/New_York")),
            ("Europe/Belin", Some("Europe/Berlin")),
            ("europe/berlin", Some("Europe/Berlin")),
            ("Berlin", Some("Europe/Berlin")),
            ("Asia/Shangai", Some("Asia/Shanghai")),
            ("Asia/Moscow", Some("Europe/Moscow")),
            ("utc", Some("UTC")),
            ("", None),
            ("我的时区", None),
        ] {
            let error = given.parse::<Zone>().unwrap_err();
            let TriggerError::UnknownZone { nearest, .. } = &error else { panic!("{error}") };
            assert_eq!(*nearest, meant, "{given:?}: {error}");
        }
    }

    #[test]
    fn a_clock_that_is_set_ahead_and_back() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let wall = |text: &str| text.parse::<NaiveDateTime>().unwrap().and_utc().timestamp();
        let at = wall("2026-03-29T01:00:00");
        assert_eq!(
            berlin.shows(wall("2026-03-29T02:30:00")),
            Shown::Never { at, begin: wall("2026-03-29T02:00:00"), end: wall("2026-03-29T03:00:00") }
        );
        let (first, second) = (wall("2026-10-25T00:30:00"), wall("2026-10-25T01:30:00"));
        assert_eq!(berlin.shows(wall("2026-10-25T02:30:00")), Shown::Twice { first, second });
        assert_eq!(berlin.set_back(first, second), wall("2026-10-25T01:00:00"));
    }
}
