//! How triggers are made in code.

use std::time::Duration;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::calendar::{Calendar, CalendarUnit, ShortMonth};
use super::combine::{AllOf, AnyOf};
use super::cron::Cron;
use super::date::Date;
use super::error::TriggerError;
use super::interval::{Interval, read_span, whole_us};
use super::text::read_moment;
use super::zone::Zone;
use super::{Rule, Trigger};
use crate::clock::Timestamp;

impl Trigger {
    /// Fires when the clock of `zone` matches a cron expression. The expression has five fields as in cron(8), six
    /// with seconds first, or seven with years at the end. Nicknames such as `@hourly` work too. `@every` with a span
    /// makes an [`interval`](Self::interval), which has no zone.
    ///
    /// Without a zone (`None`) the trigger uses the zone of the board that makes a schedule of it,
    /// [`BoardBuilder::default_zone`](crate::BoardBuilder::default_zone). Until then it uses UTC.
    ///
    /// Some forms go beyond cron(8). The day of the month may be `L` (the last day) or `L-3` (the third day before
    /// the last; skipped in months that are too short for it). It may also be `15W` (the working day nearest to the
    /// 15th) or `LW` (the last working day). The weekday may be `5#2` (the second Friday) or `5L` (the last Friday).
    ///
    /// ```
    /// use callboard::{Trigger, Zone};
    /// assert!(Trigger::cron("*/15 * * * *", Zone::UTC).is_ok());
    /// assert!(Trigger::cron("0 30 9 LW * *", Zone::UTC).is_ok());
    /// assert!(Trigger::cron("@every 90s", Zone::UTC).is_ok());
    /// let refused = Trigger::cron("30 2 31 2 *", Zone::UTC).unwrap_err();
    /// assert!(refused.to_string().contains("never fires"));
    /// ```
    ///
    /// # Errors
    /// Says which field is wrong, which values are allowed there, and what was probably meant.
    pub fn cron(expression: &str, zone: impl Into<Option<Zone>>) -> Result<Self, TriggerError> {
        let (expression, zone) = (expression.trim(), zone.into());
        match expression.get(..6) {
            Some(word) if word.eq_ignore_ascii_case("@every") => Self::interval(&expression[1..]),
            _ => {
                let cron = Cron::read(expression, zone.unwrap_or(Zone::UTC))?;
                Ok(Self { floats: zone.is_none(), ..Self::of(Rule::Cron(Box::new(cron))) })
            }
        }
    }

    /// Fires every `period`, which is at least 1 ms. The period is counted in real time from
    /// [`anchored_at`](Self::anchored_at), else from [`start_at`](Self::start_at), else from 1970-01-01T00:00:00Z.
    ///
    /// ```
    /// use callboard::{Timestamp, Trigger};
    /// use std::time::Duration;
    /// let trigger = Trigger::every(Duration::from_secs(90))?;
    /// let next = trigger.next_after(Timestamp::from_micros(100_000_000));
    /// assert_eq!(next, Some(Timestamp::from_micros(180_000_000)));
    /// # Ok::<(), callboard::TriggerError>(())
    /// ```
    ///
    /// # Errors
    /// When the period is shorter than 1 ms, longer than 100 years, or has parts of a microsecond.
    pub fn every(period: Duration) -> Result<Self, TriggerError> {
        Ok(Self::of(Rule::Interval(Interval::new(period, None)?)))
    }

    /// [`every`](Self::every) in words: `90s`, `2h30m`, `every 1d 12h`, or
    /// `every 90s from 2026-03-06T14:00:00Z` with its anchor.
    ///
    /// ```
    /// use callboard::Trigger;
    /// use std::time::Duration;
    /// assert_eq!(Trigger::interval("2h30m")?, Trigger::every(Duration::from_secs(9_000))?);
    /// # Ok::<(), callboard::TriggerError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`every`](Self::every), and when the text has none of these forms.
    pub fn interval(text: &str) -> Result<Self, TriggerError> {
        let text = text.trim();
        let words = match text.get(..5) {
            Some(word) if word.eq_ignore_ascii_case("every") => &text[5..],
            _ => text,
        };
        let (span, anchor) = match words.split_once(" from ") {
            Some((span, anchor)) => (span, Some(read_moment("anchor", anchor)?)),
            None => (words, None),
        };
        let period_us = read_span("interval", span)?;
        Ok(Self::of(Rule::Interval(Interval::new(Duration::from_micros(period_us.unsigned_abs()), anchor)?)))
    }

    /// Fires every so many days, weeks or months from `first` on, when the clock of `zone` shows `time`. Without a
    /// zone it uses the zone of the board. See [`short_months`](Self::short_months) for the 31st.
    ///
    /// ```
    /// use callboard::{CalendarUnit, Trigger, Zone};
    /// use chrono::{NaiveDate, NaiveTime};
    /// let first = NaiveDate::from_ymd_opt(2026, 3, 6).ok_or("no such date")?;
    /// let time = NaiveTime::from_hms_opt(9, 0, 0).ok_or("no such time")?;
    /// let fortnightly = Trigger::calendar(2, CalendarUnit::Week, first, time, Zone::UTC)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When `every` is 0 or more than a hundred years, or when the time has parts of a second.
    pub fn calendar(
        every: u32,
        unit: CalendarUnit,
        first: NaiveDate,
        time: NaiveTime,
        zone: impl Into<Option<Zone>>,
    ) -> Result<Self, TriggerError> {
        let (short, zone) = (ShortMonth::Skip, zone.into());
        let calendar = Calendar { every, unit, first, time, short, zone: zone.unwrap_or(Zone::UTC) }.check()?;
        Ok(Self { floats: zone.is_none(), ..Self::of(Rule::Calendar(calendar)) })
    }

    /// Fires once, at `moment`.
    ///
    /// ```
    /// use callboard::{Timestamp, Trigger};
    /// let trigger = Trigger::at(Timestamp::from_micros(5_000_000))?;
    /// assert_eq!(trigger.next_after(Timestamp::from_micros(5_000_000)), None);
    /// # Ok::<(), callboard::TriggerError>(())
    /// ```
    ///
    /// # Errors
    /// When the moment is not in the years 1 to 9999.
    pub fn at(moment: impl Into<Timestamp>) -> Result<Self, TriggerError> {
        Ok(Self::of(Rule::Date(Date::at(moment.into())?)))
    }

    /// Fires once, when the clock of `zone` shows `wall`. Without a zone it uses the zone of the board. If the clock
    /// is set ahead over `wall`, the trigger fires right after the change. If the clock is set back over `wall`, it
    /// fires the first time. Parts of a microsecond are cut off.
    ///
    /// # Errors
    /// When the time is not in the years 1 to 9999.
    pub fn at_local(wall: NaiveDateTime, zone: impl Into<Option<Zone>>) -> Result<Self, TriggerError> {
        let zone = zone.into();
        let date = Date::local(wall, zone.unwrap_or(Zone::UTC))?;
        Ok(Self { floats: zone.is_none(), ..Self::of(Rule::Date(date)) })
    }

    /// Fires whenever any of `parts` fires. If several parts fire at the same moment, it fires once. Parts may have
    /// their own bounds but no jitter, and no part may be an `any_of` itself.
    ///
    /// ```
    /// use callboard::{Trigger, Zone};
    /// let noon = Trigger::cron("0 12 * * 1-5", Zone::UTC)?;
    /// let weekend = Trigger::cron("0 15 * * 6,7", Zone::UTC)?;
    /// let lunch = Trigger::any_of(vec![noon, weekend])?;
    /// # Ok::<(), callboard::TriggerError>(())
    /// ```
    ///
    /// # Errors
    /// When there are no parts or more than 32, or when a part is not allowed here.
    pub fn any_of(parts: Vec<Self>) -> Result<Self, TriggerError> {
        let floats = parts.iter().any(|part| part.floats);
        Ok(Self { floats, ..Self::of(Rule::AnyOf(AnyOf::new(parts)?)) })
    }

    /// Fires when the clock matches all of `parts`. The parts must be cron or calendar triggers of the same zone,
    /// without their own bounds or jitter. The clock face is matched first and the rule for summer time is applied
    /// after, as for a single cron expression. The whole is of the wildcard kind when all parts are.
    ///
    /// ```
    /// use callboard::{Timestamp, Trigger, Zone};
    /// let fridays = Trigger::cron("0 9 * * 5", Zone::UTC)?;
    /// let thirteenths = Trigger::cron("0 9 13 * *", Zone::UTC)?;
    /// let both = Trigger::all_of(vec![fridays, thirteenths])?;
    /// assert_eq!(both.next_after(Timestamp::default()).map(|time| time.to_string()).as_deref(),
    ///     Some("1970-02-13T09:00:00.000000Z"));
    /// # Ok::<(), callboard::TriggerError>(())
    /// ```
    ///
    /// # Errors
    /// When there are no parts or more than 32, when a part is not allowed here, or when no time of 400 years matches
    /// all parts.
    pub fn all_of(parts: Vec<Self>) -> Result<Self, TriggerError> {
        let floats = parts.iter().any(|part| part.floats);
        Ok(Self { floats, ..Self::of(Rule::AllOf(AllOf::new(parts)?)) })
    }

    /// Gives `zone` to every part that was made without a zone.
    pub(crate) fn in_zone(mut self, zone: Zone) -> Self {
        if !std::mem::take(&mut self.floats) {
            return self;
        }
        match &mut self.rule {
            Rule::Cron(cron) => cron.zone = zone,
            Rule::Calendar(calendar) => calendar.zone = zone,
            Rule::Date(Date::Local(_, own)) => *own = zone,
            Rule::AllOf(all) => {
                all.zone = zone;
                all.parts = std::mem::take(&mut all.parts).into_iter().map(|part| part.in_zone(zone)).collect();
            }
            Rule::AnyOf(any) => {
                any.0 = std::mem::take(&mut any.0).into_iter().map(|part| part.in_zone(zone)).collect();
            }
            Rule::Interval(_) | Rule::Date(Date::Moment(_)) => {}
        }
        self
    }

    /// Counts an interval from `anchor`, which is also its first firing.
    ///
    /// # Errors
    /// When the trigger is no interval.
    pub fn anchored_at(mut self, anchor: impl Into<Timestamp>) -> Result<Self, TriggerError> {
        let Rule::Interval(interval) = &mut self.rule else {
            return Err(self.misplaced("an anchor", "only intervals have an anchor"));
        };
        interval.anchor = Some(anchor.into());
        self.check()
    }

    /// Sets what a monthly trigger does in months that are too short for its day. Default: [`ShortMonth::Skip`].
    ///
    /// # Errors
    /// When the trigger is no calendar interval.
    pub fn short_months(mut self, rule: ShortMonth) -> Result<Self, TriggerError> {
        let Rule::Calendar(calendar) = &mut self.rule else {
            return Err(self.misplaced("a rule for short months", "only calendar intervals have one"));
        };
        calendar.short = rule;
        self.check()
    }

    /// Lets the trigger fire only at `start` and later.
    ///
    /// # Errors
    /// When no firing is left.
    pub fn start_at(mut self, start: impl Into<Timestamp>) -> Result<Self, TriggerError> {
        self.start_at = Some(start.into());
        self.check()
    }

    /// Lets the trigger fire only at `end` and earlier.
    ///
    /// # Errors
    /// When no firing is left.
    pub fn end_at(mut self, end: impl Into<Timestamp>) -> Result<Self, TriggerError> {
        self.end_at = Some(end.into());
        self.check()
    }

    /// Spreads the runs: each run starts up to `most` after its nominal time, but always before the next nominal
    /// time. See [`runs_at`](Self::runs_at).
    ///
    /// # Errors
    /// When the jitter is longer than 100 years or has parts of a microsecond.
    pub fn jitter(mut self, most: Duration) -> Result<Self, TriggerError> {
        self.jitter_us = whole_us("jitter", most, 0)?;
        Ok(self)
    }
}
