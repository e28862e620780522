//! The ready queue: claimed tasks wait here for a worker, and idle workers wait for a task.

use std::collections::VecDeque;
use std::time::Duration;

use actix::Addr;
use parking_lot::Mutex;

use crate::backend::Claimed;
use crate::clock::Clock;
use crate::runtime::worker::{Slot, Wake, Worker};

/// The ready queue of a lane.
///
/// Tasks do not travel to workers as a message each, because a message costs more than a small task. The queue puts a
/// whole batch here and wakes a single worker. That worker takes a task, wakes the next worker while there are more
/// tasks, and goes on until the ready queue is empty. So a long task delays no other task, and in a flood of short
/// tasks each task costs only a lock.
///
/// A worker does not answer its wake-up while a handler blocks its thread. So no answer is awaited for long. The next
/// `put` or `take` after [`SLOW`] wakes a second worker, and if neither comes the guardian wakes all idle workers. The
/// silent worker keeps its call. It looks when it can, and only then counts as idle or busy.
#[derive(Default)]
pub(crate) struct ReadyQueue(Mutex<ReadyState>);

/// An answer that takes longer than this may not come soon. It is long compared with the microseconds of a wake-up, so
/// that a flood sends few wake-ups. It is short compared with the time that a task may wait.
const SLOW: Duration = Duration::from_millis(5);

#[derive(Default)]
struct ReadyState {
    ready: VecDeque<Claimed>,
    idle: Vec<Addr<Worker>>,
    // The last call, until its worker has looked. A single open call is enough, because that worker wakes the next
    // worker.
    unanswered: Option<Sent>,
    // The number of the last call. It tells the awaited answer from a late answer to an older call.
    last: CallNumber,
    // The call that had no answer when the guardian looked last.
    seen_unanswered: Option<CallNumber>,
}

pub(crate) type CallNumber = u64;

struct Sent {
    number: CallNumber,
    /// In monotonic time.
    at: Duration,
}

/// A worker to wake.
#[must_use = "it is not idle any more, so nobody else will wake it"]
pub(crate) struct Call {
    worker: Addr<Worker>,
    number: CallNumber,
}

/// The answer to a worker that asks for a task.
pub(crate) enum Take {
    /// A task, and a second worker to wake before the task is run.
    Task(Claimed, Option<Call>),
    /// No task: the worker now counts as idle and gets a [`Wake`].
    Idle,
}

impl ReadyQueue {
    /// Adds claimed tasks; returns a worker to wake.
    pub(crate) fn put(&self, tasks: impl IntoIterator<Item = Claimed>, clock: &Clock) -> Option<Call> {
        let mut seats = self.0.lock();
        seats.ready.extend(tasks);
        seats.next_to_wake(clock)
    }

    /// Takes a task for a worker. `call` is the call that the worker's first question after a [`Wake`] answers.
    ///
    /// The task moves to `slot` under the lock of the ready queue, so that the claim always has a holder.
    pub(crate) fn take(&self, worker: &Addr<Worker>, slot: &Slot, call: Option<CallNumber>, clock: &Clock) -> Take {
        let mut seats = self.0.lock();
        if call.is_some_and(|number| seats.unanswered.as_ref().is_some_and(|sent| sent.number == number)) {
            seats.unanswered = None;
        }
        match seats.ready.pop_front() {
            Some(task) => {
                slot.taken(&task);
                let next = seats.next_to_wake(clock);
                Take::Task(task, next)
            }
            None => {
                seats.idle.push(worker.clone());
                Take::Idle
            }
        }
    }

    /// Takes all waiting tasks out.
    pub(crate) fn clear(&self) -> VecDeque<Claimed> {
        std::mem::take(&mut self.0.lock().ready)
    }

    /// Forgets workers that have died, and returns a living worker to wake if there is work.
    pub(crate) fn forget_dead(&self, clock: &Clock) -> Option<Call> {
        let mut seats = self.0.lock();
        seats.idle.retain(Addr::connected);
        // The dead worker may have been woken without having looked.
        seats.unanswered = None;
        seats.next_to_wake(clock)
    }

    /// Returns all idle workers, to be woken, if there is work and the last call has had no answer since the previous
    /// question. All are returned because many may sit on the blocked thread, and perhaps no `put` or `take` follows
    /// that would wake the next worker.
    pub(crate) fn not_answered(&self) -> Vec<Call> {
        let mut seats = self.0.lock();
        // Compared by number and not by time, because a test's clock may stand still.
        let unanswered = seats.unanswered.as_ref().map(|sent| sent.number);
        let before = std::mem::replace(&mut seats.seen_unanswered, unanswered);
        if unanswered.is_none() || unanswered != before || seats.ready.is_empty() {
            return Vec::new();
        }
        seats.unanswered = None;
        let idle = std::mem::take(&mut seats.idle);
        idle.into_iter().map(|worker| seats.call(worker)).collect()
    }

    /// Takes out at most `workers` idle workers that are to end. None of them has been woken.
    pub(crate) fn dismiss(&self, workers: usize) -> Vec<Addr<Worker>> {
        let mut seats = self.0.lock();
        let stay = seats.idle.len().saturating_sub(workers);
        let gone = seats.idle.split_off(stay);
        seats.idle.shrink_to(2 * stay);
        gone
    }

    /// The claims of the tasks that wait here.
    pub(crate) fn waiting(&self) -> Vec<(crate::task::TaskId, crate::task::ClaimToken)> {
        self.0.lock().ready.iter().map(|claimed| (claimed.spec.task_id, claimed.token)).collect()
    }
}

impl ReadyState {
    fn next_to_wake(&mut self, clock: &Clock) -> Option<Call> {
        if self.ready.is_empty() || self.idle.is_empty() {
            return None;
        }
        let now = clock.elapsed();
        if self.unanswered.as_ref().is_some_and(|sent| now.saturating_sub(sent.at) < SLOW) {
            return None;
        }
        let worker = self.idle.pop()?;
        let call = self.call(worker);
        self.unanswered = Some(Sent { number: call.number, at: now });
        Some(call)
    }

    fn call(&mut self, worker: Addr<Worker>) -> Call {
        self.last += 1;
        Call { worker, number: self.last }
    }
}

/// Wakes workers. The guardian notices a dead worker and wakes a different worker.
pub(crate) fn wake(calls: impl IntoIterator<Item = Call>) {
    for call in calls {
        call.worker.do_send(Wake(call.number));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix::{AsyncContext, Context};

    use super::*;
    use crate::clock::Timestamp;
    use crate::task::{ClaimToken, NewTask};

    /// A ready queue with workers that do nothing by themselves, all of them idle. The last worker is the first to be
    /// woken.
    struct Yard {
        ready: ReadyQueue,
        clock: Clock,
        workers: Vec<Context<Worker>>,
    }

    impl Yard {
        fn with(workers: usize) -> Self {
            let workers = (0..workers).map(|_| Context::new()).collect();
            let yard =
                Self { ready: ReadyQueue::default(), clock: Clock::manual(Timestamp::from_micros(0)), workers };
            (0..yard.workers.len()).for_each(|index| assert!(matches!(yard.ask(index, None), Take::Idle)));
            yard
        }

        fn put(&self, tasks: usize) -> Option<Call> {
            let spec =
                Arc::new(NewTask::new("x", &()).into_spec(&self.clock, crate::task::Bounds::all(1_000)).unwrap());
            let task = Claimed { spec, seq: 1, token: ClaimToken::random(), attempt: 0 };
            self.ready.put(std::iter::repeat_n(task, tasks), &self.clock)
        }

        fn ask(&self, worker: usize, call: Option<CallNumber>) -> Take {
            self.ready.take(&self.workers[worker].address(), &Slot::default(), call, &self.clock)
        }

        /// The worker asks for a task and gets it; returns the call for the next worker to wake.
        fn task(&self, worker: usize, call: Option<CallNumber>) -> Option<Call> {
            match self.ask(worker, call) {
                Take::Task(_, next) => next,
                Take::Idle => panic!("there is a task"),
            }
        }

        /// The index of the worker that a call is for.
        fn index(&self, call: &Call) -> usize {
            self.workers.iter().position(|worker| worker.address() == call.worker).unwrap()
        }

        fn late(&self) {
            self.clock.advance(SLOW);
        }
    }

    #[test]
    fn a_flood_wakes_one_at_a_time_and_nobody_else_while_it_may_yet_answer() {
        let yard = Yard::with(3);
        let call = yard.put(10).unwrap();
        assert_eq!(yard.index(&call), 2);
        assert!(yard.put(10).is_none(), "one is on its way");
        let next = yard.task(2, Some(call.number)).unwrap();
        assert_eq!(yard.index(&next), 1);
        for _ in 0..10 {
            assert!(yard.task(2, None).is_none(), "one is on its way");
        }
        assert!(yard.ready.not_answered().is_empty(), "it has had no time yet");
        assert!(yard.task(1, Some(next.number)).is_some());
        assert!(yard.ready.not_answered().is_empty(), "another one is on its way");
    }

    #[test]
    fn whoever_comes_by_wakes_another_in_place_of_one_that_does_not_answer() {
        let yard = Yard::with(3);
        let silent = yard.put(3).unwrap();
        yard.late();
        let second = yard.put(1).unwrap();
        assert_eq!((yard.index(&silent), yard.index(&second)), (2, 1));
        // The answer to the older call says nothing about the newer call.
        assert!(yard.task(2, Some(silent.number)).is_none(), "the second is on its way");
        yard.late();
        let third = yard.task(2, None).unwrap();
        assert_eq!(yard.index(&third), 0);
        yard.late();
        assert!(yard.put(0).is_none(), "nobody is idle");
        // However late the workers come, each finds the tasks that are there, and is idle only once.
        assert!(yard.task(1, Some(second.number)).is_none());
        assert!(yard.task(0, Some(third.number)).is_none());
        assert!(matches!(yard.ask(0, None), Take::Idle));
        let again = yard.put(1).unwrap();
        assert_eq!((yard.index(&again), yard.put(1).is_none()), (0, true));
    }

    #[test]
    fn the_guardian_wakes_all_that_are_idle_when_one_does_not_answer_though_the_clock_stands_still() {
        let yard = Yard::with(4);
        assert!((0..3).all(|_| yard.ready.not_answered().is_empty()), "there is no work");
        let silent = yard.put(1).unwrap();
        assert!(yard.ready.not_answered().is_empty(), "it may have been called a moment ago");
        let calls = yard.ready.not_answered();
        assert_eq!(calls.iter().map(|call| yard.index(call)).collect::<Vec<_>>(), [0, 1, 2]);
        assert!((0..3).all(|_| yard.ready.not_answered().is_empty()), "nobody is left to be woken");
        assert!(yard.task(1, Some(calls[1].number)).is_none());
        for (worker, call) in [(0, &calls[0]), (2, &calls[2]), (3, &silent)] {
            assert!(matches!(yard.ask(worker, Some(call.number)), Take::Idle));
        }
        let next = yard.put(1).unwrap();
        assert_eq!(yard.index(&next), 3);
    }
}
