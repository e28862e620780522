//! Throttled queues: queues in which limits hold tasks back.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::name::Name;

/// The queues whose last claim came back short because of a limit, each with the time to claim again. The time is
/// `None` where only the end of a task makes room.
#[derive(Debug, Default)]
pub(crate) struct ThrottledQueues(Mutex<BTreeMap<Name, Option<Timestamp>>>);

impl ThrottledQueues {
    /// Records the queue as throttled. Of two times the earlier is kept, because a claim too many costs less than a
    /// late claim.
    pub(crate) fn throttle(&self, queue: &Name, until: Option<Timestamp>) {
        let mut queues = self.0.lock();
        let held = queues.entry(queue.clone()).or_default();
        *held = held.iter().copied().chain(until).min();
    }

    /// Removes the queue: storage is asked for its tasks again, or nothing is held back any more.
    pub(crate) fn forget(&self, queue: &Name) {
        self.0.lock().remove(queue);
    }

    /// Removes all queues: storage is asked for their tasks again.
    pub(crate) fn forget_all(&self) {
        self.0.lock().clear();
    }

    /// Takes out the queues whose time to claim again has come.
    pub(crate) fn take_due(&self, now: Timestamp) -> Vec<Name> {
        let mut due = Vec::new();
        self.0.lock().retain(|queue, until| {
            let is_due = until.is_some_and(|until| until <= now);
            if is_due {
                due.push(queue.clone());
            }
            !is_due
        });
        due
    }

    /// The earliest time at which a throttled queue is to claim again.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.lock().values().copied().flatten().min()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn is_held(&self, queue: &str) -> bool {
        self.0.lock().contains_key(queue)
    }
}
