//! Queues in which limits hold tasks back.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::name::Name;

/// The queues whose last claim came back short because of a limit, each with the time to ask again; without a time
/// where only the end of a task makes room.
#[derive(Debug, Default)]
pub(crate) struct ThrottledQueues(Mutex<BTreeMap<Name, Option<Timestamp>>>);

impl ThrottledQueues {
    /// Of two times the earlier one counts: asking once too often costs less than once too late.
    pub(crate) fn throttle(&self, queue: &Name, until: Option<Timestamp>) {
        let mut queues = self.0.lock();
        let held = queues.entry(queue.clone()).or_default();
        *held = held.iter().copied().chain(until).min();
    }

    /// The queue is asked again, or has nothing held back any more.
    pub(crate) fn forget(&self, queue: &Name) {
        self.0.lock().remove(queue);
    }

    /// All of them are asked again.
    pub(crate) fn forget_all(&self) {
        self.0.lock().clear();
    }

    /// Takes out the queues that are to be asked again now.
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

    /// When the first of them is to be asked again.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.lock().values().copied().flatten().min()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn is_held(&self, queue: &str) -> bool {
        self.0.lock().contains_key(queue)
    }
}
