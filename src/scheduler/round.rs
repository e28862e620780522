//! One round of the scheduler, whoever asks for it: what is due fires.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use slog::{info, warn};

use super::decide::{Decision, Situation, parked};
use super::overlap::Follows;
use super::policy::KEPT_RUNS;
use super::record::{FiringCause, ScheduleRecord, ScheduleStatus};
use super::template::Places;
use super::trigger::{Trigger, Zone};
use crate::backend::{BackendError, Fired, Run, ScheduleState, Turn};
use crate::clock::Timestamp;
use crate::core::Core;
use crate::events::{Event, Fact};
use crate::logging::keys;
use crate::persistence::{FireSchedules, LookForSchedules, ReadSchedules};
use crate::task::TaskSpec;
use crate::worker::CancelReason;

/// Schedules that fire in one transaction: what runs first need not wait for the last, and a node that freezes in the
/// middle holds up no more.
const MOST_AT_ONCE: usize = 64;

/// The pause before a schedule is looked at again that another node writes to.
const AFTER_ANOTHER: Duration = Duration::from_millis(20);

/// Fires what is due; safe to repeat at any time. Of many nodes that do so at once, one is first for each schedule.
pub(crate) async fn round(core: &Core) -> Result<(), BackendError> {
    let _round = core.agenda.round.lock().await;
    look(core).await?;
    // A node that may not claim may not fire either: it does not know what others have done meanwhile.
    while core.may_claim() {
        let now = core.clock.now();
        let due = core.agenda.due(now, MOST_AT_ONCE);
        if due.is_empty() {
            break;
        }
        let states = core.persistence.ask(ReadSchedules { ids: due.clone() }).await?;
        let there: HashSet<_> = states.iter().map(|state| state.record.schedule_id).collect();
        for id in due.iter().filter(|id| !there.contains(id)) {
            core.agenda.set(*id, None);
        }
        fire(core, now, &states).await?;
    }
    Ok(())
}

/// Learns of schedules that were saved, by whomever.
async fn look(core: &Core) -> Result<(), BackendError> {
    let began = core.clock.elapsed();
    let Some(version) = core.agenda.look_from(began) else { return Ok(()) };
    match core.persistence.ask(LookForSchedules { version }).await {
        Ok(changes) => {
            core.agenda.learn(version, changes, began, core.clock.elapsed());
            Ok(())
        }
        Err(error) => {
            core.agenda.look_again();
            Err(error)
        }
    }
}

async fn fire(core: &Core, now: Timestamp, states: &[ScheduleState]) -> Result<(), BackendError> {
    let mut turns = Vec::new();
    for state in states {
        match turn(core, now, state) {
            Some(turn) => turns.push(turn),
            None => core.agenda.set(state.record.schedule_id, due(&state.record)),
        }
    }
    if turns.is_empty() {
        return Ok(());
    }
    // In one order on all nodes, so that two of them do not wait for each other.
    turns.sort_unstable_by_key(|turn| turn.schedule_id);
    let outcomes = core.persistence.ask(FireSchedules { turns: turns.clone() }).await?;
    for (turn, outcome) in turns.iter().zip(outcomes) {
        match outcome {
            Fired::Done(made) => {
                let mut records = states.iter().map(|state| &state.record);
                if let Some(record) = records.find(|record| record.schedule_id == turn.schedule_id) {
                    tell(core, record, turn, &made);
                }
                let next = turn.next_run_at.filter(|_| turn.status == ScheduleStatus::Active);
                core.agenda.set(turn.schedule_id, next);
            }
            // Another node is at it, or was first. The row is read again, and says what is left to do.
            Fired::Lost if core.backend.capabilities().shared => {
                core.agenda.set(turn.schedule_id, Some(now + AFTER_ANOTHER));
            }
            Fired::Lost => {}
        }
    }
    Ok(())
}

/// When a schedule is to be looked at again.
fn due(record: &ScheduleRecord) -> Option<Timestamp> {
    match record.status {
        ScheduleStatus::Active => Some(record.next_run_at.unwrap_or_default()),
        ScheduleStatus::Paused => record.paused_until,
        ScheduleStatus::Finished | ScheduleStatus::Deleted => None,
    }
}

/// What to write for a schedule; nothing when its row says already what is so.
fn turn(core: &Core, now: Timestamp, state: &ScheduleState) -> Option<Turn> {
    let record = &state.record;
    let trigger = match state.fault.clone().or_else(|| record.task.fault()) {
        None => record.read_trigger().map_err(|error| error.to_string()),
        Some(fault) => Err(fault),
    };
    match trigger {
        Ok(trigger) => {
            let decision =
                Situation { record, trigger: &trigger, now, live: &state.live, failures: state.failures }.decide()?;
            Some(written(core, now, record, &trigger, decision))
        }
        Err(why) => Some(Turn {
            runs: Vec::new(),
            ..blank(core, now, record, parked(record, &format!("its row makes no sense: {why}")))
        }),
    }
}

/// A decision as it is written.
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
        zone: trigger.zone().unwrap_or(Zone::UTC),
        nominal_at,
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

/// Tells everyone what was written.
pub(super) fn tell(core: &Core, record: &ScheduleRecord, turn: &Turn, made: &[Option<crate::task::TaskState>]) {
    for (run, state) in turn.runs.iter().zip(made) {
        let (Some(state), Some(firing)) = (state, run.spec.extras().firing) else { continue };
        core.events.publish(|| Event::ScheduleFired {
            schedule: record.name.clone(),
            nominal_at: firing.nominal_at,
            task_id: run.spec.task_id,
            cause: run.cause,
        });
        core.events.publish(|| Fact::pushed(*state, &run.spec, turn.now));
        core.desk.hand_in(|g| g.hints.push(run.spec.queue.clone()));
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
        // Here, if it runs here; another node finds the request with its upkeep.
        core.crew.cancel(*task_id, &CancelReason::Requested("a later run takes its place".into()));
        core.awaited.ended(*task_id);
    }
    if turn.status != record.status && turn.status != ScheduleStatus::Active {
        let reason = turn.reason.clone().unwrap_or_default();
        warn!(core.log, "a schedule does not go on"; keys::SCHEDULE => %record.name, keys::STATUS => %turn.status,
            keys::REASON => &reason);
        core.events.publish(|| Event::ScheduleStopped { schedule: record.name.clone(), status: turn.status, reason });
    }
}
