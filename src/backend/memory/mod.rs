//! Keeps tasks in memory: for tests, for programs that need no durable storage, and as the reference for all other
//! backends.
//!
//! A single lock protects all data; a commit holds it for well under a microsecond per task. The cost of a task does
//! not grow with the number of stored tasks. A row is found by its position in push order, and each index holds only
//! the tasks that need it.

mod commit;
mod edit;
mod hash;
mod ids;
mod limits;
mod list;
mod pending;
mod prune;
mod queues;
mod rows;
mod schedules;
mod store;
mod sweep;
mod unique;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{
    Backend, BackendError, Capabilities, Commit, Cursor, Edit, EditReport, Execution, Fired, InLine, Limit,
    LimitScope, NodeBeat, NodeRecord, Outdated, QueueChange, QueueSettings, Receipt, Released, Retention, Saved,
    ScheduleChanges, ScheduleFilter, ScheduleState, StateCount, Sweep, SweepReport, TaskFilter, TaskOrder, TaskPage,
    Turn,
};
use crate::clock::Timestamp;
use crate::schedule::{Firing, ScheduleRecord};
use crate::task::{ClaimToken, NodeId, ScheduleId, TaskId, TaskRecord};
use store::Store;

/// Keeps tasks in memory for the lifetime of this value.
///
/// ```
/// use callboard::backend::{Backend, memory::Memory};
/// let backend = Memory::new();
/// assert!(!backend.capabilities().durable);
/// assert_eq!(backend.counts()?, []);
/// # Ok::<(), callboard::backend::BackendError>(())
/// ```
pub struct Memory {
    store: Mutex<Store>,
    most: usize,
    full: OwnLine,
}

/// True if there is no room for new tasks. Each push reads it, so it is written only when it changes, and it has a
/// cache line of its own. If it lay beside the lock, every commit would invalidate the cache line for the threads that
/// push.
#[repr(align(128))]
struct OwnLine(AtomicBool);

/// The default limit for the bytes of all tasks.
pub(crate) const MOST_BYTES: usize = 2 << 30;

impl Memory {
    /// An empty backend that accepts new tasks up to 2 GiB.
    pub fn new() -> Self {
        Self::with_room(MOST_BYTES)
    }

    /// An empty backend that accepts new tasks up to this many bytes of tasks and their history, finished tasks
    /// included. The size is estimated: about 480 bytes for a task, plus its texts. Work in flight is still completed
    /// beyond this limit.
    pub fn with_room(bytes: usize) -> Self {
        Self { store: Mutex::default(), most: bytes, full: OwnLine(AtomicBool::new(bytes == 0)) }
    }

    /// Runs `work`, which may change the number of stored bytes, and updates the flag for a full backend.
    fn change<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store.lock();
        let done = work(&mut store);
        let full = store.bytes >= self.most;
        if self.full.0.load(Ordering::Relaxed) != full {
            self.full.0.store(full, Ordering::Relaxed);
        }
        done
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl Backend for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities { never_blocks: true, ..Capabilities::new("memory") }
    }

    fn commit(&self, commit: &Commit) -> Result<Receipt, BackendError> {
        Ok(self.change(|store| store.commit(commit)))
    }

    fn full(&self) -> Option<String> {
        if !self.full.0.load(Ordering::Relaxed) {
            return None;
        }
        let (tasks, bytes) = self.store.lock().size();
        Some(format!(
            "memory: holds {tasks} tasks of {bytes} bytes, and `max_memory_bytes` allows {}; let finished tasks go sooner \
             by `retention`, raise it, or keep tasks in a database",
            self.most
        ))
    }

    fn sweep(&self, sweep: &Sweep) -> Result<SweepReport, BackendError> {
        Ok(self.store.lock().sweep(sweep))
    }

    fn heartbeat(&self, beat: &NodeBeat) -> Result<(), BackendError> {
        self.store.lock().heartbeat(beat);
        Ok(())
    }

    fn release(
        &self,
        node: NodeId,
        keep: &[(TaskId, ClaimToken)],
        retire: bool,
        now: Timestamp,
    ) -> Result<Released, BackendError> {
        Ok(self.store.lock().release(node, keep, retire, now))
    }

    fn get(&self, task_id: TaskId) -> Result<Option<TaskRecord>, BackendError> {
        Ok(self.store.lock().get(task_id))
    }

    fn executions(&self, task_id: TaskId) -> Result<Vec<Execution>, BackendError> {
        Ok(self.store.lock().executions(task_id))
    }

    fn list(
        &self,
        filter: &TaskFilter,
        order: TaskOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, BackendError> {
        Ok(self.store.lock().list(filter, order, after, limit))
    }

    fn counts(&self) -> Result<Vec<StateCount>, BackendError> {
        Ok(self.store.lock().queues.counts())
    }

    fn edit(&self, edit: &Edit) -> Result<EditReport, BackendError> {
        Ok(self.change(|store| store.edit(edit)))
    }

    fn change_queue(&self, change: &QueueChange) -> Result<(), BackendError> {
        let QueueChange { queue, paused, concurrency } = change;
        let mut store = self.store.lock();
        let fresh = || QueueSettings { queue: queue.clone(), paused: false, concurrency: None };
        let settings = store.settings.entry(queue.clone()).or_insert_with(fresh);
        settings.paused = paused.unwrap_or(settings.paused);
        settings.concurrency = concurrency.unwrap_or(settings.concurrency);
        Ok(())
    }

    fn queues(&self) -> Result<Vec<QueueSettings>, BackendError> {
        Ok(self.store.lock().settings.values().cloned().collect())
    }

    fn save_limit(&self, limit: &Limit) -> Result<(), BackendError> {
        self.store.lock().limiter.save(limit);
        Ok(())
    }

    fn remove_limit(&self, scope: LimitScope, name: &str) -> Result<bool, BackendError> {
        Ok(self.store.lock().limiter.remove(scope, name))
    }

    fn limits(&self) -> Result<Vec<Limit>, BackendError> {
        Ok(self.store.lock().limiter.list())
    }

    fn nodes(&self) -> Result<Vec<NodeRecord>, BackendError> {
        let mut nodes: Vec<NodeRecord> = self.store.lock().nodes.values().cloned().collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    fn in_line(&self, after: Option<&str>, queues: usize, most: usize) -> Result<Vec<InLine>, BackendError> {
        Ok(self.store.lock().queues.in_line(after.unwrap_or_default(), queues, most))
    }

    fn save_schedule(&self, record: &ScheduleRecord, turn: Option<i64>) -> Result<Saved, BackendError> {
        Ok(self.store.lock().schedules.save(record, turn))
    }

    fn schedule_changes(&self, version: i64) -> Result<ScheduleChanges, BackendError> {
        Ok(self.store.lock().schedules.changes(version))
    }

    fn schedules_ahead(&self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, BackendError> {
        Ok(self.store.lock().schedules.ahead(now, limit))
    }

    fn schedules(&self, ids: &[ScheduleId]) -> Result<Vec<ScheduleState>, BackendError> {
        Ok(self.store.lock().schedule_states(ids))
    }

    fn schedule_named(&self, name: &str) -> Result<Option<ScheduleId>, BackendError> {
        Ok(self.store.lock().schedules.named(name))
    }

    fn schedule_defined(&self, name: &str) -> Result<Option<ScheduleId>, BackendError> {
        Ok(self.store.lock().schedules.defined(name))
    }

    fn list_schedules(
        &self,
        filter: &ScheduleFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, BackendError> {
        Ok(self.store.lock().schedules.list(filter, after, limit))
    }

    fn fire(&self, turns: &[Turn]) -> Result<Vec<Fired>, BackendError> {
        Ok(self.change(|store| store.fire(turns)))
    }

    fn firings(
        &self,
        schedule_id: ScheduleId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Firing>, BackendError> {
        Ok(self.store.lock().firings(schedule_id, before, limit))
    }

    fn forget_schedules(&self, deleted: Timestamp, finished: Option<Timestamp>) -> Result<(), BackendError> {
        self.store.lock().schedules.forget(deleted, finished);
        Ok(())
    }

    fn outdated(&self, rules: &[Retention], now: Timestamp, limit: usize) -> Result<Vec<Outdated>, BackendError> {
        Ok(self.store.lock().outdated(rules, now, limit))
    }

    fn prune(&self, tasks: &[Outdated]) -> Result<Vec<TaskId>, BackendError> {
        Ok(self.change(|store| store.prune(tasks)))
    }

    fn health(&self) -> Result<(), BackendError> {
        drop(self.store.lock());
        Ok(())
    }

    /// No other process can change the data, so this waits for the whole `timeout`.
    fn watch(&self, timeout: Duration) -> Result<bool, BackendError> {
        let nobody = Mutex::new(());
        Condvar::new().wait_for(&mut nobody.lock(), timeout);
        Ok(false)
    }
}
