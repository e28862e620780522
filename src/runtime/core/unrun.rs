//! Tasks that no live node runs, as the last look found them, and the queues from which this node pulls.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Timestamp};
use crate::name::Name;

/// How long after its last pull a queue counts as pulled from. A pull loop may take a long time over a task.
const PULLS_KEPT: Duration = Duration::from_secs(600);
/// The most queues that are reported as pulled from.
const MOST_PULLS: usize = 1_000;

/// Pending tasks of the same queue and type that no live node runs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct UnrunTasks {
    /// The queue of the tasks.
    pub queue: Name,
    /// The type of the tasks.
    #[serde(rename = "type")]
    pub kind: Name,
    /// The number of tasks that were counted.
    pub tasks: u64,
    /// True when there may be more tasks than were counted.
    pub more: bool,
    /// The time since which the oldest of the tasks could run.
    pub oldest: Timestamp,
    /// Why no live node runs the tasks.
    pub reason: UnrunReason,
}

/// Why no live node runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnrunReason {
    /// No live node runs tasks of the queue: none names the queue, or only with a concurrency of 0.
    Queue,
    /// Live nodes run the queue, but none of them has a handler for the type.
    Type,
}

/// A schedule defined in code, with the queue and the type of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodeSchedule {
    pub(crate) schedule: Name,
    pub(crate) queue: Name,
    pub(crate) kind: Name,
}

/// The results of the last look for tasks that no live node runs, and the data for that look.
#[derive(Debug, Default)]
pub(crate) struct Unrun {
    pub(crate) tasks: Mutex<Vec<UnrunTasks>>,
    /// The schedules that the code of this node defines.
    pub(crate) code: OnceLock<Vec<CodeSchedule>>,
    /// The schedules in `code` whose tasks no live node runs, and why.
    pub(crate) schedules: Mutex<Vec<(CodeSchedule, UnrunReason)>>,
    pub(crate) pulls: Arc<Pulls>,
}

/// The queues from which callers on this node pull.
#[derive(Debug, Default)]
pub(crate) struct Pulls(Mutex<HashMap<Name, Pull>>);

#[derive(Debug, Default)]
struct Pull {
    waiting: usize,
    /// The monotonic time at which a pull last ended.
    last: Duration,
}

/// A pull in progress: a caller waits for a task of a queue.
#[derive(Debug)]
pub(crate) struct Pulling {
    pulls: Arc<Pulls>,
    queue: Name,
    clock: Clock,
}

impl Pulls {
    /// Records a pull from the queue. It lasts as long as the returned [`Pulling`] is held.
    pub(crate) fn begin(self: &Arc<Self>, queue: &Name, clock: &Clock) -> Pulling {
        self.0.lock().entry(queue.clone()).or_default().waiting += 1;
        Pulling { pulls: Arc::clone(self), queue: queue.clone(), clock: clock.clone() }
    }

    /// The queues that are pulled from, sorted by name. Queues whose last pull was long ago are dropped.
    pub(crate) fn now(&self, elapsed: Duration) -> Vec<Name> {
        let mut pulls = self.0.lock();
        pulls.retain(|_, pull| pull.waiting > 0 || elapsed.saturating_sub(pull.last) < PULLS_KEPT);
        let mut names: Vec<Name> = pulls.keys().cloned().collect();
        drop(pulls);
        names.sort_unstable();
        names.truncate(MOST_PULLS);
        names
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        if let Some(pull) = self.pulls.0.lock().get_mut(&self.queue) {
            pull.waiting = pull.waiting.saturating_sub(1);
            pull.last = self.clock.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_pulled_from_while_somebody_waits_and_for_a_while_after() {
        let (pulls, clock) = (Arc::<Pulls>::default(), Clock::manual(Timestamp::from_micros(0)));
        let waiting = pulls.begin(&Name::from("a"), &clock);
        let second = pulls.begin(&Name::from("a"), &clock);
        drop(pulls.begin(&Name::from("b"), &clock));
        drop(second);
        assert_eq!(pulls.now(clock.elapsed()), ["a", "b"]);
        clock.advance(PULLS_KEPT);
        assert_eq!(pulls.now(clock.elapsed()), ["a"]);
        drop(waiting);
        assert_eq!(pulls.now(clock.elapsed()), ["a"]);
        clock.advance(PULLS_KEPT);
        assert_eq!(pulls.now(clock.elapsed()), [""; 0]);
    }
}
