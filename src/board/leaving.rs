//! Waits, for a limited time, until threads that were told to end have ended.

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
    /// Joins each thread on a thread of its own, because a join cannot be abandoned. A thread that never ends keeps
    /// only its joiner.
    pub(super) fn of<T: Send + 'static>(threads: Vec<T>, join: fn(T) -> thread::Result<()>) -> Self {
        let (tell, ends) = channel();
        let all = threads.len();
        for thread in threads {
            let tell = tell.clone();
            let wait = move || {
                // A panic of the thread was reported where it happened.
                drop(join(thread));
                // The receiver may have stopped waiting.
                tell.send(()).ok();
            };
            // Without a joiner the sender is dropped, and the thread counts as left behind.
            drop(thread::Builder::new().name("callboard-join".into()).spawn(wait));
        }
        Self { all, ends }
    }

    /// Blocks until all threads have ended or `patience` is used up. Returns how many threads are left.
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

/// A span of real time that several waits share. Threads end in real time, even if the board runs on a test clock.
pub(super) struct Patience {
    clock: Clock,
    span: Duration,
}

impl Patience {
    pub(super) fn of(span: Duration) -> Self {
        Self { clock: Clock::system(), span }
    }

    /// The rest of the span.
    pub(super) fn left(&self) -> Duration {
        self.span.saturating_sub(self.clock.elapsed())
    }
}
