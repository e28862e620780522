//! The same wall time every given number of days, weeks or months.

use chrono::{Datelike, NaiveDate, NaiveTime, Timelike};
use serde::{Deserialize, Serialize};

use super::days::{Days, Month};
use super::error::TriggerError;
use super::wall::Face;
use super::zone::Zone;

/// The unit that a calendar interval counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalendarUnit {
    /// Calendar days, however long they are.
    Day,
    /// Seven days; the weekday is the weekday of the first date.
    Week,
    /// Months; the day of the month is the day of the first date.
    Month,
}

impl CalendarUnit {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The most units in an interval: a hundred years.
    const fn most(self) -> u32 {
        match self {
            Self::Day => 36_525,
            Self::Week => 5_217,
            Self::Month => 1_200,
        }
    }
}

/// The rule of a monthly interval for a month that is too short for its day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShortMonth {
    /// Leaves the month out.
    #[default]
    Skip,
    /// Takes the last day of the month.
    LastDay,
}

/// Fires every `every` units from `first` on, at `time` of the clock of `zone`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) every: u32,
    pub(super) unit: CalendarUnit,
    pub(super) first: NaiveDate,
    pub(super) time: NaiveTime,
    pub(super) short: ShortMonth,
    pub(super) zone: Zone,
}

impl Calendar {
    pub(super) fn check(self) -> Result<Self, TriggerError> {
        let refuse =
            |problem: String, hint: &str| TriggerError::invalid("calendar interval", &self.expr(), problem, hint);
        let most = self.unit.most();
        if !(1..=most).contains(&self.every) {
            let problem = format!("{} is not between 1 and {most}", self.every);
            return Err(refuse(problem, "choose a number in between"));
        }
        if !(1..=9999).contains(&self.first.year()) {
            return Err(refuse("the first date is not in the years 1 to 9999".to_owned(), "choose another date"));
        }
        if self.time.nanosecond() != 0 {
            return Err(refuse("the time has parts of a second".to_owned(), "give hour, minute and second"));
        }
        Ok(self)
    }

    pub(super) fn face(&self) -> Face {
        Face::at(self.time)
    }

    /// The text that storage keeps.
    pub(super) fn expr(&self) -> String {
        let plural = if self.every == 1 { "" } else { "s" };
        let short = if self.short == ShortMonth::LastDay { " or last day" } else { "" };
        format!(
            "every {} {}{plural} at {} from {}{short}",
            self.every,
            self.unit.word(),
            self.time.format("%H:%M:%S"),
            self.first
        )
    }

    pub(super) fn read(text: &str, zone: Zone) -> Result<Self, TriggerError> {
        let refuse = |problem: &str| {
            let hint = "write it as `every 2 weeks at 09:00 from 2026-01-31`; units are days, weeks and months, and for \
                        months `or last day` may follow";
            TriggerError::invalid("calendar interval", text, problem, hint)
        };
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (plain, short) = match words.as_slice() {
            [plain @ .., "or", "last", "day"] => (plain, ShortMonth::LastDay),
            plain => (plain, ShortMonth::Skip),
        };
        let ["every", every, unit, "at", time, "from", first] = *plain else {
            return Err(refuse("its words are not those of a calendar interval"));
        };
        let unit = match unit {
            "day" | "days" => CalendarUnit::Day,
            "week" | "weeks" => CalendarUnit::Week,
            "month" | "months" => CalendarUnit::Month,
            _ => return Err(refuse("the unit is unknown")),
        };
        let every = every.parse().map_err(|_| refuse("the number of units is no number"))?;
        let time = NaiveTime::parse_from_str(time, "%H:%M:%S")
            .or_else(|_| NaiveTime::parse_from_str(time, "%H:%M"))
            .map_err(|_| refuse("the time is none of a day"))?;
        let first = first.parse().map_err(|_| refuse("the first date is not in the calendar"))?;
        Self { every, unit, first, time, short, zone }.check()
    }

    fn by_days(&self, month: Month, step: i64) -> u32 {
        let since = month.first - self.first();
        // The first day of the month that is a whole number of steps after the first date, and not before it.
        let mut day = if since < 0 { -since } else { (step - since % step) % step };
        let mut days = 0;
        while day < i64::from(month.length) {
            days |= 1 << day;
            day += step;
        }
        days
    }

    fn by_months(&self, month: Month) -> u32 {
        let since = month.index() - (i64::from(self.first.year()) * 12 + i64::from(self.first.month0()));
        if since < 0 || since % i64::from(self.every) != 0 {
            return 0;
        }
        match self.short {
            ShortMonth::LastDay => 1 << (self.first.day().min(month.length) - 1),
            ShortMonth::Skip => month.all() & 1 << self.first.day0(),
        }
    }
}

/// 1970-01-01 in days from the beginning of year 1.
const EPOCH: i32 = 719_163;

impl Days for Calendar {
    fn within(&self, month: Month) -> u32 {
        match self.unit {
            CalendarUnit::Day => self.by_days(month, self.every.into()),
            CalendarUnit::Week => self.by_days(month, i64::from(self.every) * 7),
            CalendarUnit::Month => self.by_months(month),
        }
    }

    fn first(&self) -> i64 {
        i64::from(self.first.num_days_from_ce() - EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_where_days_count_from() {
        assert_eq!(NaiveDate::default().num_days_from_ce(), EPOCH);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "every",
            "every 2 weeks",
            "every 0 days at 09:00 from 2026-01-31",
            "every -1 days at 09:00 from 2026-01-31",
            "every 99999999999 days at 09:00 from 2026-01-31",
            "every 1 year at 09:00 from 2026-01-31",
            "every 1 day at 25:00 from 2026-01-31",
            "every 1 day at 23:59:60 from 2026-01-31",
            "every 1 day at 09:00 from 2026-02-30",
            "every 1 day at 09:00 from 12026-02-03",
            "every 1 day at 09:00 from 2026-01-31 or never",
        ] {
            assert!(Calendar::read(text, Zone::UTC).is_err(), "{text}");
        }
    }
}
