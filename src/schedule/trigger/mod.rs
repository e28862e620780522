//! Triggers: at which times a schedule fires. Pure: no clock, no storage, no randomness.
//!
//! A [`Trigger`] maps a moment to the next moment at which it fires. An existing trigger fires at least once. A
//! trigger that would never fire is refused when it is made, or read.
//!
//! | file | content |
//! |---|---|
//! | `cron/` | cron expressions: fields, bounds, hints, and the parts that the `cron` package handles |
//! | `calendar`, `interval`, `date` | the other kinds |
//! | `combine` | any of, all of |
//! | `build` | how triggers are made in code |
//! | `days` | which days of a month match |
//! | `wall` | from wall-clock times to moments: the rule for summer time |
//! | `zone` | time zones |
//! | `text` | the three columns in storage |
//! | `describe/` | triggers in words |

mod build;
mod calendar;
mod combine;
mod cron;
mod date;
mod days;
mod describe;
mod error;
mod interval;
mod jitter;
mod text;
mod wall;
mod zone;

use std::time::Duration;

use chrono::{DateTime, FixedOffset, Offset, Utc};

pub use calendar::{CalendarUnit, ShortMonth};
pub use describe::Language;
pub(crate) use error::nearest;
pub use error::{CronField, TriggerError};
pub use text::TriggerText;
pub use zone::Zone;

use crate::clock::Timestamp;
use calendar::Calendar;
use combine::{AllOf, AnyOf};
use cron::Cron;
use date::Date;
use interval::Interval;
use wall::{FIRST, LAST, next_instant};

/// The times at which a schedule fires.
///
/// These times are *nominal*: they follow from the trigger alone, so every node computes the same times. They are
/// given in microseconds. Cron and calendar triggers fire on whole seconds. No trigger fires after the year 9999.
///
/// ```
/// use callboard::{Timestamp, Trigger, Zone};
/// use chrono::{DateTime, Utc};
/// let trigger = Trigger::cron("0 9 * * 1-5", "America/New_York".parse::<Zone>()?)?;
/// let friday = "2026-03-06T14:00:00Z".parse::<DateTime<Utc>>()?;
/// // Over the weekend clocks are set ahead.
/// let monday = "2026-03-09T13:00:00Z".parse::<DateTime<Utc>>()?;
/// assert_eq!(trigger.next_after(friday.into()), Some(monday.into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "TriggerText", into = "TriggerText")]
pub struct Trigger {
    rule: Rule,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    jitter_us: i64,
    /// True if no zone was given. The trigger then uses UTC until a board gives it the zone of the board.
    floats: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Cron(Box<Cron>),
    Interval(Interval),
    Calendar(Calendar),
    Date(Date),
    AnyOf(AnyOf),
    AllOf(AllOf),
}

impl Trigger {
    fn of(rule: Rule) -> Self {
        Self { rule, start_at: None, end_at: None, jitter_us: 0, floats: false }
    }

    /// The first nominal time after `moment`, or `None` when no time is left.
    ///
    /// The result is always later than `moment`. The search takes microseconds.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let from = match self.start_at {
            // Just before the start, so that the start itself may fire.
            Some(start) => moment.max(Timestamp::from_micros(start.as_micros().saturating_sub(1))),
            None => moment,
        };
        let next = self.rule.next(from, self.start_at)?;
        let over = self.end_at.is_some_and(|end| next > end) || next.as_micros().div_euclid(SECOND) > LAST;
        (!over).then_some(next)
    }

    /// The first `n` nominal times after `from`, or fewer if no more exist.
    ///
    /// ```
    /// use callboard::{Timestamp, Trigger, Zone};
    /// let hours = Trigger::cron("@hourly", Zone::UTC)?.preview(Timestamp::default(), 3);
    /// assert_eq!(hours.iter().map(|time| time.as_micros() / 3_600_000_000).collect::<Vec<_>>(), [1, 2, 3]);
    /// # Ok::<(), callboard::TriggerError>(())
    /// ```
    pub fn preview(&self, from: Timestamp, n: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next_after(from), |time| self.next_after(*time)).take(n).collect()
    }

    /// When the run of a nominal time starts: the nominal time plus a share of the jitter. The share follows from the
    /// name of the schedule and the nominal time, so it is the same on every node and at every call. The start is
    /// always before the next nominal time, however long the jitter is. So runs keep their order, and no run delays a
    /// later run.
    ///
    /// ```
    /// use callboard::{Timestamp, Trigger, Zone};
    /// use std::time::Duration;
    /// let trigger = Trigger::cron("@hourly", Zone::UTC)?.jitter(Duration::from_secs(30))?;
    /// let nominal = Timestamp::from_micros(3_600_000_000);
    /// let run = trigger.runs_at("cleanup", nominal);
    /// assert!(run >= nominal && run <= nominal + Duration::from_secs(30));
    /// assert_eq!(run, trigger.runs_at("cleanup", nominal));
    /// # Ok::<(), callboard::TriggerError>(())
    /// ```
    pub fn runs_at(&self, schedule: &str, nominal: Timestamp) -> Timestamp {
        if self.jitter_us == 0 {
            return nominal;
        }
        let gap =
            self.next_after(nominal).map_or(i64::MAX, |next| next.as_micros().saturating_sub(nominal.as_micros()));
        let most = self.jitter_us.min(gap.saturating_sub(1));
        nominal + Duration::from_micros(jitter::share(schedule, nominal, most.unsigned_abs()))
    }

    /// The wall-clock time that the trigger names for a nominal time, in its [`zone`](Self::zone). Without a zone
    /// this is UTC.
    ///
    /// When the clock is set ahead, it skips some times. A run at a skipped time starts at the moment of the change.
    /// In this case the result is the time that the trigger names, with the offset of the clock before the change.
    /// Read as a moment, the result lies after the nominal time.
    ///
    /// ```
    /// use callboard::{Trigger, Zone};
    /// use chrono::{DateTime, Utc};
    /// // In Nuuk the last hour of 2026-03-28 is left out.
    /// let trigger = Trigger::cron("30 23 * * *", "America/Nuuk".parse::<Zone>()?)?;
    /// let nominal = "2026-03-29T01:00:00Z".parse::<DateTime<Utc>>()?;
    /// assert_eq!(trigger.next_after("2026-03-28T12:00:00Z".parse::<DateTime<Utc>>()?.into()), Some(nominal.into()));
    /// assert_eq!(trigger.local_time(nominal).to_rfc3339(), "2026-03-28T23:30:00-02:00");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn local_time(&self, nominal: impl Into<Timestamp>) -> DateTime<FixedOffset> {
        let nominal = nominal.into();
        let zone = self.zone().unwrap_or(Zone::UTC);
        let (second, part) = (nominal.as_micros().div_euclid(SECOND), nominal.as_micros().rem_euclid(SECOND));
        let shown = || (second + zone.offset_at(second), zone.offset_at(second));
        // Triggers on the wall clock fire on whole seconds. A time between two seconds comes from a run that was
        // requested by hand.
        let (wall, offset) = self.rule.named(nominal).filter(|_| part == 0).unwrap_or_else(shown);
        // Every offset of a zone is less than a day.
        let offset = FixedOffset::east_opt(i32::try_from(offset).unwrap_or_default()).unwrap_or_else(|| Utc.fix());
        let moment = wall - i64::from(offset.local_minus_utc());
        Timestamp::from_micros(moment.saturating_mul(SECOND).saturating_add(part))
            .to_datetime()
            .with_timezone(&offset)
    }

    /// The longest time between a nominal time and its run.
    pub(crate) fn longest_jitter(&self) -> Duration {
        Duration::from_micros(self.jitter_us.unsigned_abs())
    }

    /// The zone whose clock the trigger follows. `None` for intervals, for dates in UTC, and for parts in several
    /// zones.
    pub fn zone(&self) -> Option<Zone> {
        match &self.rule {
            Rule::Cron(cron) => Some(cron.zone),
            Rule::Calendar(calendar) => Some(calendar.zone),
            Rule::Date(Date::Local(_, zone)) => Some(*zone),
            Rule::AllOf(all) => Some(all.zone),
            Rule::AnyOf(any) => any.zone(),
            Rule::Interval(_) | Rule::Date(Date::Moment(_)) => None,
        }
    }

    /// Refuses a trigger that never fires, and times that no text can hold.
    fn check(self) -> Result<Self, TriggerError> {
        let anchor = if let Rule::Interval(interval) = &self.rule { interval.anchor } else { None };
        let outside = |moment: &Timestamp| !(FIRST..=LAST).contains(&moment.as_micros().div_euclid(SECOND));
        if let Some(moment) = [self.start_at, self.end_at, anchor].into_iter().flatten().find(outside) {
            let text = moment.to_string();
            return Err(TriggerError::invalid("time", &text, "it is not in the years 1 to 9999", "choose another"));
        }
        if self.next_after(Timestamp::from_micros(i64::MIN)).is_some() {
            return Ok(self);
        }
        let why = match (self.start_at, self.end_at) {
            (Some(start), Some(end)) => format!("it has no time from {start} to {end}"),
            (Some(start), None) => format!("it has no time from {start} on"),
            (None, Some(end)) => format!("it has no time up to {end}"),
            (None, None) => "all its times lie beyond the year 9999".to_owned(),
        };
        Err(TriggerError::NeverFires { what: self.title(), why })
    }

    /// The kind and the expression of the trigger, for errors.
    fn title(&self) -> String {
        format!("{} trigger {:?}", self.kind(), error::cut(&self.rule_expr()))
    }

    fn misplaced(&self, what: &'static str, problem: &str) -> TriggerError {
        TriggerError::invalid(what, &self.title(), problem, "leave it away, or choose another kind of trigger")
    }
}

const SECOND: i64 = 1_000_000;

impl Rule {
    fn next(&self, after: Timestamp, start_at: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => on_clock(cron.zone, &cron.face, &cron.days, after),
            Self::Calendar(calendar) => on_clock(calendar.zone, &calendar.face(), calendar, after),
            Self::AllOf(all) => on_clock(all.zone, &all.face, all, after),
            Self::Interval(interval) => interval.next(after, start_at),
            Self::Date(date) => Some(date.moment()).filter(|moment| *moment > after),
            Self::AnyOf(any) => any.0.iter().filter_map(|part| part.next_after(after)).min(),
        }
    }

    /// The wall time that the rule names for a moment in whole seconds, and its offset. `None` when no clock is
    /// involved.
    fn named(&self, nominal: Timestamp) -> Option<(i64, i64)> {
        let second = nominal.as_micros().div_euclid(SECOND);
        match self {
            Self::Cron(cron) => Some(wall::named(cron.zone, &cron.face, &cron.days, second)),
            Self::Calendar(calendar) => Some(wall::named(calendar.zone, &calendar.face(), calendar, second)),
            Self::AllOf(all) => Some(wall::named(all.zone, &all.face, all, second)),
            Self::Date(date) => date.left_out().filter(|_| date.moment() == nominal),
            Self::AnyOf(any) => {
                // Only when all parts are in the same zone: the parts that fire at this moment.
                any.zone()?;
                let before = Timestamp::from_micros(nominal.as_micros().saturating_sub(1));
                let fires = |part: &&Trigger| part.next_after(before) == Some(nominal);
                let names = any.0.iter().filter(fires).filter_map(|part| part.rule.named(nominal));
                // A time that the clock shows wins over a time that it skips, as within a single expression.
                names.max_by_key(|(wall, _)| *wall)
            }
            Self::Interval(_) => None,
        }
    }
}

/// Searches in whole seconds, because matching times are whole seconds.
fn on_clock(zone: Zone, face: &wall::Face, days: &impl days::Days, after: Timestamp) -> Option<Timestamp> {
    let second = after.as_micros().div_euclid(SECOND);
    if second >= LAST {
        return None;
    }
    let next = next_instant(zone, face, days, second.max(FIRST))?;
    Some(Timestamp::from_micros(next * SECOND))
}
