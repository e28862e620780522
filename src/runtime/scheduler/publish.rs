//! Publishes a decision that was written.

use slog::{info, warn};

use crate::backend::{ScheduleState, Turn};
use crate::logging::keys;
use crate::runtime::core::Core;
use crate::runtime::events::{Event, Fact};
use crate::runtime::worker::CancelReason;
use crate::schedule::{ScheduleRecord, ScheduleStatus};
use crate::task::TaskState;

/// Publishes a decision by the clock.
pub(super) fn decided(core: &Core, state: &ScheduleState, turn: &Turn, made: &[Option<TaskState>]) {
    let record = &state.record;
    runs(core, record, turn, made);
    // A row that makes no sense is shown as paused before it is.
    let stops = turn.status != record.status || state.fault.is_some();
    if stops && turn.status != ScheduleStatus::Active {
        let reason = turn.reason.clone().unwrap_or_default();
        warn!(core.log, "a schedule does not go on"; keys::SCHEDULE => %record.name, keys::STATUS => %turn.status,
            keys::REASON => &reason);
        core.events.publish(|| Event::ScheduleStopped { schedule: record.name.clone(), status: turn.status, reason });
    }
}

/// Publishes the tasks that were made and the times that were passed by, and ends the runs that were called off.
pub(super) fn runs(core: &Core, record: &ScheduleRecord, turn: &Turn, made: &[Option<TaskState>]) {
    for (run, state) in turn.runs.iter().zip(made) {
        let (Some(state), Some(firing)) = (state, run.spec.extras().firing) else { continue };
        core.events.publish(|| Event::ScheduleFired {
            schedule: record.name.clone(),
            nominal_at: firing.nominal_at,
            task_id: run.spec.task_id,
            cause: run.cause,
        });
        core.events.publish(|| Fact::pushed(*state, &run.spec, turn.now));
        core.inbox.hand_in(|g| g.hints.push(run.spec.queue.clone()));
    }
    for passed in &turn.passed {
        info!(core.log, "a schedule's time was passed by"; keys::SCHEDULE => %record.name,
            keys::NOMINAL_AT => %passed.nominal_at, keys::STATUS => %passed.status, keys::COUNT => passed.times);
        core.events.publish(|| Event::SchedulePassed {
            schedule: record.name.clone(),
            nominal_at: passed.nominal_at,
            status: passed.status,
            times: passed.times,
            reason: passed.reason.clone(),
        });
    }
    for task_id in &turn.cancel {
        // Cancels the run if it runs here. A different node finds the request with its upkeep.
        core.cancel_run(*task_id, &CancelReason::Requested("a later run takes its place".into()));
        core.awaited.ended(*task_id);
    }
}
