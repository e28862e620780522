//! Types that the scheduler and a backend exchange.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::check_texts;
use crate::clock::Timestamp;
use crate::schedule::{FiringCause, Instance, ScheduleRecord, ScheduleStatus, SkippedTime};
use crate::task::{NodeId, ScheduleId, TaskId, TaskSpec, TaskState};

/// A schedule with the data that a decision about it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleState {
    /// Its row.
    pub record: ScheduleRecord,
    /// The reason why the row is invalid, if it is. The record then shows as much of it as possible, as paused.
    pub fault: Option<String>,
    /// Its tasks that are not terminal, in push order.
    pub live: Vec<Instance>,
    /// Nominal times after its cursor that have already made a task, in order. If there are very many, about the last
    /// 10,000.
    pub fired: Vec<Timestamp>,
    /// The number of its dead tasks, counted back by nominal time from the latest task to the first completed task. The
    /// count goes no further than [`failures_from`](ScheduleRecord::failures_from) or than `pause_after`; it is 0
    /// without `pause_after`. Deleted tasks count like stored tasks.
    pub failures: u32,
}

/// The maximum number of times in [`ScheduleState::fired`], for all schedules that are read together.
pub(crate) const MOST_FIRED: usize = 10_000;

/// Changes since a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleChanges {
    /// The present version.
    pub version: i64,
    /// Schedules saved since then, each with the time at which the scheduler must look at it. `None` for a schedule
    /// that does not fire. A schedule that fires but has no next time is due since 1970.
    pub due: Vec<(ScheduleId, Option<Timestamp>)>,
}

/// The result of saving a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The schedule is stored, with this turn.
    Stored {
        /// The turn that the next change must name.
        turn: i64,
    },
    /// A different schedule has this name.
    NameTaken,
    /// The row was changed or removed meanwhile.
    Stale,
}

/// A decision about one schedule, written wholly or not at all.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// The turn that the decision is based on. If the row has a different turn, the decision is not written.
    pub turn: i64,
    /// The time of the writer.
    pub now: Timestamp,
    /// The node that decided.
    pub node: NodeId,
    /// The new status of the schedule.
    pub status: ScheduleStatus,
    /// The reason of the status, if no caller requested it.
    pub reason: Option<String>,
    /// The time at which a pause ends by itself.
    pub paused_until: Option<Timestamp>,
    /// Times up to and including this time are handled.
    pub cursor: Timestamp,
    /// The time of the next firing.
    pub next_run_at: Option<Timestamp>,
    /// Tasks to create, each with its firing in its extras.
    pub runs: Vec<Run>,
    /// Times that are skipped and make no task.
    pub passed: Vec<SkippedTime>,
    /// Tasks to cancel first, the oldest in front.
    pub cancel: Vec<TaskId>,
    /// The minimum number of history rows to keep.
    pub keep_firings: u32,
    /// The minimum number of nominal times with a deleted task to remember. The row stores the latest forgotten time as
    /// [`forgotten_to`](ScheduleRecord::forgotten_to). No time up to and including it makes a task any more.
    pub keep_runs: u32,
}

/// The turn that follows `turn`, or the first turn of a new row. It only has to differ, so the largest number is
/// followed by a small number.
pub(crate) fn next_turn(turn: Option<i64>) -> i64 {
    turn.and_then(|turn| turn.checked_add(1)).unwrap_or(1)
}

/// A task to create.
#[derive(Clone, Debug)]
pub struct Run {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// The task is stored as `waiting` until the task named here is terminal. It does not wait for a task that no
    /// longer exists, or that the same turn cancels before it ran. In a turn that cancels tasks, `follows` names the
    /// task whose place the run takes. If that task has ended by the time of writing, the run waits for a different
    /// cancelled task that still runs.
    pub follows: Option<TaskId>,
    /// The cause of the run.
    pub cause: FiringCause,
}

/// The result of a [`Turn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// The turn is written. For each run the state in which its task is stored; `None` if the nominal time already had
    /// a task.
    Done(Vec<Option<TaskState>>),
    /// Nothing was written. Either the row had a different turn, was being written to, or no longer exists. Or a task
    /// that the turn cancels or waits for was being written to.
    Lost,
}

/// Selects schedules. Every field narrows the selection; the default matches all schedules except deleted ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleFilter {
    /// In any of these states; empty matches all states except `deleted`.
    pub statuses: Vec<ScheduleStatus>,
    /// That make tasks of any of these types; empty matches all types.
    pub types: Vec<String>,
    /// With this text in name or description. The case of ASCII letters is ignored, that of other letters is not. All
    /// texts of a filter together have at most 10,000 bytes.
    pub text: Option<String>,
}

impl ScheduleFilter {
    /// Checks the filter. The error names the fault.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_texts("filter", self.types.iter().chain(&self.text))
    }
}

/// The order of runs within a [`Turn`] when some of its runs are not stored. A run that would follow such a run follows
/// the run before it instead.
#[derive(Debug, Default)]
pub(crate) struct Chain(HashMap<TaskId, Option<TaskId>>);

impl Chain {
    /// Records a run that is not stored, and the task that it would have followed.
    pub(crate) fn leave_out(&mut self, task_id: TaskId, follows: Option<TaskId>) {
        self.0.insert(task_id, follows);
    }

    /// The task that a run really follows.
    pub(crate) fn resolve(&self, follows: Option<TaskId>) -> Option<TaskId> {
        let left_out = follows.and_then(|task_id| self.0.get(&task_id).copied());
        left_out.unwrap_or(follows)
    }
}

/// The task that each run of a turn waits for, if the turn cancels tasks. `ending` lists the tasks of [`Turn::cancel`]
/// that still run and that no task waits for, in the same order. The caller must read it under the locks under which
/// the turn is written.
///
/// The decision named a task that ran when the decision was made. Since then that task may have ended, and a waiting
/// task may have begun to run. Each task that still runs takes up a place, so one of the new runs has to wait for it.
/// That run is the run for which the decision named the task; otherwise it is the last run that waits for no task.
///
/// Pure.
pub(crate) fn replacing(turn: &Turn, mut ending: Vec<TaskId>) -> Vec<Option<TaskId>> {
    let named = |run: &Run| run.follows.filter(|task_id| !turn.cancel.contains(task_id));
    let mut follows: Vec<Option<TaskId>> = turn.runs.iter().map(named).collect();
    for (run, follows) in turn.runs.iter().zip(&mut follows) {
        if let Some(place) = ending.iter().position(|task_id| Some(*task_id) == run.follows) {
            *follows = Some(ending.remove(place));
        }
    }
    for follows in follows.iter_mut().rev().filter(|follows| follows.is_none()) {
        *follows = ending.pop();
    }
    follows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::task::NewTask;

    fn id(number: u128) -> TaskId {
        uuid::Uuid::from_u128(number).into()
    }

    fn turn(follows: &[Option<u128>], cancel: &[u128]) -> Turn {
        let now = Timestamp::default();
        let run = |follows: &Option<u128>| {
            let spec = NewTask::new("work", &())
                .into_spec(&Clock::manual(now), crate::task::Bounds::all(usize::MAX))
                .expect("a valid task");
            Run { spec: Arc::new(spec), follows: follows.map(id), cause: FiringCause::Schedule }
        };
        Turn {
            schedule_id: uuid::Uuid::nil().into(),
            turn: 1,
            now,
            node: uuid::Uuid::nil().into(),
            status: ScheduleStatus::Active,
            reason: None,
            paused_until: None,
            cursor: now,
            next_run_at: None,
            runs: follows.iter().map(run).collect(),
            passed: Vec::new(),
            cancel: cancel.iter().copied().map(id).collect(),
            keep_firings: 100,
            keep_runs: 100,
        }
    }

    #[test]
    fn who_waits_for_whom_is_decided_by_what_still_runs() {
        let n = None;
        /// Columns: named by the decision, cancelled, still running, expected task to wait for.
        type Row<'a> = (&'a [Option<u128>], &'a [u128], &'a [u128], &'a [Option<u128>]);
        let table: [Row<'_>; 14] = [
            (&[n], &[], &[], &[n]),
            // Nothing changed since the decision.
            (&[Some(1)], &[1], &[1], &[Some(1)]),
            (&[Some(2)], &[1, 2], &[1, 2], &[Some(2)]),
            (&[Some(1), Some(2)], &[1, 2], &[1, 2], &[Some(1), Some(2)]),
            // The named task has ended.
            (&[Some(1)], &[1], &[], &[n]),
            // The named task has ended, and the task that waited for it runs.
            (&[Some(1)], &[1, 2], &[2], &[Some(2)]),
            (&[Some(3)], &[1, 2, 3], &[1, 2], &[Some(2)]),
            // A task that should have been cancelled before it ran has begun to run.
            (&[n], &[1], &[1], &[Some(1)]),
            (&[Some(1), n], &[1, 2], &[1, 2], &[Some(1), Some(2)]),
            // One run had a free place; the second run takes the place of a task that has begun to run.
            (&[n, n], &[1], &[1], &[n, Some(1)]),
            // No two runs wait for the same task.
            (&[Some(1), Some(2)], &[1, 2], &[2], &[n, Some(2)]),
            (&[Some(1), Some(2)], &[1, 2, 3], &[2, 3], &[Some(3), Some(2)]),
            (&[Some(1), Some(1)], &[1], &[1], &[Some(1), n]),
            // A named task that is not cancelled stays the task to wait for.
            (&[Some(7)], &[1], &[1], &[Some(7)]),
        ];
        for (place, (named, cancel, ending, follows)) in table.into_iter().enumerate() {
            let ending = ending.iter().copied().map(id).collect();
            let follows: Vec<_> = follows.iter().map(|follows| follows.map(id)).collect();
            assert_eq!(replacing(&turn(named, cancel), ending), follows, "row {place}");
        }
    }
}
