//! Epochs: which commits were composed before a given moment. A caller that waits for these commits does not wait for
//! later commits.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A span of commits. Each commit holds the epoch in which it was composed, and each epoch holds the next epoch. So an
/// epoch is dropped when its own commits and all earlier commits are over.
#[derive(Default)]
pub(crate) struct Epoch {
    next: Mutex<Option<Arc<Epoch>>>,
    /// Told when the epoch is dropped.
    watchers: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Epoch {
    /// Ends the epoch `current`, and tells `watcher` when all commits that were composed so far are over.
    pub(super) fn end(current: &mut Arc<Self>, watcher: oneshot::Sender<()>) {
        let next = Arc::<Self>::default();
        current.watchers.lock().push(watcher);
        *current.next.lock() = Some(Arc::clone(&next));
        // The ended epoch is dropped here when no commit is in flight.
        *current = next;
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        for watcher in self.watchers.get_mut().drain(..) {
            // A watcher that has stopped waiting needs no answer.
            watcher.send(()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(told: &mut oneshot::Receiver<()>) -> bool {
        told.try_recv().is_ok()
    }

    #[test]
    fn a_watcher_waits_for_all_commits_before_it_and_for_none_after() {
        let mut current = Arc::<Epoch>::default();
        let (first, second) = (Arc::clone(&current), Arc::clone(&current));
        let (tell, mut told) = oneshot::channel();
        Epoch::end(&mut current, tell);
        let third = Arc::clone(&current);
        let (tell, mut later) = oneshot::channel();
        Epoch::end(&mut current, tell);
        let _fourth = Arc::clone(&current);
        drop((third, second));
        assert!(!is_told(&mut told) && !is_told(&mut later));
        drop(first);
        assert!(is_told(&mut told) && is_told(&mut later));
    }

    #[test]
    fn a_watcher_is_told_at_once_when_no_commit_is_under_way() {
        let (tell, mut told) = oneshot::channel();
        Epoch::end(&mut Arc::default(), tell);
        assert!(is_told(&mut told));
    }
}
