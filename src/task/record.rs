//! Tasks and executions as storage returns them.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{ExecutionStatus, TaskState};
use super::{NodeId, Retry, TaskId};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::FiringKey;

/// A task with all its stored fields: a row of `task_queue`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskRecord {
    /// The task's position in push order; also the cursor of lists.
    pub seq: i64,
    /// The task's id.
    pub task_id: TaskId,
    /// The name that selects the handler.
    #[serde(rename = "type")]
    pub kind: Name,
    /// The queue of the task.
    pub queue: Name,
    /// The handler's input: JSON text, exactly as it was pushed.
    pub params: String,
    /// The current state.
    pub state: TaskState,
    /// Priority: a smaller number runs first.
    pub priority: i32,
    /// The earliest time at which the task may run.
    pub run_at: Timestamp,
    /// The number of attempts used up.
    pub attempt: u32,
    /// The number of attempts allowed.
    pub max_attempts: u32,
    /// The number of runs that ended with their node's death since the last run that ended in any other way.
    pub crash_count: u32,
    /// The longest time that one attempt may take.
    pub timeout: Option<Duration>,
    /// The retry policy: the wait between attempts.
    pub retry: Retry,
    /// The unique key.
    pub unique_key: Option<String>,
    /// The key by which limits of keys apply.
    pub limit_key: Option<String>,
    /// The parent task, which must end before this task can run.
    pub parent_id: Option<TaskId>,
    /// The schedule that made the task, and the nominal time of the firing.
    pub firing: Option<FiringKey>,
    /// Tags to find the task by.
    pub tags: Vec<String>,
    /// The pusher's own JSON.
    pub meta: Option<Value>,
    /// The progress of the run.
    pub progress: Option<Progress>,
    /// The handler's result.
    pub result: Option<Value>,
    /// The error of the last failed attempt, or the reason why the task is dead or cancelled. It also records that a
    /// run completed the task after its timeout.
    pub last_error: Option<String>,
    /// The node that runs the task.
    pub node: Option<NodeId>,
    /// True if a cancellation was requested while the task runs.
    pub cancel_requested: bool,
    /// The task is cancelled if it has not started by this time.
    pub expires_at: Option<Timestamp>,
    /// The time of the push.
    pub created_at: Timestamp,
    /// The time of the last change of state.
    pub updated_at: Timestamp,
    /// The start time of the last run.
    pub started_at: Option<Timestamp>,
    /// The time at which the task reached a terminal state.
    pub finished_at: Option<Timestamp>,
}

impl TaskRecord {
    /// Reads the params as your own type: for a typed task, its own struct.
    ///
    /// # Errors
    /// When the params do not match the type.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.params)
    }

    /// Reads the result as your own type. A missing result is read as `null`, so it fits `()`, and an `Option` becomes
    /// `None`.
    ///
    /// # Errors
    /// When the result does not match the type.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        read(self.result.as_ref())
    }
}

fn read<T: DeserializeOwned>(result: Option<&Value>) -> Result<T, serde_json::Error> {
    T::deserialize(result.unwrap_or(&Value::Null))
}

/// The progress of a running task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The finished share, from 0 to 1.
    pub fraction: f64,
    /// The current step, as text.
    pub message: String,
}

/// A run of a task: a row of `task_execution`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Execution {
    /// The token of the claim under which the task ran; unique within a task.
    pub execution_id: i64,
    /// The task's id.
    pub task_id: TaskId,
    /// The number of the attempt; the first is 1. A run that used up no attempt leaves its number to the next run.
    pub attempt: u32,
    /// How the run ended.
    pub status: ExecutionStatus,
    /// The node of the run.
    pub node: NodeId,
    /// The start time.
    pub started_at: Timestamp,
    /// The end time.
    pub finished_at: Option<Timestamp>,
    /// The handler's result.
    pub result: Option<Value>,
    /// The error of the run, or a note that it succeeded after its timeout.
    pub error_message: Option<String>,
}

impl Execution {
    /// Reads the result as your own type. A missing result is read as `null`, so it fits `()`, and an `Option` becomes
    /// `None`.
    ///
    /// # Errors
    /// When the result does not match the type.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        read(self.result.as_ref())
    }

    /// The duration of the run; `None` while it lasts.
    pub fn duration(&self) -> Option<Duration> {
        self.finished_at.map(|end| end.since(self.started_at))
    }
}
