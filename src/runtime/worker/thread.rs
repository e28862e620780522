//! The thread of a blocking run. It cannot be ended from outside, so it may outlast its run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// The thread of a single blocking run.
pub(crate) struct RunThread {
    stand: watch::Sender<Stand>,
    /// How many threads of the pool have outlasted their runs.
    overdue: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// The run has no thread yet.
    Waiting,
    Busy,
    /// Busy, and the run was given up.
    Overdue,
    /// The thread has finished the run, or will never begin it.
    Free,
}

impl RunThread {
    pub(crate) fn new(overdue: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { stand: watch::Sender::new(Stand::Waiting), overdue: Arc::clone(overdue) })
    }

    /// Marks the thread as busy for as long as the returned value lives. `None` when the run was given up before it
    /// began.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Busy> {
        let begins = self.stand.send_if_modified(|stand| {
            let begins = *stand == Stand::Waiting;
            if begins {
                *stand = Stand::Busy;
            }
            begins
        });
        begins.then(|| Busy(Arc::clone(self)))
    }

    /// Gives the run up. True when its thread goes on; a run that has not begun never will.
    pub(super) fn outlasts(&self) -> bool {
        self.stand.send_if_modified(|stand| {
            match stand {
                Stand::Waiting => *stand = Stand::Free,
                Stand::Busy => {
                    self.overdue.fetch_add(1, Ordering::Relaxed);
                    *stand = Stand::Overdue;
                }
                Stand::Overdue | Stand::Free => return false,
            }
            true
        });
        *self.stand.borrow() == Stand::Overdue
    }

    /// Resolves when the thread is free.
    pub(super) async fn freed(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        self.stand.subscribe().wait_for(|stand| *stand == Stand::Free).await.ok();
    }
}

/// Held on the thread. Its drop marks the thread as free, however the run ends there.
pub(super) struct Busy(Arc<RunThread>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.stand.send_modify(|stand| {
            // Before the notification, so that a waiter that sees `Free` does not find the thread still counted.
            if *stand == Stand::Overdue {
                self.0.overdue.fetch_sub(1, Ordering::Relaxed);
            }
            *stand = Stand::Free;
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_thread_outlasts_its_run_from_when_it_is_given_up_until_it_is_free() {
        let overdue = Arc::new(AtomicUsize::new(0));
        let count = || overdue.load(Ordering::Relaxed);
        let thread = RunThread::new(&overdue);
        let busy = thread.begin().expect("nobody has given the run up");
        assert_eq!((thread.begin().is_none(), count()), (true, 0));
        assert_eq!((thread.outlasts(), thread.outlasts(), count()), (true, true, 1));
        assert!(thread.freed().now_or_never().is_none());
        drop(busy);
        assert!(thread.freed().now_or_never().is_some());
        assert_eq!((thread.outlasts(), count()), (false, 0));
    }

    #[test]
    fn a_run_that_is_given_up_before_it_has_a_thread_never_begins() {
        let overdue = Arc::new(AtomicUsize::new(0));
        let thread = RunThread::new(&overdue);
        assert!(!thread.outlasts());
        assert!(thread.begin().is_none() && thread.freed().now_or_never().is_some());
        assert_eq!(overdue.load(Ordering::Relaxed), 0);
    }
}
