//! The messages to the queue actor, and their answers.

use actix::Message;
use tokio::sync::oneshot;

use crate::name::Name;
use crate::task::{TaskId, TaskState};

/// The result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pushed {
    /// The id of the new task, or of the task that existed already.
    pub task_id: TaskId,
    /// True when a task with this id or unique key existed already.
    pub duplicate: bool,
    /// The state of the task.
    pub state: TaskState,
}

/// Tells the queue actor that work was handed in at the inbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Poke;

/// Answers when nothing of the queue, or of all queues, runs on this node.
#[derive(Message)]
#[rtype(result = "oneshot::Receiver<()>")]
pub(crate) struct AwaitIdle(pub(crate) Option<Name>);
