//! The matching days of a month: a bit per day, so that whole months are skipped in a single step.

/// A month of the calendar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Month {
    pub(super) year: i32,
    /// 1 to 12.
    pub(super) number: u32,
    /// 28 to 31.
    pub(super) length: u32,
    /// Days from 1970-01-01 to the first day of the month.
    pub(super) first: i64,
}

impl Month {
    pub(super) fn new(year: i32, number: u32, first: i64) -> Self {
        Self { year, number, length: length(year, number), first }
    }

    pub(super) fn next(self) -> Self {
        let first = self.first + i64::from(self.length);
        if self.number == 12 {
            Self::new(self.year + 1, 1, first)
        } else {
            Self::new(self.year, self.number + 1, first)
        }
    }

    /// Months since year 0.
    pub(super) fn index(self) -> i64 {
        i64::from(self.year) * 12 + i64::from(self.number) - 1
    }

    /// A bit for each day of the month.
    pub(super) fn all(self) -> u32 {
        u32::MAX >> (32 - self.length)
    }

    /// The weekday of a day of the month; 0 is Sunday. 1970-01-01 was a Thursday.
    fn weekday(self, day: u32) -> u32 {
        let weekday = (self.first + i64::from(day) - 1 + 4).rem_euclid(7);
        u32::try_from(weekday).expect("a remainder of 7 is from 0 to 6")
    }

    /// All days that fall on `weekdays` (bit 0 is Sunday).
    fn on(self, weekdays: u8) -> u32 {
        // Bits 0, 7, 14, 21 and 28.
        const WEEKLY: u32 = 0x1020_4081;
        let first = self.weekday(1);
        let falls = (0..7).filter(|weekday| weekdays & 1 << weekday != 0);
        falls.fold(0, |days, weekday| days | WEEKLY << ((weekday + 7 - first) % 7)) & self.all()
    }

    /// The day from Monday to Friday that is nearest to `day` within the month.
    fn workday(self, day: u32) -> u32 {
        match self.weekday(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        }
    }
}

/// The length of a month in a leap year.
pub(super) fn most_days(number: u32) -> u32 {
    length(2000, number)
}

fn length(year: i32, number: u32) -> u32 {
    match number {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A rule that selects days.
pub(super) trait Days {
    /// The selected days of `month`: bit 0 is the first day.
    fn within(&self, month: Month) -> u32;

    /// A lower bound: no earlier day is selected. In days from 1970-01-01. A search may begin there.
    fn first(&self) -> i64;
}

/// The four day fields of a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct CronDays {
    /// Bit 1 is January.
    pub(super) months: u16,
    /// Sorted; `None` means any year.
    pub(super) years: Option<Box<[u16]>>,
    /// Bit 0 is the first day.
    pub(super) days: u32,
    /// `L`: bit 0; `L-3`: bit 3.
    pub(super) before_last: u32,
    /// `LW`.
    pub(super) last_workday: bool,
    /// `15W`: bit 14.
    pub(super) near: u32,
    /// Bit 0 is Sunday.
    pub(super) weekdays: u8,
    /// `5#2`: bit 5 of the second.
    pub(super) nth: [u8; 5],
    /// `5L`: bit 5.
    pub(super) last_of: u8,
    /// True if a day field begins with `*`: then both day fields must match. Otherwise either of them suffices.
    pub(super) both: bool,
}

impl Days for CronDays {
    fn within(&self, month: Month) -> u32 {
        if self.months & 1 << month.number == 0 || !self.has_year(month.year) {
            return 0;
        }
        let (days, weekdays) = (self.by_day(month), self.by_weekday(month));
        if self.both { days & weekdays } else { days | weekdays }
    }

    fn first(&self) -> i64 {
        // Years in expressions begin with 1970.
        if self.years.is_some() { 0 } else { i64::MIN }
    }
}

impl CronDays {
    fn has_year(&self, year: i32) -> bool {
        match &self.years {
            None => true,
            Some(years) => u16::try_from(year).is_ok_and(|year| years.binary_search(&year).is_ok()),
        }
    }

    fn by_day(&self, month: Month) -> u32 {
        let mut days = self.days & month.all();
        let before_last = (0..month.length).filter(|before| self.before_last & 1 << before != 0);
        days = before_last.fold(days, |days, before| days | 1 << (month.length - 1 - before));
        if self.last_workday {
            days |= 1 << (month.workday(month.length) - 1);
        }
        let near = (1..=month.length).filter(|day| self.near & 1 << (day - 1) != 0);
        near.fold(days, |days, day| days | 1 << (month.workday(day) - 1))
    }

    fn by_weekday(&self, month: Month) -> u32 {
        let mut days = month.on(self.weekdays);
        for (week, weekdays) in (0_u32..).zip(self.nth) {
            days |= month.on(weekdays) & 0x7f << (7 * week);
        }
        days | month.on(self.last_of) & 0x7f << (month.length - 7)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};

    use super::*;

    #[test]
    fn months_follow_one_another_as_in_the_calendar() {
        let first = |year, month| {
            NaiveDate::from_ymd_opt(year, month, 1).unwrap().signed_duration_since(NaiveDate::default()).num_days()
        };
        let mut month = Month::new(1890, 1, first(1890, 1));
        while month.year < 2410 {
            assert_eq!(month.first, first(month.year, month.number));
            let date = NaiveDate::from_ymd_opt(month.year, month.number, month.length).unwrap();
            assert_eq!(month.weekday(month.length), date.weekday().num_days_from_sunday());
            assert_eq!(date.succ_opt().unwrap().day(), 1);
            month = month.next();
        }
    }
}
