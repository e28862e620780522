//! What travels between the scheduler and a backend.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::check_texts;
use crate::clock::Timestamp;
use crate::schedule::{FiringCause, Instance, ScheduleRecord, ScheduleStatus, SkippedTime};
use crate::task::ScheduleId;
use crate::task::{NodeId, TaskId, TaskSpec, TaskState};

/// A schedule with what a decision about it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleState {
    /// Its row.
    pub record: ScheduleRecord,
    /// Why the row makes no sense, if it does not; the record then shows it as well as possible, as paused.
    pub fault: Option<String>,
    /// Its tasks that are not at their end, in push order.
    pub live: Vec<Instance>,
    /// Nominal times after its cursor that have made a task already, in order; of very many the last 10,000 or so.
    pub fired: Vec<Timestamp>,
    /// Its tasks that are dead, counted back by nominal time from the latest to the first that was completed, and no
    /// further than [`failures_from`](ScheduleRecord::failures_from) or than `pause_after`; 0 where there is none. Tasks
    /// that are gone count as those that are there.
    pub failures: u32,
}

/// Times in [`ScheduleState::fired`], of all schedules that are read together.
pub(crate) const MOST_FIRED: usize = 10_000;

/// What has changed since a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleChanges {
    /// The version now.
    pub version: i64,
    /// Schedules that were saved since, with the time at which each is to be looked at; nothing for one that does not
    /// fire. Whose next time is missing although it fires is to be looked at since 1970.
    pub due: Vec<(ScheduleId, Option<Timestamp>)>,
}

/// What became of a schedule that was to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is stored, with this turn.
    Stored {
        /// What the next change has to name.
        turn: i64,
    },
    /// Another one has this name.
    NameTaken,
    /// The row changed meanwhile, or is gone.
    Stale,
}

/// A decision about one schedule, to be written as a whole or not at all.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// The turn that the decision was made from: when the row has another, nothing is written.
    pub turn: i64,
    /// The time of the writer.
    pub now: Timestamp,
    /// The node that decided.
    pub node: NodeId,
    /// Where the schedule stands from now on.
    pub status: ScheduleStatus,
    /// Why, when that was not asked for.
    pub reason: Option<String>,
    /// When a pause ends by itself.
    pub paused_until: Option<Timestamp>,
    /// Times up to here are dealt with.
    pub cursor: Timestamp,
    /// When it fires next.
    pub next_run_at: Option<Timestamp>,
    /// Tasks to make, each with its firing among its extras.
    pub runs: Vec<Run>,
    /// Times that make no task.
    pub passed: Vec<SkippedTime>,
    /// Tasks to call off first, the oldest in front.
    pub cancel: Vec<TaskId>,
    /// How many rows of history to keep, at least.
    pub keep_firings: u32,
    /// How many nominal times to remember whose task is gone, at least. Up to the latest that is given up, which the row
    /// takes over as [`forgotten_to`](ScheduleRecord::forgotten_to), no time makes a task any more.
    pub keep_runs: u32,
}

/// The turn of a row that has this one, or that is new. It only has to differ, so after the largest comes a small one.
pub(crate) fn next_turn(turn: Option<i64>) -> i64 {
    turn.and_then(|turn| turn.checked_add(1)).unwrap_or(1)
}

/// A task to make.
#[derive(Clone, Debug)]
pub struct Run {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// It is stored as `waiting` until this one has come to its end; one that is there no more, or is called off in the
    /// same turn before it ran, is not waited for. In a turn that calls tasks off it stands for the task whose place the run
    /// takes: when that has ended by the time of writing, another of those that still run is waited for.
    pub follows: Option<TaskId>,
    /// Who asked for it.
    pub cause: FiringCause,
}

/// What became of a [`Turn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// It is written. For each run the state in which its task is stored; nothing where the nominal time had a task
    /// already.
    Done(Vec<Option<TaskState>>),
    /// The row had another turn, is being written to, or is gone, or a task that the turn calls off or waits for is being
    /// written to: nothing was written.
    Lost,
}

/// Which schedules. Every field narrows it; the default matches all but deleted ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleFilter {
    /// In one of these states; any but `deleted` when empty.
    pub statuses: Vec<ScheduleStatus>,
    /// That make tasks of one of these types; any when empty.
    pub types: Vec<String>,
    /// With this text in name or description; upper and lower case of ASCII letters are the same, those of others are
    /// not. All texts of a filter together have at most 10,000 bytes.
    pub text: Option<String>,
}

impl ScheduleFilter {
    /// What is wrong with it, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_texts("filter", self.types.iter().chain(&self.text))
    }
}

/// Who follows whom within a [`Turn`], when some of its runs are not stored: a run that was to follow such a one follows
/// the run before it.
#[derive(Debug, Default)]
pub(crate) struct Chain(HashMap<TaskId, Option<TaskId>>);

impl Chain {
    /// Notes a run that is not stored, and what it was to follow.
    pub(crate) fn leave_out(&mut self, task_id: TaskId, follows: Option<TaskId>) {
        self.0.insert(task_id, follows);
    }

    /// What a run follows in truth.
    pub(crate) fn resolve(&self, follows: Option<TaskId>) -> Option<TaskId> {
        let left_out = follows.and_then(|task_id| self.0.get(&task_id).copied());
        left_out.unwrap_or(follows)
    }
}

/// What each run of a turn waits for, where the turn calls tasks off. `ending` are those of [`Turn::cancel`] that still run
/// and that no task waits for, in the same order: to be read under the locks under which the turn is written.
///
/// The decision named a task that ran when it was made. Since then that one may have ended, and one that waited may have
/// begun to run. Each run that still goes on takes up a place, so one of the new runs has to wait for it: the one that the
/// decision named for it, else the last one that is left without.
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
        /// Named by the decision, called off, still running, waited for.
        type Row<'a> = (&'a [Option<u128>], &'a [u128], &'a [u128], &'a [Option<u128>]);
        let table: [Row<'_>; 14] = [
            (&[n], &[], &[], &[n]),
            // As it was decided.
            (&[Some(1)], &[1], &[1], &[Some(1)]),
            (&[Some(2)], &[1, 2], &[1, 2], &[Some(2)]),
            (&[Some(1), Some(2)], &[1, 2], &[1, 2], &[Some(1), Some(2)]),
            // It has ended.
            (&[Some(1)], &[1], &[], &[n]),
            // It has ended, and what waited for it runs.
            (&[Some(1)], &[1, 2], &[2], &[Some(2)]),
            (&[Some(3)], &[1, 2, 3], &[1, 2], &[Some(2)]),
            // What was to be called off before it ran does run.
            (&[n], &[1], &[1], &[Some(1)]),
            (&[Some(1), n], &[1, 2], &[1, 2], &[Some(1), Some(2)]),
            // A run that had a free place, and one that takes that of a task which has begun.
            (&[n, n], &[1], &[1], &[n, Some(1)]),
            // No two wait for one.
            (&[Some(1), Some(2)], &[1, 2], &[2], &[n, Some(2)]),
            (&[Some(1), Some(2)], &[1, 2, 3], &[2, 3], &[Some(3), Some(2)]),
            (&[Some(1), Some(1)], &[1], &[1], &[Some(1), n]),
            // What is not called off is waited for as it was named.
            (&[Some(7)], &[1], &[1], &[Some(7)]),
        ];
        for (place, (named, cancel, ending, follows)) in table.into_iter().enumerate() {
            let ending = ending.iter().copied().map(id).collect();
            let follows: Vec<_> = follows.iter().map(|follows| follows.map(id)).collect();
            assert_eq!(replacing(&turn(named, cancel), ending), follows, "row {place}");
        }
    }
}
