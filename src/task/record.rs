//! What storage says of a task.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{ExecutionStatus, TaskState};
use super::{NodeId, Retry, TaskId};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::FiringKey;

/// A task with all that is known of it: a row of `task_queue`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskRecord {
    /// Its place in push order; also the cursor of lists.
    pub seq: i64,
    /// Its id.
    pub task_id: TaskId,
    /// The name that picks the handler.
    #[serde(rename = "type")]
    pub kind: Name,
    /// The lane it waits in.
    pub queue: Name,
    /// What the handler gets: JSON text, as it was pushed.
    pub params: String,
    /// Where it stands.
    pub state: TaskState,
    /// Smaller runs first.
    pub priority: i32,
    /// Not before this time.
    pub run_at: Timestamp,
    /// Attempts used up.
    pub attempt: u32,
    /// Attempts it gets.
    pub max_attempts: u32,
    /// Runs that ended with the death of their node and have not been followed by one that ended otherwise.
    pub crash_count: u32,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// The wait between attempts.
    pub retry: Retry,
    /// The unique key.
    pub unique_key: Option<String>,
    /// What limits of keys go by.
    pub limit_key: Option<String>,
    /// The task that must end first.
    pub parent_id: Option<TaskId>,
    /// The schedule and the nominal time that it was made for.
    pub firing: Option<FiringKey>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// JSON of the pusher's own.
    pub meta: Option<Value>,
    /// How far it has come.
    pub progress: Option<Progress>,
    /// What the handler returned.
    pub result: Option<Value>,
    /// Why the last failed attempt failed, or why it is dead or cancelled; or that a run completed it after its timeout.
    pub last_error: Option<String>,
    /// The node that runs it.
    pub node: Option<NodeId>,
    /// True when somebody has asked for it to be cancelled while it runs.
    pub cancel_requested: bool,
    /// Not started by then: cancelled.
    pub expires_at: Option<Timestamp>,
    /// When it was pushed.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// When its last run began.
    pub started_at: Option<Timestamp>,
    /// When it came to a terminal state.
    pub finished_at: Option<Timestamp>,
}

impl TaskRecord {
    /// The params as a type of your own: the task's own struct, for a typed one.
    ///
    /// # Errors
    /// When they are not.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.params)
    }

    /// The result as a type of your own. No result is read as `null`: as `()`, or as an `Option` that is `None`.
    ///
    /// # Errors
    /// When it is not.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        read(self.result.as_ref())
    }
}

fn read<T: DeserializeOwned>(result: Option<&Value>) -> Result<T, serde_json::Error> {
    T::deserialize(result.unwrap_or(&Value::Null))
}

/// How far a running task has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 1.
    pub fraction: f64,
    /// What it is doing.
    pub message: String,
}

/// One attempt at a task: a row of `task_execution`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Execution {
    /// The claim that it ran under; unique within a task.
    pub execution_id: i64,
    /// The task.
    pub task_id: TaskId,
    /// Which attempt: 1 is the first. Runs that used up no attempt repeat the number.
    pub attempt: u32,
    /// How it ended.
    pub status: ExecutionStatus,
    /// The node that ran it.
    pub node: NodeId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What the handler returned.
    pub result: Option<Value>,
    /// Why it failed; or that it succeeded after its timeout.
    pub error_message: Option<String>,
}

impl Execution {
    /// The result as a type of your own. No result is read as `null`: as `()`, or as an `Option` that is `None`.
    ///
    /// # Errors
    /// When it is not.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        read(self.result.as_ref())
    }

    /// How long it took, or nothing while it runs.
    pub fn duration(&self) -> Option<Duration> {
        self.finished_at.map(|end| end.since(self.started_at))
    }
}
