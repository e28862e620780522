//! Progress on its way to the inbox.

use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use super::progress::Pace;
use crate::backend::ProgressUpdate;
use crate::task::TaskId;

impl Inbox {
    /// Hands in progress of a run.
    pub(crate) fn report(&self, task_id: TaskId, update: ProgressUpdate, pace: &Arc<Pace>, now: Duration) {
        let mut gathered = self.gathered.lock();
        let due = !gathered.gone && gathered.progress.add(task_id, update, pace, now);
        drop(gathered);
        if due {
            self.ring();
        }
    }

    /// Sends progress that came too soon and is due now.
    pub(crate) fn ripen(&self, now: Duration) {
        let due = self.gathered.lock().progress.ripen(now);
        if due {
            self.ring();
        }
    }
}
