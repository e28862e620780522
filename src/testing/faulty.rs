//! A backend that fails on request.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::backend::{
    Backend, BackendError, Capabilities, Commit, Cursor, Edit, EditReport, NodeBeat, NodeRecord, Prune, Pruned,
    QueueSettings, Receipt, Released, StateCount, Sweep, SweepReport, TaskFilter, TaskOrder, TaskPage,
};
use crate::clock::Timestamp;
use crate::task::{ClaimToken, Execution, NodeId, TaskId, TaskRecord};

/// What happens in place of a commit, or around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It panics before anything was written.
    Panic,
    /// It panics after everything was written.
    PanicAfter,
    /// Storage is away: nothing is written.
    Away,
    /// The answer is lost: everything was written, and the caller does not know.
    AnswerLost,
    /// Storage refuses for good.
    Refuse,
}

/// Wraps a backend and makes its commits fail as told; everything else passes through.
pub struct Faulty {
    inner: Arc<dyn Backend>,
    faults: Mutex<VecDeque<Fault>>,
    pause: Mutex<Duration>,
    blocks: bool,
}

impl Faulty {
    /// A wrapper that does not fail yet. With `blocks` it claims to block, so that the board gives it threads.
    pub fn new(inner: Arc<dyn Backend>, blocks: bool) -> Arc<Self> {
        Arc::new(Self { inner, faults: Mutex::default(), pause: Mutex::default(), blocks })
    }

    /// The next commits that write or claim something meet these faults, one each.
    pub fn next_commits(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().extend(faults);
    }

    /// From now on each commit takes this much longer, as on a slow disk. For a wrapper that blocks.
    pub fn slow_down(&self, pause: Duration) {
        *self.pause.lock() = pause;
    }

    /// Faults that no commit has met yet.
    pub fn left(&self) -> usize {
        self.faults.lock().len()
    }
}

impl Backend for Faulty {
    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        Capabilities { never_blocks: inner.never_blocks && !self.blocks, ..inner }
    }

    fn commit(&self, commit: &Commit) -> Result<Receipt, BackendError> {
        let pause = *self.pause.lock();
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        let fault = self.faults.lock().pop_front();
        let message = || "made to fail".to_owned();
        match fault {
            None => self.inner.commit(commit),
            Some(Fault::Panic) => panic!("storage was made to panic before the commit"),
            Some(Fault::PanicAfter) => {
                let written = self.inner.commit(commit).is_ok();
                panic!("storage was made to panic after the commit (written: {written})")
            }
            Some(Fault::Away) => Err(BackendError::Transient { operation: "commit", message: message() }),
            Some(Fault::AnswerLost) => {
                self.inner.commit(commit)?;
                Err(BackendError::Unknown { operation: "commit", message: message() })
            }
            Some(Fault::Refuse) => Err(BackendError::Permanent { operation: "commit", message: message() }),
        }
    }

    fn sweep(&self, sweep: &Sweep) -> Result<SweepReport, BackendError> {
        self.inner.sweep(sweep)
    }

    fn heartbeat(&self, beat: &NodeBeat) -> Result<(), BackendError> {
        self.inner.heartbeat(beat)
    }

    fn release(
        &self,
        node: NodeId,
        keep: &[(TaskId, ClaimToken)],
        retire: bool,
        now: Timestamp,
    ) -> Result<Released, BackendError> {
        self.inner.release(node, keep, retire, now)
    }

    fn get(&self, task_id: TaskId) -> Result<Option<TaskRecord>, BackendError> {
        self.inner.get(task_id)
    }

    fn executions(&self, task_id: TaskId) -> Result<Vec<Execution>, BackendError> {
        self.inner.executions(task_id)
    }

    fn list(
        &self,
        filter: &TaskFilter,
        order: TaskOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, BackendError> {
        self.inner.list(filter, order, after, limit)
    }

    fn counts(&self) -> Result<Vec<StateCount>, BackendError> {
        self.inner.counts()
    }

    fn edit(&self, edit: &Edit) -> Result<EditReport, BackendError> {
        self.inner.edit(edit)
    }

    fn save_queue(&self, settings: &QueueSettings) -> Result<(), BackendError> {
        self.inner.save_queue(settings)
    }

    fn queues(&self) -> Result<Vec<QueueSettings>, BackendError> {
        self.inner.queues()
    }

    fn nodes(&self) -> Result<Vec<NodeRecord>, BackendError> {
        self.inner.nodes()
    }

    fn prune(&self, prune: &Prune) -> Result<Pruned, BackendError> {
        self.inner.prune(prune)
    }

    fn health(&self) -> Result<(), BackendError> {
        self.inner.health()
    }

    fn watch(&self, timeout: Duration) -> Result<bool, BackendError> {
        self.inner.watch(timeout)
    }
}
