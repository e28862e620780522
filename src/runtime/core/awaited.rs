//! Callers that wait for tasks to end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::stale::StaleScan;
use crate::task::TaskId;

/// All callers on this node that wait for tasks to end.
#[derive(Default)]
pub(crate) struct Awaited {
    waiters: Mutex<Waiters>,
    // The number of awaited tasks. It is usually 0, and then the lock is skipped.
    count: AtomicUsize,
    closed: AtomicBool,
}

#[derive(Default)]
struct Waiters {
    of_task: HashMap<TaskId, Vec<oneshot::Sender<()>>>,
    /// The number of waiters for all tasks. It includes waiters that have closed since.
    all: usize,
    gone: StaleScan,
}

impl Waiters {
    fn add(&mut self, task_id: TaskId, waiter: oneshot::Sender<()>) {
        if self.gone.worth_a_look(self.all) {
            self.forget_gone();
        }
        self.of_task.entry(task_id).or_default().push(waiter);
        self.all += 1;
    }

    fn forget_gone(&mut self) {
        let before = self.all;
        self.of_task.retain(|_, list| {
            list.retain(|waiter| !waiter.is_closed());
            !list.is_empty()
        });
        self.all = self.of_task.values().map(Vec::len).sum();
        self.gone.looked(before, self.all);
    }

    fn take(&mut self, task_id: TaskId) -> Vec<oneshot::Sender<()>> {
        let list = self.of_task.remove(&task_id).unwrap_or_default();
        self.all -= list.len();
        list
    }
}

impl Awaited {
    pub(crate) fn register(&self, task_id: TaskId) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut waiters = self.waiters.lock();
        // After a stop the sender is dropped here, which tells the caller that no answer will come.
        if !self.closed.load(Ordering::Acquire) {
            waiters.add(task_id, tell);
        }
        self.count.store(waiters.of_task.len(), Ordering::Release);
        told
    }

    /// Turns all waiters away: the board has stopped, and this node learns of no further ends.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let waiters = std::mem::take(&mut *self.waiters.lock());
        // Outside of the lock, because the drop wakes the callers.
        drop(waiters);
    }

    pub(crate) fn ended(&self, task_id: TaskId) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut waiters = self.waiters.lock();
        let told = waiters.take(task_id);
        self.count.store(waiters.of_task.len(), Ordering::Release);
        // Outside of the lock, because a waker is code of the application and may come back here.
        drop(waiters);
        for waiter in told {
            // A caller that has stopped waiting needs no answer.
            waiter.send(()).ok();
        }
    }

    /// True when a caller waits for this task.
    pub(crate) fn is(&self, task_id: TaskId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.waiters.lock().of_task.contains_key(&task_id)
    }

    /// True when a caller waits for any task.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// The awaited tasks. Drops closed waiters first.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut waiters = self.waiters.lock();
        // Storage looks at each of these tasks, so a scan is worth its cost here.
        waiters.forget_gone();
        self.count.store(waiters.of_task.len(), Ordering::Release);
        waiters.of_task.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stale::FEW;
    use super::*;

    fn id(number: u128) -> TaskId {
        TaskId::from(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_waiter_costs_the_same_however_many_there_are() {
        let awaited = Awaited::default();
        let told: Vec<_> = (0..100_000).map(|number| awaited.register(id(number))).collect();
        let looks = awaited.waiters.lock().gone.looks;
        assert!(looks <= 2 * told.len(), "{looks} looks at {} waiters", told.len());
        (0..100_000).for_each(|number| awaited.ended(id(number)));
        assert!(told.into_iter().all(|mut told| told.try_recv().is_ok()));
        assert_eq!((awaited.waiters.lock().all, awaited.is(id(0))), (0, false));
    }

    #[test]
    fn those_that_have_gone_away_are_forgotten() {
        let awaited = Awaited::default();
        let stays = awaited.register(id(0));
        // Many different tasks, and the same task over and over.
        for number in 0..50_000 {
            drop(awaited.register(id(number)));
            drop(awaited.register(id(1)));
        }
        let waiters = awaited.waiters.lock();
        assert!(waiters.all <= FEW && waiters.of_task.len() <= FEW, "{} are left", waiters.all);
        assert!(waiters.gone.looks <= 2 * 100_000, "{} looks", waiters.gone.looks);
        drop(waiters);
        assert_eq!(awaited.ids(), [id(0)]);
        drop(stays);
        assert_eq!((awaited.ids(), awaited.is(id(0))), (vec![], false));
    }

    #[test]
    fn whoever_registers_after_the_end_is_told_at_once() {
        let awaited = Awaited::default();
        let mut before = awaited.register(id(0));
        awaited.close();
        for told in [&mut before, &mut awaited.register(id(0))] {
            assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
    }
}
