//! The cancellation token of a run.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The reason why a run is asked to end early.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// The task was cancelled on request; the text gives the reason.
    Requested(String),
    /// The board stops. The task runs again later or on a different node, and has used up no attempt.
    Shutdown,
    /// The task's timeout has passed.
    Timeout,
}

#[derive(Debug, Default)]
pub(crate) struct Cancel {
    reason: Mutex<Option<CancelReason>>,
    raised: Notify,
}

impl Cancel {
    /// Asks the run to end. The first reason stays.
    pub(crate) fn raise(&self, reason: CancelReason) {
        self.reason.lock().get_or_insert(reason);
        self.raised.notify_waiters();
    }

    pub(crate) fn reason(&self) -> Option<CancelReason> {
        self.reason.lock().clone()
    }

    /// Resolves when the run is asked to end; at once when it already was.
    pub(crate) async fn raised(&self) {
        loop {
            // Interest is registered before the check, so that a raise in between is not missed.
            let raised = self.raised.notified();
            if self.reason.lock().is_some() {
                return;
            }
            raised.await;
        }
    }
}
