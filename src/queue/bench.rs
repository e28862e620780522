//! Where claimed tasks wait for a worker, and idle workers for a task.

use std::collections::VecDeque;

use actix::Addr;
use parking_lot::Mutex;

use crate::backend::Claimed;
use crate::worker::{Slot, Wake, Worker};

/// The bench of one lane.
///
/// Tasks do not travel to workers as one message each: a message costs more than a small task. The queue puts a
/// whole batch here and wakes one worker; that worker takes a task, wakes the next worker while there is more, and
/// goes on taking until the bench is empty. So a long task holds up nobody, and a flood of short ones costs a lock
/// each.
#[derive(Default)]
pub(crate) struct Bench(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    ready: VecDeque<Claimed>,
    idle: Vec<Addr<Worker>>,
    // Workers that were woken and have not looked yet. One at a time is enough: it wakes the next.
    woken: usize,
}

/// What a worker finds on the bench.
pub(crate) enum Seat {
    /// A task, and another worker to wake before it is run.
    Task(Claimed, Option<Addr<Worker>>),
    /// Nothing: the worker now counts as idle and gets a [`Wake`].
    Idle,
}

impl Bench {
    /// Puts claimed tasks down; returns a worker to wake.
    pub(crate) fn put(&self, tasks: impl IntoIterator<Item = Claimed>) -> Option<Addr<Worker>> {
        let mut seats = self.0.lock();
        seats.ready.extend(tasks);
        seats.next_to_wake()
    }

    /// A worker asks for a task. `woken` is true for its first question after a [`Wake`].
    ///
    /// The task goes to `slot` under the bench's lock: at no time is a claim in nobody's hands.
    pub(crate) fn take(&self, worker: &Addr<Worker>, slot: &Slot, woken: bool) -> Seat {
        let mut seats = self.0.lock();
        if woken {
            seats.woken = seats.woken.saturating_sub(1);
        }
        match seats.ready.pop_front() {
            Some(task) => {
                slot.taken(&task);
                let next = seats.next_to_wake();
                Seat::Task(task, next)
            }
            None => {
                seats.idle.push(worker.clone());
                Seat::Idle
            }
        }
    }

    /// Takes all waiting tasks back.
    pub(crate) fn clear(&self) -> VecDeque<Claimed> {
        std::mem::take(&mut self.0.lock().ready)
    }

    /// Forgets workers that have died, and wakes one of the others if there is work.
    pub(crate) fn forget_dead(&self) -> Option<Addr<Worker>> {
        let mut seats = self.0.lock();
        seats.idle.retain(Addr::connected);
        // The dead one may have been woken without having looked.
        seats.woken = 0;
        seats.next_to_wake()
    }

    /// The claims that wait here.
    pub(crate) fn waiting(&self) -> Vec<(crate::task::TaskId, crate::task::ClaimToken)> {
        self.0.lock().ready.iter().map(|claimed| (claimed.spec.task_id, claimed.token)).collect()
    }
}

impl Seats {
    fn next_to_wake(&mut self) -> Option<Addr<Worker>> {
        if self.ready.is_empty() || self.woken > 0 {
            return None;
        }
        let worker = self.idle.pop()?;
        self.woken += 1;
        Some(worker)
    }
}

/// Wakes a worker; a dead one is noticed by the guardian, which wakes another.
pub(crate) fn wake(worker: Option<Addr<Worker>>) {
    if let Some(worker) = worker {
        worker.do_send(Wake);
    }
}
