//! Operations on schedules while the board runs: each is a message to the scheduler.

mod change;
mod define;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::change::find;
pub(super) use self::change::trigger;
use self::change::{Faulty, TRIES, busy, change, change_knowing, check, give_way, has_times, make};
pub(crate) use self::define::Define;
use super::backfill::{Backfill, TriggerNow, known};
use super::ticker::Operation;
use crate::clock::Timestamp;
use crate::error::BoardError;
use crate::name::Name;
use crate::runtime::core::Core;
use crate::schedule::{Schedule, ScheduleRecord, ScheduleStatus};

/// How a schedule goes on after a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// Times that fell into the pause are left out, and not reported.
    #[default]
    FromNow,
    /// The times of the pause are due now, and the schedule's rules decide which of them run.
    CatchUp,
}

/// Makes a schedule; its name must be free.
pub(crate) struct Create(pub(crate) Schedule);
/// Replaces the whole definition of a schedule.
pub(crate) struct Update(pub(crate) Name, pub(crate) Schedule);
/// Makes a schedule, or replaces its definition.
pub(crate) struct Upsert(pub(crate) Schedule);
/// Pauses a schedule, for ever or until a time.
pub(crate) struct Pause(pub(crate) Name, pub(crate) Option<Timestamp>);
/// Lets a paused schedule go on.
pub(crate) struct GoOn(pub(crate) Name, pub(crate) Resume);
/// Deletes a schedule.
pub(crate) struct Delete(pub(crate) Name);
/// Sets the cursor: the time up to which nominal times are dealt with.
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
        let apply = |record: &mut ScheduleRecord, now| {
            let before = record.trigger.clone();
            definition.clone().apply_to(record, now);
            // A finished schedule may get a new description, and stays finished.
            if record.trigger != before { has_times(&definition, record.cursor).map(|()| true) } else { Ok(true) }
        };
        match change(core, &name, Faulty::Mended, apply).await {
            Err(BoardError::ScheduleExists(_)) if give_way(core, &definition.name).await? => {
                change(core, &name, Faulty::Mended, apply).await
            }
            outcome => outcome,
        }
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
        change_knowing(core, &name, Faulty::Refused, |record, fired, now| {
            if record.status == ScheduleStatus::Active {
                return Ok(false);
            }
            let trigger = trigger(record)?;
            let failures_from = match resume {
                Resume::FromNow => {
                    record.cursor = record.cursor.max(now);
                    now
                }
                // Failures of the runs that make up for the pause count, because the times of these runs lie before
                // now. Failures of times after the cursor that have run already do not count: they were requested by
                // hand, or the cursor was moved back. Otherwise they would pause the schedule again at once.
                Resume::CatchUp => fired.last().map_or(record.cursor, |last| record.cursor.max(*last)),
            };
            go_on(record, failures_from);
            record.plan_next(&trigger);
            if record.status == ScheduleStatus::Finished {
                let reason = record.status_reason.take().unwrap_or_default();
                return Err(BoardError::Invalid(format!("schedule {name:?} cannot go on: {reason}; update it")));
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
            // The cursor itself is dealt with, so it may be equal to the last forgotten time.
            known(record, to + Duration::from_micros(1))?;
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

fn go_on(record: &mut ScheduleRecord, failures_from: Timestamp) {
    record.status = ScheduleStatus::Active;
    record.status_reason = None;
    record.paused_until = None;
    record.failures_from = failures_from;
}
