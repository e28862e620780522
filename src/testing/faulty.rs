//! A backend that fails on request.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::backend::{
    Backend, BackendError, Capabilities, Commit, Cursor, Edit, EditReport, Fired, InLine, Limit, LimitScope,
    NodeBeat, NodeRecord, Outdated, QueueChange, QueueSettings, Receipt, Released, Retention, Saved, ScheduleChanges,
    ScheduleFilter, ScheduleState, StateCount, Sweep, SweepReport, TaskFilter, TaskOrder, TaskPage, Turn,
};
use crate::clock::Timestamp;
use crate::schedule::{Firing, ScheduleRecord};
use crate::task::{ClaimToken, Execution, NodeId, ScheduleId, TaskId, TaskRecord};

/// A fault at a commit, a heartbeat or a watch: it happens in place of the call, or around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call panics before anything is written.
    Panic,
    /// The call panics after everything is written.
    PanicAfter,
    /// Storage is unreachable. Nothing is written.
    Away,
    /// The answer is lost: everything is written, but the caller does not know.
    AnswerLost,
    /// Storage refuses permanently.
    Refuse,
}

/// Wraps a backend and makes its commits, heartbeats and watches fail on request. All other calls pass through.
pub struct Faulty {
    inner: Arc<dyn Backend>,
    commits: Faults,
    heartbeats: Faults,
    watches: Faults,
    pause: Mutex<Duration>,
    refused: Mutex<Option<String>>,
    refused_claims: Mutex<Option<String>>,
    begun: AtomicU64,
    held: Mutex<bool>,
    let_go: Condvar,
    panics: Mutex<Vec<String>>,
    blocks: bool,
}

impl Faulty {
    /// A wrapper that does not fail yet. With `blocks` it claims to block, so that the board gives it threads.
    pub fn new(inner: Arc<dyn Backend>, blocks: bool) -> Arc<Self> {
        Arc::new(Self {
            inner,
            commits: Faults::default(),
            heartbeats: Faults::default(),
            watches: Faults::default(),
            pause: Mutex::default(),
            refused: Mutex::default(),
            refused_claims: Mutex::default(),
            begun: AtomicU64::new(0),
            held: Mutex::default(),
            let_go: Condvar::new(),
            panics: Mutex::default(),
            blocks,
        })
    }

    /// The next commits that write or claim anything meet these faults, a single fault each.
    pub fn next_commits(&self, faults: impl IntoIterator<Item = Fault>) {
        self.commits.add(faults);
    }

    /// The next heartbeats meet these faults, a single fault each.
    pub fn next_heartbeats(&self, faults: impl IntoIterator<Item = Fault>) {
        self.heartbeats.add(faults);
    }

    /// The next watches for changes by other processes meet these faults, a single fault each. A watch that is in
    /// flight ends normally first.
    pub fn next_watches(&self, faults: impl IntoIterator<Item = Fault>) {
        self.watches.add(faults);
    }

    /// From now on each commit and each decision about schedules takes this much longer, as on a slow disk. Use it
    /// only with a wrapper that blocks.
    pub fn slow_down(&self, pause: Duration) {
        *self.pause.lock() = pause;
    }

    /// From now on storage permanently refuses every commit that contains `text` in the params of a push, or in the
    /// result or the error of a run.
    pub fn refuse(&self, text: &str) {
        *self.refused.lock() = Some(text.into());
    }

    /// From now on storage permanently refuses every commit that claims from this queue. `None` accepts all commits
    /// again.
    pub fn refuse_claims(&self, queue: Option<&str>) {
        *self.refused_claims.lock() = queue.map(Into::into);
    }

    /// With true, searches for outdated history do not return, as over a history that takes long to count. With false
    /// they go on. Use it only with a wrapper that blocks.
    pub fn hold_outdated(&self, hold: bool) {
        *self.held.lock() = hold;
        self.let_go.notify_all();
    }

    /// Number of commits that have arrived so far, including commits in flight.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        let pause = *self.pause.lock();
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }

    /// The next call of this method of [`Backend`] panics before it does anything.
    pub fn panic_at(&self, method: &str) {
        self.panics.lock().push(method.into());
    }

    /// Number of panics that no call has met yet.
    pub fn panics_left(&self) -> usize {
        self.panics.lock().len()
    }

    fn step(&self, method: &str) {
        let mut panics = self.panics.lock();
        let place = panics.iter().position(|wanted| wanted == method);
        let hit = place.map(|place| panics.swap_remove(place));
        // A panic must not happen under the lock.
        drop(panics);
        if let Some(method) = hit {
            panic!("storage was made to panic in {method}");
        }
    }

    /// Number of faults that no commit has met yet.
    pub fn left(&self) -> usize {
        self.commits.0.lock().len()
    }
}

/// The faults for the next calls of a kind.
#[derive(Default)]
struct Faults(Mutex<VecDeque<Fault>>);

impl Faults {
    fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().extend(faults);
    }

    /// Does `work`, or meets the next fault.
    fn around<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        // The fault is taken in a separate statement, because a panic must not happen under the lock.
        let fault = self.0.lock().pop_front();
        let message = || "made to fail".to_owned();
        match fault {
            None => work(),
            Some(Fault::Panic) => panic!("storage was made to panic before the {operation}"),
            Some(Fault::PanicAfter) => {
                let done = work().is_ok();
                panic!("storage was made to panic after the {operation} (done: {done})")
            }
            Some(Fault::Away) => Err(BackendError::Transient { operation, message: message() }),
            Some(Fault::AnswerLost) => {
                work()?;
                Err(BackendError::Unknown { operation, message: message() })
            }
            Some(Fault::Refuse) => Err(BackendError::Permanent { operation, message: message() }),
        }
    }
}

fn has_text(commit: &Commit, text: &str) -> bool {
    let ends = commit.settle.iter().filter_map(|settlement| settlement.execution.as_ref());
    let mut texts = ends.flat_map(|end| [end.result.as_deref(), end.error.as_deref()]).flatten();
    let mut pushes = commit.insert.iter().flat_map(|group| &group.tasks);
    texts.any(|end| end.contains(text)) || pushes.any(|insertion| insertion.spec.params.contains(text))
}

impl Backend for Faulty {
    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        Capabilities { never_blocks: inner.never_blocks && !self.blocks, ..inner }
    }

    fn full(&self) -> Option<String> {
        self.inner.full()
    }

    fn time(&self) -> Result<Option<Timestamp>, BackendError> {
        self.step("time");
        self.inner.time()
    }

    fn commit(&self, commit: &Commit) -> Result<Receipt, BackendError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.step("commit");
        self.wait();
        if self.refused.lock().as_ref().is_some_and(|text| has_text(commit, text)) {
            return Err(BackendError::Permanent { operation: "commit", message: "made to refuse this".into() });
        }
        let claims = self.refused_claims.lock().clone();
        if claims.is_some_and(|queue| commit.claim.iter().any(|request| request.queue == *queue)) {
            return Err(BackendError::Permanent {
                operation: "commit",
                message: "made to refuse these claims".into(),
            });
        }
        self.commits.around("commit", || self.inner.commit(commit))
    }

    fn commit_in(&self, conn: &mut dyn std::any::Any, commit: &Commit) -> Result<Receipt, BackendError> {
        self.step("commit_in");
        self.inner.commit_in(conn, commit)
    }

    fn sweep(&self, sweep: &Sweep) -> Result<SweepReport, BackendError> {
        self.step("sweep");
        self.inner.sweep(sweep)
    }

    fn heartbeat(&self, beat: &NodeBeat) -> Result<(), BackendError> {
        self.step("heartbeat");
        self.heartbeats.around("heartbeat", || self.inner.heartbeat(beat))
    }

    fn release(
        &self,
        node: NodeId,
        keep: &[(TaskId, ClaimToken)],
        retire: bool,
        now: Timestamp,
    ) -> Result<Released, BackendError> {
        self.step("release");
        self.inner.release(node, keep, retire, now)
    }

    fn get(&self, task_id: TaskId) -> Result<Option<TaskRecord>, BackendError> {
        self.step("get");
        self.inner.get(task_id)
    }

    fn executions(&self, task_id: TaskId) -> Result<Vec<Execution>, BackendError> {
        self.step("executions");
        self.inner.executions(task_id)
    }

    fn list(
        &self,
        filter: &TaskFilter,
        order: TaskOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, BackendError> {
        self.step("list");
        self.inner.list(filter, order, after, limit)
    }

    fn counts(&self) -> Result<Vec<StateCount>, BackendError> {
        self.step("counts");
        self.inner.counts()
    }

    fn edit(&self, edit: &Edit) -> Result<EditReport, BackendError> {
        self.step("edit");
        self.inner.edit(edit)
    }

    fn change_queue(&self, change: &QueueChange) -> Result<(), BackendError> {
        self.step("change_queue");
        self.inner.change_queue(change)
    }

    fn queues(&self) -> Result<Vec<QueueSettings>, BackendError> {
        self.step("queues");
        self.inner.queues()
    }

    fn save_limit(&self, limit: &Limit) -> Result<(), BackendError> {
        self.step("save_limit");
        self.inner.save_limit(limit)
    }

    fn remove_limit(&self, scope: LimitScope, name: &str) -> Result<bool, BackendError> {
        self.step("remove_limit");
        self.inner.remove_limit(scope, name)
    }

    fn limits(&self) -> Result<Vec<Limit>, BackendError> {
        self.step("limits");
        self.inner.limits()
    }

    fn nodes(&self) -> Result<Vec<NodeRecord>, BackendError> {
        self.step("nodes");
        self.inner.nodes()
    }

    fn in_line(&self, after: Option<&str>, queues: usize, most: usize) -> Result<Vec<InLine>, BackendError> {
        self.inner.in_line(after, queues, most)
    }

    fn save_schedule(&self, record: &ScheduleRecord, turn: Option<i64>) -> Result<Saved, BackendError> {
        self.step("save_schedule");
        self.inner.save_schedule(record, turn)
    }

    fn schedule_changes(&self, version: i64) -> Result<ScheduleChanges, BackendError> {
        self.step("schedule_changes");
        self.inner.schedule_changes(version)
    }

    fn schedules_ahead(&self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, BackendError> {
        self.step("schedules_ahead");
        self.inner.schedules_ahead(now, limit)
    }

    fn schedules(&self, ids: &[ScheduleId]) -> Result<Vec<ScheduleState>, BackendError> {
        self.step("schedules");
        self.inner.schedules(ids)
    }

    fn schedule_named(&self, name: &str) -> Result<Option<ScheduleId>, BackendError> {
        self.step("schedule_named");
        self.inner.schedule_named(name)
    }

    fn schedule_defined(&self, name: &str) -> Result<Option<ScheduleId>, BackendError> {
        self.step("schedule_defined");
        self.inner.schedule_defined(name)
    }

    fn list_schedules(
        &self,
        filter: &ScheduleFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, BackendError> {
        self.step("list_schedules");
        self.inner.list_schedules(filter, after, limit)
    }

    fn fire(&self, turns: &[Turn]) -> Result<Vec<Fired>, BackendError> {
        self.step("fire");
        self.wait();
        self.commits.around("fire", || self.inner.fire(turns))
    }

    fn firings(
        &self,
        schedule_id: ScheduleId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Firing>, BackendError> {
        self.step("firings");
        self.inner.firings(schedule_id, before, limit)
    }

    fn forget_schedules(&self, deleted: Timestamp, finished: Option<Timestamp>) -> Result<(), BackendError> {
        self.step("forget_schedules");
        self.inner.forget_schedules(deleted, finished)
    }

    fn outdated(&self, rules: &[Retention], now: Timestamp, limit: usize) -> Result<Vec<Outdated>, BackendError> {
        self.step("outdated");
        self.let_go.wait_while(&mut self.held.lock(), |held| *held);
        self.inner.outdated(rules, now, limit)
    }

    fn prune(&self, tasks: &[Outdated]) -> Result<Vec<TaskId>, BackendError> {
        self.step("prune");
        self.inner.prune(tasks)
    }

    fn health(&self) -> Result<(), BackendError> {
        self.step("health");
        self.inner.health()
    }

    fn watch(&self, timeout: Duration) -> Result<bool, BackendError> {
        self.step("watch");
        self.watches.around("watch", || self.inner.watch(timeout))
    }

    fn conflicts(&self) -> u64 {
        self.inner.conflicts()
    }
}
