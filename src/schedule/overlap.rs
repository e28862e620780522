//! What happens to a firing while earlier runs go on: pure.

use std::collections::{HashSet, VecDeque};

use super::decide::Go;
use super::firing::{Instance, SkippedTime};
use super::policy::{Overlap, Policy};
use super::record::FiringStatus;
use crate::clock::Timestamp;
use crate::task::{TaskId, TaskState};

/// Runs that wait at a time with [`Overlap::BufferAll`]: a run that never ends must not fill the storage.
const MOST_WAITING: usize = 1_000;

/// Runs that one turn makes: the turns of many schedules are one transaction, and others wait for it.
const MOST_IN_TURN: usize = 100;

/// What a run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Nothing.
    Nothing,
    /// A task that is stored.
    Stored(TaskId),
    /// A run of the same decision, by its place.
    Run(usize),
}

/// What the overlap policy makes of the times that were chosen.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    pub(crate) runs: Vec<Go>,
    pub(crate) cancel: Vec<TaskId>,
    /// The last time that was dealt with, when there were more runs than one turn makes.
    pub(crate) stopped_at: Option<Timestamp>,
    /// The last task of each line, the one that the next follower waits for in front. Tasks that follow each other are one
    /// line; one of a line runs at a time, so that a place is free as long as there are fewer lines than places.
    lines: VecDeque<Follows>,
    waiting: usize,
    followed: HashSet<TaskId>,
    running: HashSet<TaskId>,
    /// Tasks that are called off and still run, and that no run waits for.
    ending: Vec<TaskId>,
}

impl Overlaps {
    /// Decides on the times in `chosen`; `room` is how many runs the run limit leaves.
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

    /// Calls off the oldest ones until there is room, and waits for the youngest of them that runs and that nobody waits
    /// for: of several it can wait for one only.
    fn replace(&mut self, live: &[&Instance], most: usize) -> Follows {
        let kept = most.saturating_sub(self.runs.len() + 1);
        let gone = live.len().saturating_sub(kept);
        // Those before are called off already.
        for task in live.get(self.cancel.len()..gone).unwrap_or_default() {
            self.cancel.push(task.task_id);
            let ending = match task.follows {
                None => Some(task.task_id).filter(|task_id| !self.followed.contains(task_id)),
                // What waited for its end waits no more.
                waited_for => waited_for,
            };
            self.ending.extend(ending.filter(|task_id| self.running.contains(task_id)));
        }
        self.ending.pop().map_or(Follows::Nothing, Follows::Stored)
    }
}
