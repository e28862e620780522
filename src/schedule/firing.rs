//! What a decision about a schedule is made from, and of.

use crate::clock::Timestamp;
use crate::schedule::{FiringCause, FiringStatus};
use crate::task::{TaskId, TaskState};

/// A task of a schedule that is not at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The task.
    pub task_id: TaskId,
    /// Its state; not a terminal one.
    pub state: TaskState,
    /// The task that it waits for.
    pub follows: Option<TaskId>,
    /// Who asked for it; the clock, when that is not known any more.
    pub cause: FiringCause,
}

/// A nominal time that makes no task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedTime {
    /// The time; the last one when it stands for several.
    pub nominal_at: Timestamp,
    /// `missed`, `skipped` or `coalesced`.
    pub status: FiringStatus,
    /// How many times it stands for, at least.
    pub times: u64,
    /// Why.
    pub reason: String,
}
