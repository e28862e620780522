//! A bounded pool of threads for blocking work. Handlers and the removal of logs each have their own pool.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::panics::{caught, let_go};

type Job = Box<dyn FnOnce() + Send>;

/// How long an idle thread stays.
const IDLE: Duration = Duration::from_secs(10);

/// Runs jobs on at most `most` threads, made when needed. Further jobs wait their turn.
pub(crate) struct BlockingPool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    name: &'static str,
    most: usize,
    overdue: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
    abandoned: bool,
}

impl BlockingPool {
    /// A pool of at most `most` threads with this name.
    pub(crate) fn new(name: &'static str, most: usize) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), name, most, overdue: Arc::default() }))
    }

    /// How many threads of the pool have outlasted their runs.
    pub(crate) fn overdue(&self) -> &Arc<AtomicUsize> {
        &self.0.overdue
    }

    pub(crate) fn spawn(&self, job: Job) {
        let mut state = self.0.state.lock();
        if state.abandoned {
            // Not under the lock, because the drop of a job may wake a waiter.
            drop(state);
            let_go(job);
            return;
        }
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || state.threads >= self.0.most {
            self.0.work.notify_one();
            return;
        }
        let shared = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name(self.0.name.into());
        // If no thread can be started, the job waits for an existing thread. If there is no thread at all, it runs when
        // a later job starts a thread.
        if thread.spawn(move || shared.serve()).is_ok() {
            state.threads += 1;
        }
    }

    /// Lets the threads end once they have no work.
    pub(crate) fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.work.notify_all();
    }

    /// Like [`close`](Self::close), and jobs that have not begun never will: waiting jobs are dropped, and so are later
    /// jobs.
    pub(crate) fn abandon(&self) {
        let mut state = self.0.state.lock();
        (state.closed, state.abandoned) = (true, true);
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.0.work.notify_all();
        jobs.into_iter().for_each(let_go);
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // A job reports its own panics. It drops values of the application, and a panic in such a drop must not
                // end the thread.
                caught(job).ok();
                state = self.state.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let timed_out = self.work.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if timed_out && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvError, channel};

    use super::*;

    #[test]
    fn what_waits_is_done_before_the_pool_closes_and_dropped_when_it_is_abandoned() {
        for (abandoned, second) in [(false, Ok("second")), (true, Err(RecvError))] {
            let pool = BlockingPool::new("test", 1);
            let ((go, gate), (tell, told), (tell_second, told_second)) = (channel(), channel(), channel());
            pool.spawn(Box::new(move || {
                tell.send("begun").unwrap();
                gate.recv().unwrap();
                tell.send("done").unwrap();
            }));
            assert_eq!(told.recv(), Ok("begun"));
            pool.spawn(Box::new(move || tell_second.send("second").unwrap()));
            if abandoned {
                pool.abandon()
            } else {
                pool.close()
            }
            go.send(()).unwrap();
            assert_eq!(told.recv(), Ok("done"), "what has begun comes to its end");
            assert_eq!(told_second.recv(), second);
            let (late, told) = channel();
            pool.spawn(Box::new(move || late.send("late").unwrap()));
            assert_eq!(told.recv().is_ok(), !abandoned);
        }
    }
}
