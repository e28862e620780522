//! From a decision to the turn that is written.

use std::sync::Arc;

use crate::backend::{Run, ScheduleState, Turn};
use crate::clock::Timestamp;
use crate::runtime::core::Core;
use crate::schedule::decide::{Decision, Situation, parked};
use crate::schedule::overlap::Follows;
use crate::schedule::policy::KEPT_RUNS;
use crate::schedule::template::Places;
use crate::schedule::trigger::Trigger;
use crate::schedule::{FiringCause, ScheduleRecord, ScheduleStatus};
use crate::task::TaskSpec;

/// When a schedule is to be looked at again.
pub(super) fn due(record: &ScheduleRecord) -> Option<Timestamp> {
    match record.status {
        ScheduleStatus::Active => Some(record.next_run_at.unwrap_or_default()),
        ScheduleStatus::Paused => record.paused_until,
        ScheduleStatus::Finished | ScheduleStatus::Deleted => None,
    }
}

/// The turn to write for a schedule; `None` when its row is right already.
pub(super) fn turn(core: &Core, now: Timestamp, state: &ScheduleState) -> Option<Turn> {
    let record = &state.record;
    // A schedule that is over does not come back, regardless of the rest of its row.
    if matches!(record.status, ScheduleStatus::Finished | ScheduleStatus::Deleted) {
        return None;
    }
    let trigger = match state.fault.clone().or_else(|| record.task.fault()) {
        None => record.read_trigger().map_err(|error| error.to_string()),
        Some(fault) => Err(fault),
    };
    match trigger {
        Ok(trigger) => {
            let decision = Situation {
                record,
                trigger: &trigger,
                now,
                live: &state.live,
                fired: &state.fired,
                failures: state.failures,
            }
            .decide()?;
            Some(written(core, now, record, &trigger, decision))
        }
        Err(why) => Some(Turn {
            runs: Vec::new(),
            ..blank(core, now, record, parked(record, &format!("its row makes no sense: {why}")))
        }),
    }
}

/// A decision in the form in which it is written.
fn written(core: &Core, now: Timestamp, record: &ScheduleRecord, trigger: &Trigger, decision: Decision) -> Turn {
    let specs: Vec<Arc<TaskSpec>> =
        decision.runs.iter().map(|go| Arc::new(task(record, trigger, go.nominal_at, now))).collect();
    let follows = |follows| match follows {
        Follows::Nothing => None,
        Follows::Stored(task_id) => Some(task_id),
        Follows::Run(place) => specs.get(place).map(|spec| spec.task_id),
    };
    let runs = decision.runs.iter().zip(&specs).map(|(go, spec)| Run {
        spec: Arc::clone(spec),
        follows: follows(go.follows),
        cause: FiringCause::Schedule,
    });
    let runs = runs.collect();
    Turn { runs, ..blank(core, now, record, decision) }
}

/// The task of a firing.
pub(super) fn task(record: &ScheduleRecord, trigger: &Trigger, nominal_at: Timestamp, now: Timestamp) -> TaskSpec {
    let places = Places {
        schedule_id: record.schedule_id,
        name: &record.name,
        nominal_at,
        local: trigger.local_time(nominal_at),
    };
    record.task.task(&places, now)
}

fn blank(core: &Core, now: Timestamp, record: &ScheduleRecord, decision: Decision) -> Turn {
    Turn {
        schedule_id: record.schedule_id,
        turn: record.turn,
        now,
        node: core.node,
        status: decision.status,
        reason: decision.reason,
        paused_until: None,
        cursor: decision.cursor,
        next_run_at: decision.next_run_at,
        runs: Vec::new(),
        passed: decision.passed,
        cancel: decision.cancel,
        keep_firings: record.policy.keep_firings,
        keep_runs: KEPT_RUNS,
    }
}
