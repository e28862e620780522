//! State that outlives the scheduler actor: which schedule fires next, and how much of storage is known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::heap::Heap;
use super::silent::Silent;
use crate::backend::ScheduleChanges;
use crate::clock::Timestamp;
use crate::task::ScheduleId;

/// Time between two looks at all schedules. Saved changes are found by their version. The full look finds rows that
/// were edited by hand without a new version.
const BETWEEN_FULL_LOOKS: Duration = Duration::from_secs(60);

/// Full looks may take at most 1 / `FULL_LOOKS_SHARE` of the time.
const FULL_LOOKS_SHARE: u32 = 100;

/// The schedules that fire, as this node knows them.
#[derive(Default)]
pub(crate) struct DueList {
    known: Mutex<Known>,
    /// Storage may hold changes.
    look: AtomicBool,
    bell: Notify,
    /// Locked by the round in flight. It is no plain mutex, because it is held over awaits.
    pub(super) round: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    heap: Heap,
    version: i64,
    /// When the last look at all schedules began, in monotonic time, and how long it took.
    full_look: Option<(Duration, Duration)>,
    /// The schedules that are silent for long, as the last full look found them.
    silent: Vec<Silent>,
}

impl Known {
    fn set(&mut self, id: ScheduleId, due: Option<Timestamp>) {
        self.heap.set(id, due);
        // The schedule was changed or fires, so it is not silent any more.
        self.silent.retain(|silent| silent.schedule_id != id);
    }
}

impl DueList {
    /// Storage may hold changes, or a time may have come: a round begins soon.
    pub(crate) fn ring(&self) {
        self.look.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// A run of a schedule has failed. The schedule is due at once, because its rules may pause it.
    pub(crate) fn failed(&self, id: ScheduleId, now: Timestamp) {
        self.set(id, Some(now));
        self.bell.notify_one();
    }

    /// Resolves when the bell was rung.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Makes the next round look at storage.
    pub(super) fn look_again(&self) {
        self.look.store(true, Ordering::Release);
    }

    /// The version after which to look for changes: 0 asks for all schedules that fire. `None` when there is no reason
    /// to look.
    pub(super) fn look_from(&self, now: Duration) -> Option<i64> {
        let known = self.known.lock();
        let full = known.full_look.is_none_or(|(at, took)| {
            now.saturating_sub(at) >= BETWEEN_FULL_LOOKS.max(took.saturating_mul(FULL_LOOKS_SHARE))
        });
        let look = self.look.swap(false, Ordering::AcqRel);
        // If no schedule was ever saved, the version is 0, which would ask for all schedules. So -1 asks for the
        // changes.
        let changes = if known.version == 0 { -1 } else { known.version };
        if full { Some(0) } else { look.then_some(changes) }
    }

    /// Takes over the result of a look after version `from`, which began at `began` and ended at `now`.
    pub(super) fn learn(&self, from: i64, changes: ScheduleChanges, began: Duration, now: Duration) {
        let mut known = self.known.lock();
        known.version = changes.version;
        if from == 0 {
            known.heap.refill(changes.due.into_iter().filter_map(|(id, due)| Some((id, due?))));
            known.full_look = Some((began, now.saturating_sub(began)));
        } else {
            for (id, due) in changes.due {
                known.set(id, due);
            }
        }
    }

    /// Takes over which schedules are silent. Returns the schedules that were not known to be silent.
    pub(super) fn learn_silent(&self, silent: Vec<Silent>) -> Vec<Silent> {
        let mut known = self.known.lock();
        let is_new = |found: &&Silent| known.silent.iter().all(|known| known.schedule_id != found.schedule_id);
        let new = silent.iter().filter(is_new).cloned().collect();
        known.silent = silent;
        new
    }

    /// Schedules that are silent at `now`, as far as this node knows.
    pub(crate) fn silent(&self, now: Timestamp) -> Vec<Silent> {
        let known = self.known.lock();
        known.silent.iter().filter(|silent| silent.until > now).cloned().collect()
    }

    /// Sets when a schedule is to be looked at.
    pub(super) fn set(&self, id: ScheduleId, due: Option<Timestamp>) {
        self.known.lock().set(id, due);
    }

    /// Schedules that are due at `now`, at most `limit`.
    pub(super) fn due(&self, now: Timestamp, limit: usize) -> Vec<ScheduleId> {
        self.known.lock().heap.due(now, limit)
    }

    /// When the next schedule is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.known.lock().heap.next()
    }
}
