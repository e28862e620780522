//! The input and the output of a decision about a schedule.

use crate::clock::Timestamp;
use crate::schedule::{FiringCause, FiringStatus};
use crate::task::{TaskId, TaskState};

/// A task of a schedule that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The task.
    pub task_id: TaskId,
    /// Its state, which is not terminal.
    pub state: TaskState,
    /// The task that must end before this task starts.
    pub follows: Option<TaskId>,
    /// The cause of the task. [`FiringCause::Schedule`] when the cause is no longer known.
    pub cause: FiringCause,
}

/// A nominal time that makes no task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedTime {
    /// The time; the last of them when the entry stands for several.
    pub nominal_at: Timestamp,
    /// `missed`, `skipped` or `coalesced`.
    pub status: FiringStatus,
    /// How many times the entry stands for, at least.
    pub times: u64,
    /// Why.
    pub reason: String,
}
