//! Progress that runs have reported and storage does not have yet: due updates for the next commit, and early updates
//! that came too soon for it.
//!
//! A report waits if it comes within [`BETWEEN`] after the previous report of its run went out. It waits until that
//! time is over, or for the end of the run. So a handler that reports in a tight loop makes no commits of its own, and
//! its last report still reaches storage.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::backend::ProgressUpdate;
use crate::task::TaskId;

/// Progress of a run is stored no more often than this, however often its handler reports it.
const BETWEEN: Duration = Duration::from_millis(500);

/// The monotonic time at which progress of a run last became due. It outlives each report, and is locked only under the
/// lock of the inbox.
#[derive(Default)]
pub(crate) struct Pace(Mutex<Option<Duration>>);

/// Reported progress, only the last report of each task. No task is in both maps.
#[derive(Default)]
pub(crate) struct Reports {
    due: HashMap<TaskId, ProgressUpdate>,
    early: HashMap<TaskId, Early>,
}

struct Early {
    update: ProgressUpdate,
    pace: Arc<Pace>,
    due_at: Duration,
}

impl Reports {
    /// True when nothing is due. Early reports do not count.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Adds a report. True when it is due and the queue actor has not been told yet that this task's report is due.
    pub(super) fn add(&mut self, task_id: TaskId, update: ProgressUpdate, pace: &Arc<Pace>, now: Duration) -> bool {
        if let Some(older) = self.due.get_mut(&task_id) {
            *older = update;
            return false;
        }
        let mut last = pace.0.lock();
        let due_at = last.map_or(now, |last| last.saturating_add(BETWEEN));
        if due_at > now {
            self.early.insert(task_id, Early { update, pace: Arc::clone(pace), due_at });
            return false;
        }
        *last = Some(now);
        self.early.remove(&task_id);
        self.due.insert(task_id, update);
        true
    }

    /// Makes early reports due that have waited long enough; true when there are any.
    pub(super) fn ripen(&mut self, now: Duration) -> bool {
        let mut any = false;
        for (task_id, early) in self.early.extract_if(|_, early| early.due_at <= now) {
            *early.pace.0.lock() = Some(now);
            self.due.insert(task_id, early.update);
            any = true;
        }
        any
    }

    /// Handles the end of the task's run. Its last report goes out with the end, because no progress is written after
    /// that.
    pub(super) fn ended(&mut self, task_id: TaskId) {
        // Most runs report nothing, and every end of a run calls this.
        if self.early.is_empty() {
            return;
        }
        if let Some(early) = self.early.remove(&task_id) {
            self.due.insert(task_id, early.update);
        }
    }

    /// Keeps only the due reports, and returns the early reports.
    pub(super) fn split_early(&mut self) -> Self {
        Self { due: HashMap::new(), early: std::mem::take(&mut self.early) }
    }

    /// The due reports, for a commit.
    pub(super) fn into_due(self) -> impl ExactSizeIterator<Item = ProgressUpdate> {
        self.due.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::task::{ClaimToken, Progress};

    /// A run that reports at given times, in milliseconds.
    struct Run {
        task_id: TaskId,
        pace: Arc<Pace>,
        reports: Reports,
    }

    impl Run {
        fn new() -> Self {
            let task_id = TaskId::new(Timestamp::from_micros(0));
            Self { task_id, pace: Arc::default(), reports: Reports::default() }
        }

        fn says(&mut self, millis: u64, message: &str) -> bool {
            let progress = Progress { fraction: 0.5, message: message.into() };
            let update = ProgressUpdate { seq: 1, token: ClaimToken::random(), progress };
            self.reports.add(self.task_id, update, &self.pace, Duration::from_millis(millis))
        }

        fn ripens(&mut self, millis: u64) -> bool {
            self.reports.ripen(Duration::from_millis(millis))
        }

        /// The messages that the next commit takes along.
        fn sent(&mut self) -> Vec<String> {
            let early = self.reports.split_early();
            let due = std::mem::replace(&mut self.reports, early);
            due.into_due().map(|update| update.progress.message).collect()
        }
    }

    #[test]
    fn what_comes_too_soon_makes_no_commit_and_its_last_word_waits() {
        let mut run = Run::new();
        assert!(run.says(0, "a"), "the first goes out at once");
        assert_eq!(run.sent(), ["a"]);
        assert!(!run.says(1, "b") && !run.says(499, "c"));
        assert!(run.reports.is_empty());
        assert!(!run.ripens(499));
        assert_eq!(run.sent(), [""; 0], "also with the commits of others");
        assert!(run.ripens(500) && !run.reports.is_empty());
        assert_eq!(run.sent(), ["c"]);
        assert!(!run.ripens(9_000));
    }

    #[test]
    fn what_became_due_by_waiting_is_followed_by_a_wait_as_well() {
        let mut run = Run::new();
        assert!(run.says(0, "a"));
        assert_eq!(run.sent(), ["a"]);
        run.says(1, "b");
        assert!(run.ripens(700), "whoever looks comes late");
        assert_eq!(run.sent(), ["b"]);
        assert!(!run.says(1_199, "c"));
        assert!(run.says(1_200, "d"), "its time is over, whoever looks");
        assert_eq!(run.sent(), ["d"]);
        assert!(!run.ripens(9_000), "it came in place of the one before it");
    }

    #[test]
    fn what_no_commit_has_taken_yet_is_replaced() {
        let mut run = Run::new();
        assert!(run.says(0, "a"));
        assert!(!run.says(1, "b"), "it has been told");
        assert!(!run.says(2_000, "c"));
        assert_eq!(run.sent(), ["c"]);
    }

    #[test]
    fn the_end_of_a_run_takes_its_last_word_along() {
        let mut run = Run::new();
        run.says(0, "a");
        assert_eq!(run.sent(), ["a"]);
        run.says(1, "b");
        run.reports.ended(run.task_id);
        assert_eq!(run.sent(), ["b"]);
    }
}
