//! Runs that the clock did not ask for: triggered runs and backfills.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::operations::{find, trigger};
use super::publish;
use super::turn::task;
use crate::backend::{BackendError, Fired, Instance, Run, Turn};
use crate::clock::Timestamp;
use crate::error::BoardError;
use crate::name::Name;
use crate::runtime::core::Core;
use crate::runtime::persistence::FireSchedules;
use crate::schedule::policy::KEPT_RUNS;
use crate::schedule::{FiringCause, ScheduleRecord};
use crate::task::{TaskId, TaskSpec, TaskState};

/// The most nominal times of a backfill.
const MOST: usize = 10_000;
/// The most tasks that are written in a transaction.
const AT_ONCE: usize = 200;
/// How often a turn is tried when other nodes write to the same schedule.
const TRIES: usize = 50;

/// The order in which the runs of a backfill go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillOrder {
    /// Each run waits until the run before it has ended. The first waits until the tasks of earlier backfills have
    /// ended.
    #[default]
    OneByOne,
    /// All runs may go at once, as far as the queue lets them.
    AllAtOnce,
}

/// The result of a backfill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backfilled {
    /// The tasks that it made, in the order of their nominal times.
    pub made: Vec<TaskId>,
    /// How many nominal times had a task already.
    pub already: u64,
}

/// A run at once, beside any other runs.
pub(crate) struct TriggerNow(pub(crate) Name);

/// Runs for the nominal times from `from` to `to`, both included.
pub(crate) struct Backfill {
    pub(crate) name: Name,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) order: BackfillOrder,
}

impl TriggerNow {
    pub(super) async fn run(self, core: &Arc<Core>) -> Result<TaskId, BoardError> {
        let mut nominal_at = core.clock.now();
        for _ in 0..TRIES {
            let made = make(core, &self.0, &[nominal_at], None, FiringCause::Manual).await?;
            if let Some(task_id) = made.into_iter().flatten().next() {
                return Ok(task_id);
            }
            // A different run has this very microsecond.
            nominal_at = nominal_at + Duration::from_micros(1);
        }
        Err(BoardError::Invalid(format!("schedule {:?} is triggered very often; try again", self.0)))
    }
}

impl Backfill {
    pub(super) async fn run(self, core: &Arc<Core>) -> Result<Backfilled, BoardError> {
        let Self { name, from, to, order } = self;
        if to > core.clock.now() {
            return Err(BoardError::Invalid("a backfill is for times that have passed; `to` lies ahead".into()));
        }
        if from > to {
            return Err(BoardError::Invalid(format!(
                "a backfill goes from the earlier time to the later; {from} is after {to}"
            )));
        }
        let state = find(core, &name).await?;
        let trigger = trigger(&state.record)?;
        known(&state.record, from)?;
        let before = Timestamp::from_micros(from.as_micros().saturating_sub(1));
        let times = std::iter::successors(trigger.next_after(before), |time| trigger.next_after(*time));
        let times: Vec<Timestamp> = times.take_while(|time| *time <= to).take(MOST + 1).collect();
        if times.len() > MOST {
            return Err(BoardError::Invalid(format!(
                "there are more than {MOST} times in between; take them in parts"
            )));
        }
        let mut report = Backfilled::default();
        for some in times.chunks(AT_ONCE) {
            let chain = (order == BackfillOrder::OneByOne).then(|| report.made.last().copied());
            let made = make(core, &name, some, chain, FiringCause::Backfill).await?;
            report.already += made.iter().filter(|made| made.is_none()).count() as u64;
            report.made.extend(made.into_iter().flatten());
        }
        Ok(report)
    }
}

/// Rejects a time for which it is no longer known whether it has run.
pub(super) fn known(record: &ScheduleRecord, from: Timestamp) -> Result<(), BoardError> {
    match record.forgotten_to.filter(|forgotten| from <= *forgotten) {
        Some(forgotten) => Err(BoardError::Invalid(format!(
            "which times of schedule {:?} have run is known after {forgotten} only; choose a later time than that",
            record.name
        ))),
        None => Ok(()),
    }
}

/// Makes tasks for nominal times; `None` for each time that had a task already. With a `chain` each task follows the
/// task before it, and the first follows the task in `chain`. If `chain` holds no task yet, the first follows the last
/// live task of an earlier backfill. Otherwise a call that is repeated after an error, or made for further times, would
/// start a second chain beside the first.
async fn make(
    core: &Arc<Core>,
    name: &Name,
    times: &[Timestamp],
    chain: Option<Option<TaskId>>,
    cause: FiringCause,
) -> Result<Vec<Option<TaskId>>, BoardError> {
    for _ in 0..TRIES {
        let state = find(core, name).await?;
        if let Some(fault) = state.fault {
            return Err(BoardError::Invalid(format!(
                "the row of schedule {name:?} makes no sense: {fault}; update it"
            )));
        }
        let chain = chain.map(|after| after.or(last_backfill(&state.live)));
        let (record, now) = (state.record, core.clock.now());
        let trigger = trigger(&record)?;
        let specs: Vec<Arc<TaskSpec>> =
            times.iter().map(|time| Arc::new(task(&record, &trigger, *time, now))).collect();
        let turn = Turn { runs: chained(&specs, chain, cause), ..unchanged(core, now, &record) };
        let outcome = core.ask(FireSchedules { turns: vec![turn.clone()] }).await?.pop();
        if let Some(Fired::Done(made)) = outcome {
            publish::runs(core, &record, &turn, &made);
            let id = |(spec, made): (&Arc<TaskSpec>, Option<TaskState>)| made.map(|_| spec.task_id);
            return Ok(specs.iter().zip(made).map(id).collect());
        }
        // A different node writes to the schedule.
        core.timeout(Duration::from_millis(5)).await;
    }
    let message = format!("schedule {name:?} was changed {TRIES} times meanwhile");
    Err(BackendError::Transient { operation: "fire", message }.into())
}

/// The last live task of a backfill.
fn last_backfill(live: &[Instance]) -> Option<TaskId> {
    live.iter().rev().find(|task| task.cause == FiringCause::Backfill).map(|task| task.task_id)
}

fn chained(specs: &[Arc<TaskSpec>], chain: Option<Option<TaskId>>, cause: FiringCause) -> Vec<Run> {
    let follows = |place: usize| match (chain, place.checked_sub(1)) {
        (None, _) => None,
        (Some(first), None) => first,
        (Some(_), Some(before)) => specs.get(before).map(|spec| spec.task_id),
    };
    let run = |(place, spec)| Run { spec: Arc::clone(spec), follows: follows(place), cause };
    specs.iter().enumerate().map(run).collect()
}

/// A turn that leaves the schedule as it is.
fn unchanged(core: &Core, now: Timestamp, record: &ScheduleRecord) -> Turn {
    Turn {
        schedule_id: record.schedule_id,
        turn: record.turn,
        now,
        node: core.node,
        status: record.status,
        reason: record.status_reason.clone(),
        paused_until: record.paused_until,
        cursor: record.cursor,
        next_run_at: record.next_run_at,
        runs: Vec::new(),
        passed: Vec::new(),
        cancel: Vec::new(),
        keep_firings: record.policy.keep_firings,
        keep_runs: KEPT_RUNS,
    }
}
