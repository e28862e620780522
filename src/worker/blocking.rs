//! A bounded pool of threads for handlers that block.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

type Job = Box<dyn FnOnce() + Send>;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// Runs jobs on at most `most` threads, made when needed; jobs beyond that wait their turn.
pub(crate) struct BlockingPool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    most: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl BlockingPool {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), most }))
    }

    pub(crate) fn spawn(&self, job: Job) {
        let mut state = self.0.state.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || state.threads >= self.0.most {
            self.0.work.notify_one();
            return;
        }
        let shared = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name("callboard-blocking".into());
        // Without a thread of its own the job waits for one of the others; with no thread at all it runs when the
        // next job brings one.
        if thread.spawn(move || shared.serve()).is_ok() {
            state.threads += 1;
        }
    }

    /// Lets the threads end when they have no work.
    pub(crate) fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.work.notify_all();
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
                job();
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
