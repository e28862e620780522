//! Keeps tasks in memory.

use crate::backend::*;
use crate::task::{ClaimToken, NodeId, TaskId, TaskRecord};
use std::time::Duration;

/// Keeps tasks in memory.
#[derive(Debug)]
pub struct Memory {}

impl Backend for Memory {
    fn capabilities(&self) -> Capabilities {
        todo!()
    }
    fn commit(&self, commit: &Commit) -> Result<Receipt, BackendError> {
        todo!()
    }
    fn sweep(&self, sweep: &Sweep) -> Result<SweepReport, BackendError> {
        todo!()
    }
    fn heartbeat(&self, beat: &NodeBeat) -> Result<(), BackendError> {
        todo!()
    }
    fn release(
        &self,
        node: NodeId,
        keep: &[(TaskId, ClaimToken)],
        retire: bool,
        now: crate::clock::Timestamp,
    ) -> Result<Released, BackendError> {
        todo!()
    }
    fn get(&self, task_id: TaskId) -> Result<Option<TaskRecord>, BackendError> {
        todo!()
    }
    fn executions(&self, task_id: TaskId) -> Result<Vec<Execution>, BackendError> {
        todo!()
    }
    fn list(
        &self,
        filter: &TaskFilter,
        order: TaskOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, BackendError> {
        todo!()
    }
    fn counts(&self) -> Result<Vec<StateCount>, BackendError> {
        todo!()
    }
    fn edit(&self, edit: &Edit) -> Result<EditReport, BackendError> {
        todo!()
    }
    fn save_queue(&self, settings: &QueueSettings) -> Result<(), BackendError> {
        todo!()
    }
    fn queues(&self) -> Result<Vec<QueueSettings>, BackendError> {
        todo!()
    }
    fn nodes(&self) -> Result<Vec<NodeRecord>, BackendError> {
        todo!()
    }
    fn prune(&self, prune: &Prune) -> Result<Pruned, BackendError> {
        todo!()
    }
    fn health(&self) -> Result<(), BackendError> {
        todo!()
    }
    fn watch(&self, timeout: Duration) -> Result<bool, BackendError> {
        todo!()
    }
}
impl Memory {
    #[allow(missing_docs)]
    pub fn new() -> Self {
        Self {}
    }
}
