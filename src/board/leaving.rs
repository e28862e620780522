//! Waiting for threads that were told to end, but not for ever.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::clock::Clock;

/// Threads that were told to end.
pub(super) struct Leaving {
    all: usize,
    ends: Receiver<()>,
}

impl Leaving {
    /// Joins each thread on a thread of its own, because a join cannot be given up. A thread that never ends keeps its
    /// joiner, and nothing else.
    pub(super) fn of<T: Send + 'static>(threads: Vec<T>, join: fn(T) -> thread::Result<()>) -> Self {
        let (tell, ends) = channel();
        let all = threads.len();
        for thread in threads {
            let tell = tell.clone();
            let wait = move || {
                // A panic of the thread was told where it happened.
                drop(join(thread));
                // The counter may have lost patience.
                tell.send(()).ok();
            };
            // Without a joiner the sender is dropped, and the thread counts as left.
            drop(thread::Builder::new().name("callboard-join".into()).spawn(wait));
        }
        Self { all, ends }
    }

    /// Blocks until all have ended or `patience` is used up; returns how many are left.
    pub(super) fn left(self, patience: &Patience) -> usize {
        let mut left = self.all;
        while left > 0 {
            match self.ends.recv_timeout(patience.left()) {
                Ok(()) => left -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        left
    }
}

/// A span of real time that several waits share. Threads end by real time, whatever clock the board runs on.
pub(super) struct Patience {
    clock: Clock,
    span: Duration,
}

impl Patience {
    pub(super) fn of(span: Duration) -> Self {
        Self { clock: Clock::system(), span }
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        self.span.saturating_sub(self.clock.elapsed())
    }
}
