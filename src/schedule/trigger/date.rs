//! A trigger that fires once, at a fixed time.

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};

use super::error::TriggerError;
use super::wall::{FIRST, LAST};
use super::zone::{Shown, Zone};
use crate::clock::Timestamp;

/// The time at which it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Date {
    Moment(Timestamp),
    /// A wall time of a zone, in whole microseconds.
    Local(NaiveDateTime, Zone),
}

impl Date {
    pub(super) fn at(moment: Timestamp) -> Result<Self, TriggerError> {
        Self::Moment(moment).check()
    }

    pub(super) fn local(wall: NaiveDateTime, zone: Zone) -> Result<Self, TriggerError> {
        Self::Local(wall.trunc_subsecs(6), zone).check()
    }

    /// The moment of the date. If the clock skips the time, it is the moment of the change. If the clock shows the
    /// time twice, it is the first moment.
    pub(super) fn moment(&self) -> Timestamp {
        match *self {
            Self::Moment(moment) => moment,
            Self::Local(wall, zone) => {
                let wall = wall.and_utc();
                let part = i64::from(wall.timestamp_subsec_micros());
                let (second, part) = match zone.shows(wall.timestamp()) {
                    Shown::Once(moment) | Shown::Twice { first: moment, .. } => (moment, part),
                    Shown::Never { at, .. } => (at, 0),
                };
                Timestamp::from_micros(second * 1_000_000 + part)
            }
        }
    }

    /// The wall time that the clock skips, in seconds, and the offset of the clock before the change. `None` for any
    /// other date, because the clock shows it.
    pub(super) fn left_out(&self) -> Option<(i64, i64)> {
        let Self::Local(wall, zone) = *self else { return None };
        let wall = wall.and_utc().timestamp();
        match zone.shows(wall) {
            Shown::Never { at, .. } => Some((wall, zone.offset_at(at - 1))),
            Shown::Once(_) | Shown::Twice { .. } => None,
        }
    }

    pub(super) fn expr(&self) -> String {
        match self {
            Self::Moment(moment) => moment.to_string(),
            Self::Local(wall, _) => wall.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        }
    }

    pub(super) fn read(text: &str, zone: Zone) -> Result<Self, TriggerError> {
        let text = text.trim();
        if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
            return Self::at(moment.with_timezone(&Utc).into());
        }
        let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
        let wall = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
        match wall {
            Some(wall) => Self::local(wall, zone),
            None => Err(refuse(text, "it is no time of the calendar")),
        }
    }

    fn check(self) -> Result<Self, TriggerError> {
        let range = FIRST..=LAST;
        let inside = match self {
            Self::Moment(moment) => range.contains(&moment.as_micros().div_euclid(1_000_000)),
            // A day of room for the offset of the zone.
            Self::Local(wall, _) => (FIRST + 86_400..=LAST - 86_400).contains(&wall.and_utc().timestamp()),
        };
        if inside { Ok(self) } else { Err(refuse(&self.expr(), "it is not in the years 1 to 9999")) }
    }
}

fn refuse(text: &str, problem: &str) -> TriggerError {
    let hint = "write 2026-03-06T14:00:00Z, or a local time such as 2026-03-06T09:00:00 with its zone";
    TriggerError::invalid("date", text, problem, hint)
}
