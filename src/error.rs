//! The errors that callers receive: one small enum per boundary.
//!
//! The text of each error is complete and includes its cause, and there is no `source()`. Otherwise a printer that
//! shows both, such as `{:#}` of `anyhow`, would show the cause twice.

use crate::actor::NoAnswer;
use crate::backend::BackendError;
use crate::name::Name;
use crate::task::{InvalidTask, TaskError, TaskId, TaskState};

/// The reason why a push was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The task itself is invalid; pushing it again cannot succeed.
    #[error("task refused: {0}")]
    Invalid(String),
    /// The unique key of the task is held, and its mode is `reject`.
    #[error("unique key {key:?} is held by task {existing}; wait for it, or push with another mode")]
    UniqueKeyHeld {
        /// The key.
        key: String,
        /// The task that holds the key.
        existing: TaskId,
    },
    /// The limit on waiting pushes has been reached (only from `try_push`).
    #[error(
        "the board is full: as many pushes wait for storage as `max_waiting_pushes` allows; await `push` or try later"
    )]
    Full,
    /// The board is stopping or has stopped.
    #[error("the board takes no more pushes: it is stopping; start it again to push")]
    Closed,
    /// Storage did not accept the task within the push deadline. If the error came after the commit was sent, it is
    /// unknown whether the task was stored. Pushing it again with the same `task_id` gives one task.
    #[error("storage did not accept the push in time: {0}; push again with the same task_id")]
    Storage(BackendError),
    /// Storage has no room for more tasks; the text states the room and the remedy. Nothing was stored.
    #[error("{0}")]
    NoRoom(String),
    /// The push could not be made part of the application's transaction. It leaves nothing in that transaction.
    #[error("the task was not pushed: {0}; roll the transaction back")]
    Transaction(BackendError),
    /// No answer came. Pushing the task again with the same `task_id` gives one task.
    #[error("the outcome of the push is unknown: its answer was lost; push again with the same task_id")]
    Unknown,
}

/// The reason why a request to the board, other than a push, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// Storage failed.
    #[error("storage failed: {0}")]
    Storage(BackendError),
    /// No task has this id.
    #[error("no task {0}; it may have been deleted or pruned")]
    NoSuchTask(TaskId),
    /// The task has ended without a result.
    #[error("task {task_id} is {state}: {reason}; retry it, or push it anew")]
    NotCompleted {
        /// The task's id.
        task_id: TaskId,
        /// The final state: dead or cancelled.
        state: TaskState,
        /// The task's `last_error`.
        reason: String,
    },
    /// The result of the task does not match the requested type.
    #[error("the result of task {task_id} is of another type: {error}; `wait` gives it as JSON")]
    Result {
        /// The task's id.
        task_id: TaskId,
        /// The first mismatch with the type.
        // Not named `source`, because the text already contains it.
        error: serde_json::Error,
    },
    /// No schedule has this name.
    #[error("no schedule {0:?}; it may have been deleted")]
    NoSuchSchedule(Name),
    /// A schedule with this name already exists.
    #[error("there is a schedule {0:?} already; update it, or choose another name")]
    ScheduleExists(Name),
    /// The part that handles the request is not running.
    #[error("the {part} is not answering; see `health()`, and try again")]
    NotAnswering {
        /// The name of the part.
        part: &'static str,
    },
    /// The board is stopping or has stopped.
    #[error("the board is stopping or has stopped; start another one")]
    Closed,
    /// The request itself is invalid.
    #[error("request refused: {0}")]
    Invalid(String),
}

/// The reason why a board did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration has faults; the error lists all of them.
    #[error("the configuration has {} fault(s): {}", .0.len(), .0.join("; "))]
    Config(Vec<String>),
    /// A type has two handlers.
    #[error("type {0:?} has two handlers; register one of them only")]
    TwoHandlers(String),
    /// Two schedules have the same name.
    #[error("the builder has two schedules named {0:?}; give it one of them only, or another name to one")]
    TwoSchedules(String),
    /// Storage could not be opened.
    #[error("storage could not be opened: {0}")]
    Storage(BackendError),
    /// The operating system could not start a thread.
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
    /// A part of the board did not start.
    #[error("the {0} did not start")]
    Part(&'static str),
}

/// The reason why a delivery could not be settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The claim no longer holds: it expired, or the task was taken back. A second run may be in progress.
    #[error("task {0} is no longer held by this delivery; drop it, another run decides")]
    Fenced(TaskId),
    /// The task was cancelled, so its time is not extended. It can still be settled until the cancel grace ends.
    #[error("task {0} was cancelled and gets no more time; settle it, or drop the delivery")]
    Cancelled(TaskId),
    /// The board has stopped and has given the task back.
    #[error("the board has stopped and has given task {0} back; it runs again")]
    Closed(TaskId),
    /// No answer came. Either the board stopped meanwhile, or storage's answer was lost and storage cannot tell what
    /// was written. If the task is still held, it is offered again when the lease ends.
    #[error("the outcome for task {0} is unknown: no answer came; look at the task, it may run again")]
    Unknown(TaskId),
}

/// The reason why a task could not be completed in a transaction of its handler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// The claim no longer holds: the task was taken back, or it is already completed. A second run may be in progress.
    #[error("task {0} is no longer held by this run; roll the transaction back, another run decides")]
    Fenced(TaskId),
    /// The output cannot be written as JSON.
    #[error("the output cannot be written as JSON: {0}; give it a type that can")]
    Output(serde_json::Error),
    /// The completion could not be made part of the transaction. It leaves nothing in that transaction.
    #[error("the task was not completed: {0}; roll the transaction back")]
    Storage(BackendError),
}

macro_rules! becomes {
    ($($cause:ty => $error:ident::$make:ident),+ $(,)?) => {$(
        impl From<$cause> for $error {
            fn from(cause: $cause) -> Self {
                Self::$make(cause)
            }
        }
    )+};
}

becomes!(
    BackendError => BoardError::Storage,
    BackendError => StartError::Storage,
    std::io::Error => StartError::Thread,
    serde_json::Error => CompleteError::Output,
);

impl From<NoAnswer> for BoardError {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Closed => Self::Closed,
            NoAnswer::NotAnswering { part } => Self::NotAnswering { part },
        }
    }
}

impl From<InvalidTask> for PushError {
    fn from(InvalidTask(fault): InvalidTask) -> Self {
        Self::Invalid(fault)
    }
}

// The errors that a function of the application returning a `TaskError` meets most. In a handler `?` takes any error.
becomes!(
    std::io::Error => TaskError::new,
    serde_json::Error => TaskError::new,
    BackendError => TaskError::new,
    BoardError => TaskError::new,
    CompleteError => TaskError::new,
    DeliveryError => TaskError::new,
    PushError => TaskError::new,
    crate::store::StoreError => TaskError::new,
    crate::schedule::trigger::TriggerError => TaskError::new,
);

#[cfg(feature = "sql")]
becomes!(
    diesel::result::Error => TaskError::new,
    diesel::ConnectionError => TaskError::new,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_its_cause_twice() {
        let task_id = TaskId::from(uuid::Uuid::from_u128(7));
        let storage = || BackendError::Permanent { operation: "push", message: "the disk is gone".into() };
        let json = || serde_json::from_str::<u8>("no").unwrap_err();
        let errors: [(anyhow::Error, String); 9] = [
            (PushError::Storage(storage()).into(), storage().to_string()),
            (PushError::Transaction(storage()).into(), storage().to_string()),
            (BoardError::from(storage()).into(), storage().to_string()),
            (BoardError::Result { task_id, error: json() }.into(), json().to_string()),
            (StartError::from(storage()).into(), storage().to_string()),
            (StartError::from(std::io::Error::other("no thread")).into(), "no thread".into()),
            (CompleteError::Storage(storage()).into(), storage().to_string()),
            (CompleteError::from(json()).into(), json().to_string()),
            (crate::task::TaskError::new(std::io::Error::other("no page")).into(), "no page".into()),
        ];
        for (error, cause) in errors {
            assert_eq!(format!("{error:#}").matches(&cause).count(), 1, "{error:#}");
            assert_eq!(error.to_string().matches(&cause).count(), 1, "{error}");
        }
    }
}
