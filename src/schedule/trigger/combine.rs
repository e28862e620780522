//! Triggers made of other triggers.

use super::days::{Days, Month};
use super::error::TriggerError;
use super::wall::{Face, next_wall};
use super::zone::Zone;
use super::{Rule, Trigger};

/// The most parts of a trigger.
const MOST: usize = 32;

/// Fires when any of its parts fires.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AnyOf(pub(super) Vec<Trigger>);

impl AnyOf {
    pub(super) fn new(parts: Vec<Trigger>) -> Result<Self, TriggerError> {
        count("any_of", &parts)?;
        for part in &parts {
            let problem = match part {
                Trigger { rule: Rule::AnyOf(_), .. } => "is an any_of itself; list its parts instead",
                Trigger { jitter_us: 1.., .. } => "has a jitter; give it to the whole",
                _ => continue,
            };
            return Err(refuse("any_of", part, problem));
        }
        Ok(Self(parts))
    }

    /// The common zone of all parts that have a zone.
    pub(super) fn zone(&self) -> Option<Zone> {
        let mut zones = self.0.iter().filter_map(Trigger::zone);
        let first = zones.next()?;
        zones.all(|zone| zone == first).then_some(first)
    }
}

/// Fires when the clock matches all its parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AllOf {
    pub(super) parts: Vec<Trigger>,
    pub(super) zone: Zone,
    /// The times that all parts have in common.
    pub(super) face: Face,
}

impl AllOf {
    pub(super) fn new(parts: Vec<Trigger>) -> Result<Self, TriggerError> {
        count("all_of", &parts)?;
        let mut common: Option<(Zone, Face)> = None;
        for part in &parts {
            let (zone, face) = match part {
                Trigger { start_at: Some(_), .. }
                | Trigger { end_at: Some(_), .. }
                | Trigger { jitter_us: 1.., .. } => {
                    return Err(refuse("all_of", part, "has bounds or a jitter; give them to the whole"));
                }
                Trigger { rule: Rule::Cron(cron), .. } => (cron.zone, cron.face),
                Trigger { rule: Rule::Calendar(calendar), .. } => (calendar.zone, calendar.face()),
                _ => return Err(refuse("all_of", part, "is neither cron nor calendar")),
            };
            if part.floats != parts[0].floats {
                return Err(refuse("all_of", part, "is in another zone; give all parts the same, or none"));
            }
            common = match common {
                None => Some((zone, face)),
                Some((other, so_far)) if other == zone => Some((zone, so_far.and(face))),
                Some(_) => return Err(refuse("all_of", part, "is in another zone; give all parts the same")),
            };
        }
        let (zone, face) = common.unwrap_or((Zone::UTC, Face::NONE));
        let all = Self { parts, zone, face };
        match next_wall(&all.face, &all, all.first().saturating_mul(super::wall::DAY).max(0)) {
            Some(_) => Ok(all),
            None => Err(all.never()),
        }
    }

    fn never(&self) -> TriggerError {
        let parts: Vec<_> = self.parts.iter().map(Trigger::title).collect();
        TriggerError::NeverFires {
            what: format!("all_of {}", parts.join(" and ")),
            why: "no time of 400 years matches all parts".to_owned(),
        }
    }
}

impl Days for AllOf {
    fn within(&self, month: Month) -> u32 {
        self.parts.iter().fold(month.all(), |days, part| match &part.rule {
            _ if days == 0 => 0,
            Rule::Cron(cron) => days & cron.days.within(month),
            Rule::Calendar(calendar) => days & calendar.within(month),
            _ => 0,
        })
    }

    fn first(&self) -> i64 {
        let first = self.parts.iter().map(|part| match &part.rule {
            Rule::Cron(cron) => cron.days.first(),
            Rule::Calendar(calendar) => calendar.first(),
            _ => i64::MIN,
        });
        first.max().unwrap_or(i64::MIN)
    }
}

fn count(what: &'static str, parts: &[Trigger]) -> Result<(), TriggerError> {
    if (1..=MOST).contains(&parts.len()) {
        return Ok(());
    }
    let problem = format!("it has {} parts, not 1 to {MOST}", parts.len());
    Err(TriggerError::invalid(what, "list of parts", problem, "make several schedules, or join cron lists"))
}

fn refuse(what: &'static str, part: &Trigger, problem: &str) -> TriggerError {
    TriggerError::invalid(what, &part.title(), format!("this part {problem}"), "change the part or leave it out")
}
