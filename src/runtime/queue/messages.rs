//! What the queue actor is told, and what it answers.

use actix::Message;
use tokio::sync::oneshot;

use crate::name::Name;
use crate::task::{TaskId, TaskState};

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pushed {
    /// The task: the new one, or the one that was there.
    pub task_id: TaskId,
    /// True when a task with this id or unique key was there already.
    pub duplicate: bool,
    /// Where the task stands.
    pub state: TaskState,
}

/// Something was handed in at the inbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Poke;

/// Answers when nothing of the queue, or of all queues, runs on this node.
#[derive(Message)]
#[rtype(result = "oneshot::Receiver<()>")]
pub(crate) struct AwaitIdle(pub(crate) Option<Name>);
