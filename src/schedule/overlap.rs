//! Decides about a firing while earlier runs go on. Pure.

use std::collections::{HashSet, VecDeque};

use super::decide::Go;
use super::firing::{Instance, SkippedTime};
use super::policy::{Overlap, Policy};
use super::record::FiringStatus;
use crate::clock::Timestamp;
use crate::task::{TaskId, TaskState};

/// Runs that may wait at the same time with [`Overlap::BufferAll`]. Without this limit a run that never ends would
/// fill the storage.
const MOST_WAITING: usize = 1_000;

/// Runs that a single turn makes. The turns of many schedules share a transaction, and they all wait for it.
const MOST_IN_TURN: usize = 100;

/// The run that must end before this run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Nothing.
    Nothing,
    /// A stored task.
    Stored(TaskId),
    /// A run of the same decision, by its index.
    Run(usize),
}

/// The result of the overlap policy for the chosen times.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    pub(crate) runs: Vec<Go>,
    pub(crate) cancel: Vec<TaskId>,
    /// The last time that was processed, if there were more runs than a turn makes.
    pub(crate) stopped_at: Option<Timestamp>,
    /// The last task of each chain; the chain at the front gets the next waiting run. Tasks that follow each other
    /// form a chain, and only one task of a chain runs at a time. So a place is free while there are fewer chains
    /// than places.
    lines: VecDeque<Follows>,
    waiting: usize,
    followed: HashSet<TaskId>,
    running: HashSet<TaskId>,
    /// Cancelled tasks that still run and for which no run waits.
    ending: Vec<TaskId>,
}

impl Overlaps {
    /// Decides on the times in `chosen`. The run limit leaves `room` runs.
    pub(crate) fn apply(
        policy: &Policy,
        room: usize,
        live: &[&Instance],
        chosen: &[Timestamp],
        passed: &mut Vec<SkippedTime>,
    ) -> Self {
        let mut overlaps = Self::over(live);
        let kept = match policy.overlap {
            Overlap::CancelOther => room.min(policy.max_instances as usize).max(1),
            _ => chosen.len(),
        };
        let superseded = chosen.len().saturating_sub(kept);
        for (place, nominal_at) in chosen.iter().enumerate() {
            let made = overlaps.runs.len();
            let refused = match place.checked_sub(1) {
                _ if place < superseded => Some("a later run takes its place"),
                _ if made >= room => Some("its run limit is reached"),
                Some(before) if made >= MOST_IN_TURN => {
                    overlaps.stopped_at = Some(chosen[before]);
                    break;
                }
                _ => overlaps.one(policy, *nominal_at, live),
            };
            passed.extend(refused.map(|reason| SkippedTime {
                nominal_at: *nominal_at,
                status: FiringStatus::Skipped,
                times: 1,
                reason: reason.to_owned(),
            }));
        }
        overlaps
    }

    fn over(live: &[&Instance]) -> Self {
        let in_state = |state| live.iter().filter(move |task| task.state == state);
        let followed: HashSet<TaskId> = live.iter().filter_map(|task| task.follows).collect();
        let last = live.iter().filter(|task| !followed.contains(&task.task_id));
        Self {
            lines: last.map(|task| Follows::Stored(task.task_id)).collect(),
            waiting: in_state(TaskState::Waiting).count(),
            running: in_state(TaskState::Running).map(|task| task.task_id).collect(),
            followed,
            ..Self::default()
        }
    }

    /// Lets a time run, or says why it does not.
    fn one(&mut self, policy: &Policy, nominal_at: Timestamp, live: &[&Instance]) -> Option<&'static str> {
        let most = policy.max_instances as usize;
        let follows = match policy.overlap {
            Overlap::Allow => Follows::Nothing,
            _ if self.lines.len() < most => Follows::Nothing,
            Overlap::Skip => return Some("the run before it goes on"),
            Overlap::BufferOne if self.waiting > 0 => return Some("one waits already for the run before it"),
            Overlap::BufferAll if self.waiting >= MOST_WAITING => return Some("1000 wait already"),
            Overlap::BufferOne | Overlap::BufferAll => self.join_a_line(),
            Overlap::CancelOther => self.replace(live, most),
        };
        self.lines.push_back(Follows::Run(self.runs.len()));
        self.runs.push(Go { nominal_at, follows });
        None
    }

    fn join_a_line(&mut self) -> Follows {
        self.waiting += 1;
        self.lines.pop_front().unwrap_or(Follows::Nothing)
    }

    /// Cancels the oldest tasks until there is room. The new run waits for the youngest of them that still runs and
    /// for which no other run waits, because a run can wait for a single task only.
    fn replace(&mut self, live: &[&Instance], most: usize) -> Follows {
        let kept = most.saturating_sub(self.runs.len() + 1);
        let gone = live.len().saturating_sub(kept);
        // Earlier tasks are already in `cancel`.
        for task in live.get(self.cancel.len()..gone).unwrap_or_default() {
            self.cancel.push(task.task_id);
            let ending = match task.follows {
                None => Some(task.task_id).filter(|task_id| !self.followed.contains(task_id)),
                // The cancelled task no longer waits for this task.
                waited_for => waited_for,
            };
            self.ending.extend(ending.filter(|task_id| self.running.contains(task_id)));
        }
        self.ending.pop().map_or(Follows::Nothing, Follows::Stored)
    }
}
