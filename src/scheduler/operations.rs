//! What is done to schedules while the board runs: each of these is a message to the scheduler.

use std::future::Future;
use std::sync::Arc;

use super::backfill::{Backfill, TriggerNow};
use super::record::{ScheduleRecord, ScheduleStatus};
use super::schedule::Schedule;
use super::trigger::Trigger;
use crate::backend::{Saved, ScheduleState};
use crate::clock::Timestamp;
use crate::core::Core;
use crate::error::BoardError;
use crate::name::Name;
use crate::persistence::{NameToSchedule, ReadSchedules, SaveSchedule};

/// Times that a change is made anew when the row changed under it.
const TRIES: usize = 50;

/// A change to a schedule.
pub(crate) trait Operation: Send + 'static {
    /// What comes back.
    type Answer: Send + 'static;

    /// Does it.
    fn apply(self, core: &Arc<Core>) -> impl Future<Output = Result<Self::Answer, BoardError>>;
}

/// How a schedule comes back from a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// Times that fell into the pause are left out, and not told of.
    #[default]
    FromNow,
    /// They are due now, and its rules say which of them run.
    CatchUp,
}

/// Makes a schedule; its name must be free.
pub(crate) struct Create(pub(crate) Schedule);
/// Replaces all that its definition says.
pub(crate) struct Update(pub(crate) Name, pub(crate) Schedule);
/// Makes it, or replaces what its definition says.
pub(crate) struct Upsert(pub(crate) Schedule);
/// The same for code, which leaves what was changed at run time alone until the code changes.
pub(crate) struct Define(pub(crate) Schedule);
/// Lets it wait, for ever or until a time.
pub(crate) struct Pause(pub(crate) Name, pub(crate) Option<Timestamp>);
/// Lets it go on.
pub(crate) struct GoOn(pub(crate) Name, pub(crate) Resume);
/// Deletes it.
pub(crate) struct Delete(pub(crate) Name);
/// Sets up to where its times are dealt with.
pub(crate) struct MoveCursor(pub(crate) Name, pub(crate) Timestamp);

impl Operation for Create {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        make(core, self.0, false).await
    }
}

impl Operation for Update {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        let Self(name, schedule) = self;
        let definition = check(core, schedule)?;
        change(core, &name, Faulty::Mended, |record, now| {
            definition.clone().apply_to(record, now);
            Ok(true)
        })
        .await
    }
}

impl Operation for Upsert {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        let name = self.0.name.clone();
        for _ in 0..TRIES {
            match Update(name.clone(), self.0.clone()).apply(core).await {
                Err(BoardError::NoSuchSchedule(_)) => {}
                outcome => return outcome,
            }
            match make(core, self.0.clone(), false).await {
                Err(BoardError::ScheduleExists(_)) => {}
                outcome => return outcome,
            }
        }
        Err(busy(&name))
    }
}

impl Operation for Define {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        let name = self.0.name.clone();
        let definition = check(core, self.0.clone())?;
        let text = definition.text();
        for _ in 0..TRIES {
            let stored = match find_any(core, &name).await? {
                Some(state) => state.record,
                None => match make(core, self.0.clone(), true).await {
                    // Another node was first.
                    Err(BoardError::ScheduleExists(_)) => continue,
                    outcome => return outcome,
                },
            };
            if stored.code.as_ref() == Some(&text) {
                return Ok(stored);
            }
            let mut record = stored;
            let (turn, now) = (record.turn, core.clock.now());
            if record.status == ScheduleStatus::Deleted {
                record.status = ScheduleStatus::Active;
                record.cursor = record.cursor.max(now);
            }
            definition.clone().apply_to(&mut record, now);
            record.code = Some(text.clone());
            if let Some(record) = save(core, record, Some(turn)).await? {
                return Ok(record);
            }
        }
        Err(busy(&name))
    }
}

impl Operation for Pause {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        let Self(name, until) = self;
        change(core, &name, Faulty::Refused, |record, now| {
            if until.is_some_and(|until| until <= now) {
                return Err(BoardError::Invalid("a pause ends in the future".into()));
            }
            if record.status == ScheduleStatus::Finished {
                return Err(BoardError::Invalid(format!("schedule {name:?} is finished; there is nothing to pause")));
            }
            record.status = ScheduleStatus::Paused;
            record.status_reason = None;
            record.paused_until = until;
            record.next_run_at = until;
            Ok(true)
        })
        .await
    }
}

impl Operation for GoOn {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        let Self(name, resume) = self;
        change(core, &name, Faulty::Refused, |record, now| {
            if record.status == ScheduleStatus::Active {
                return Ok(false);
            }
            let trigger = trigger(record)?;
            if resume == Resume::FromNow {
                record.cursor = record.cursor.max(now);
            }
            go_on(record, now);
            record.plan_next(&trigger);
            if record.status == ScheduleStatus::Finished {
                return Err(BoardError::Invalid(format!(
                    "schedule {name:?} has no time left; give it a new trigger"
                )));
            }
            Ok(true)
        })
        .await
    }
}

impl Operation for Delete {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        change(core, &self.0, Faulty::Shown, |record, _| {
            record.status = ScheduleStatus::Deleted;
            record.status_reason = None;
            record.paused_until = None;
            record.next_run_at = None;
            Ok(true)
        })
        .await
    }
}

impl Operation for MoveCursor {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        let Self(name, to) = self;
        change(core, &name, Faulty::Refused, |record, _| {
            let trigger = trigger(record)?;
            record.cursor = to;
            if record.status == ScheduleStatus::Finished {
                record.status = ScheduleStatus::Active;
                record.status_reason = None;
            }
            record.plan_next(&trigger);
            Ok(true)
        })
        .await
    }
}

impl Operation for TriggerNow {
    type Answer = crate::task::TaskId;
    async fn apply(self, core: &Arc<Core>) -> Result<Self::Answer, BoardError> {
        self.run(core).await
    }
}

impl Operation for Backfill {
    type Answer = super::backfill::Backfilled;
    async fn apply(self, core: &Arc<Core>) -> Result<Self::Answer, BoardError> {
        self.run(core).await
    }
}

fn go_on(record: &mut ScheduleRecord, now: Timestamp) {
    record.status = ScheduleStatus::Active;
    record.status_reason = None;
    record.paused_until = None;
    record.failures_from = now;
}

fn check(core: &Core, schedule: Schedule) -> Result<super::schedule::Definition, BoardError> {
    schedule.check(&core.clock, core.config.max_params_bytes).map_err(BoardError::Invalid)
}

pub(super) fn trigger(record: &ScheduleRecord) -> Result<Trigger, BoardError> {
    record.read_trigger().map_err(|error| BoardError::Invalid(format!("schedule {:?}: {error}", record.name)))
}

fn busy(name: &Name) -> BoardError {
    BoardError::Invalid(format!("schedule {name:?} was changed {TRIES} times meanwhile; try again"))
}

/// Makes a schedule; the row of a deleted one with its name is taken over.
async fn make(core: &Core, schedule: Schedule, by_code: bool) -> Result<ScheduleRecord, BoardError> {
    let definition = check(core, schedule)?;
    let name = definition.name.clone();
    let code = by_code.then(|| definition.text());
    let mut record = ScheduleRecord { code, ..definition.record(core.clock.now()) };
    let turn = match find_any(core, &name).await? {
        None => None,
        Some(before) if before.record.status == ScheduleStatus::Deleted => {
            record.schedule_id = before.record.schedule_id;
            record.code = record.code.or(before.record.code);
            Some(before.record.turn)
        }
        Some(_) => return Err(BoardError::ScheduleExists(name)),
    };
    save(core, record, turn).await?.ok_or(BoardError::ScheduleExists(name))
}

/// What is done with a row that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faulty {
    /// Only a new definition helps.
    Refused,
    /// This is one.
    Mended,
    /// It goes anyway.
    Shown,
}

/// Reads a schedule, changes it, and writes it; anew when somebody else was faster. Without a change it is left.
async fn change(
    core: &Core,
    name: &Name,
    faulty: Faulty,
    mut change: impl FnMut(&mut ScheduleRecord, Timestamp) -> Result<bool, BoardError>,
) -> Result<ScheduleRecord, BoardError> {
    for _ in 0..TRIES {
        let state = find(core, name).await?;
        if let Some(fault) = state.fault.filter(|_| faulty == Faulty::Refused) {
            return Err(BoardError::Invalid(format!(
                "the row of schedule {name:?} makes no sense: {fault}; update it"
            )));
        }
        let (mut record, now) = (state.record, core.clock.now());
        let turn = record.turn;
        if !change(&mut record, now)? {
            return Ok(record);
        }
        record.updated_at = now;
        if let Some(record) = save(core, record, Some(turn)).await? {
            return Ok(record);
        }
    }
    Err(busy(name))
}

/// Writes a schedule; nothing when it changed meanwhile.
async fn save(core: &Core, record: ScheduleRecord, turn: Option<i64>) -> Result<Option<ScheduleRecord>, BoardError> {
    match core.ask(SaveSchedule { record: record.clone(), turn }).await? {
        Saved::Stored { turn } => {
            core.agenda.ring();
            Ok(Some(ScheduleRecord { turn, ..record }))
        }
        Saved::NameTaken => Err(BoardError::ScheduleExists(record.name)),
        Saved::Stale => Ok(None),
    }
}

/// A schedule that is there, and not deleted.
pub(crate) async fn find(core: &Core, name: &Name) -> Result<ScheduleState, BoardError> {
    let state = find_any(core, name).await?;
    let there = state.filter(|state| state.record.status != ScheduleStatus::Deleted);
    there.ok_or_else(|| BoardError::NoSuchSchedule(name.clone()))
}

async fn find_any(core: &Core, name: &Name) -> Result<Option<ScheduleState>, BoardError> {
    let Some(id) = core.ask(NameToSchedule { name: name.to_string() }).await? else { return Ok(None) };
    Ok(core.ask(ReadSchedules { ids: vec![id] }).await?.pop())
}
