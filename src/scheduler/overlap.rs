//! What happens to a firing while earlier runs go on: pure.

use std::collections::VecDeque;

use super::decide::Go;
use super::policy::{Overlap, Policy};
use super::record::FiringStatus;
use crate::backend::{Instance, Passed};
use crate::clock::Timestamp;
use crate::task::{TaskId, TaskState};

/// Runs that wait at a time with [`Overlap::BufferAll`]: a run that never ends must not fill the storage.
const MOST_WAITING: usize = 1_000;

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
pub(super) struct Overlaps {
    pub(super) runs: Vec<Go>,
    pub(super) cancel: Vec<TaskId>,
    /// Tasks that nothing waits for, the one that the next follower waits for in front.
    tails: VecDeque<Follows>,
    going: usize,
    waiting: usize,
}

impl Overlaps {
    pub(super) fn apply(policy: &Policy, live: &[&Instance], chosen: &[Timestamp], passed: &mut Vec<Passed>) -> Self {
        let followed = |task: &&&Instance| live.iter().any(|other| other.follows == Some(task.task_id));
        let tails = live.iter().filter(|task| !followed(task)).map(|task| Follows::Stored(task.task_id)).collect();
        let waiting = live.iter().filter(|task| task.state == TaskState::Waiting).count();
        let mut overlaps = Self { tails, waiting, going: live.len() - waiting, ..Self::default() };
        let most = policy.max_instances as usize;
        for (place, nominal_at) in chosen.iter().enumerate() {
            let superseded = policy.overlap == Overlap::CancelOther && chosen.len() - place > most;
            let refused = match policy.overlap {
                _ if superseded => Some("a later run takes its place"),
                Overlap::Allow => overlaps.run(*nominal_at),
                _ if overlaps.going + overlaps.waiting < most => overlaps.run(*nominal_at),
                Overlap::Skip => Some("the run before it goes on"),
                Overlap::BufferOne if overlaps.waiting > 0 => Some("one waits already for the run before it"),
                Overlap::BufferAll if overlaps.waiting >= MOST_WAITING => Some("1000 wait already"),
                Overlap::BufferOne | Overlap::BufferAll => overlaps.wait(*nominal_at),
                Overlap::CancelOther => overlaps.replace(*nominal_at, live, most),
            };
            passed.extend(refused.map(|reason| Passed {
                nominal_at: *nominal_at,
                status: FiringStatus::Skipped,
                times: 1,
                reason: reason.to_owned(),
            }));
        }
        overlaps
    }

    fn run(&mut self, nominal_at: Timestamp) -> Option<&'static str> {
        self.push(nominal_at, Follows::Nothing);
        self.going += 1;
        None
    }

    fn wait(&mut self, nominal_at: Timestamp) -> Option<&'static str> {
        let follows = self.tails.pop_front().unwrap_or(Follows::Nothing);
        self.push(nominal_at, follows);
        self.waiting += 1;
        None
    }

    /// Calls off the oldest ones, and waits for one of them that runs.
    fn replace(&mut self, nominal_at: Timestamp, live: &[&Instance], most: usize) -> Option<&'static str> {
        let kept = most.saturating_sub(self.runs.len() + 1);
        let gone = &live[..live.len().saturating_sub(kept)];
        let fresh = gone.iter().map(|task| task.task_id).filter(|id| !self.cancel.contains(id)).collect::<Vec<_>>();
        let running = gone.iter().find(|task| task.state == TaskState::Running);
        self.cancel.extend(fresh);
        self.push(nominal_at, running.map_or(Follows::Nothing, |task| Follows::Stored(task.task_id)));
        None
    }

    fn push(&mut self, nominal_at: Timestamp, follows: Follows) {
        self.tails.push_back(Follows::Run(self.runs.len()));
        self.runs.push(Go { nominal_at, follows });
    }
}
