//! What a handler returns.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{BoxError, TaskError};
use crate::json;

/// How a run went, when it did not fail.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done; the value is kept as the task's result.
    Done(Option<Value>),
    /// Done; the JSON text is kept as the task's result, as it is written.
    Json(Box<str>),
    /// Not yet: run again after this time. Uses up no attempt.
    Snooze(Duration),
    /// Gives the task back: it is `pending` at once, and runs again, here or on another node. Uses up no attempt and
    /// leaves no trace in the history.
    ///
    /// Meant for a run that is asked to end because its board stops. To wait before the next run use
    /// [`Snooze`](Outcome::Snooze).
    Release,
    /// Calls the task off, with the reason: it is `cancelled`, and does not run again.
    ///
    /// A run that was asked to end because its board stops ([`CancelReason::Shutdown`](crate::CancelReason::Shutdown))
    /// gives its task back instead, as [`Release`](Outcome::Release) does. Otherwise each deploy would call tasks off.
    Cancel(String),
}

impl Outcome {
    /// Done, with nothing to keep.
    pub const fn done() -> Self {
        Self::Done(None)
    }

    /// Done, keeping `value` as the task's result.
    ///
    /// # Errors
    /// A fatal [`TaskError`] when `value` cannot be written as JSON that can be read again: NaN, or more than 127 levels.
    pub fn output(value: &impl Serialize) -> TaskResult {
        match json::written(value) {
            Ok(text) if text == "null" => Ok(Self::Done(Some(Value::Null))),
            Ok(text) => Ok(Self::Json(text.into())),
            Err(fault) => Err(TaskError::fatal(format!("the result cannot be written as JSON: {fault}")).into()),
        }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::done()
    }
}

impl From<Value> for Outcome {
    fn from(value: Value) -> Self {
        Self::Done(Some(value))
    }
}

/// What may stand in the `Ok` of a handler: an [`Outcome`], or a value to keep as the task's result.
///
/// `()` and every other value that is `null` in JSON keep nothing.
pub trait IntoOutcome {
    /// Makes it an outcome.
    ///
    /// # Errors
    /// A fatal [`TaskError`] when the value cannot be written as JSON.
    fn into_outcome(self) -> Result<Outcome, TaskError>;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Result<Outcome, TaskError> {
        Ok(self)
    }
}

impl<T: Serialize> IntoOutcome for T {
    fn into_outcome(self) -> Result<Outcome, TaskError> {
        Ok(match Outcome::output(&self)? {
            Outcome::Done(Some(Value::Null)) => Outcome::done(),
            outcome => outcome,
        })
    }
}

/// What a handler returns: an [`Outcome`] or a value to keep, or any error.
///
/// `?` takes every error that is `Send + Sync`, an `anyhow::Error`, a boxed error and a text. Each of them is a failed
/// attempt, and the task is tried again; a [`TaskError`] says otherwise.
///
/// ```
/// use callboard::{TaskError, TaskResult};
///
/// fn length(path: &str) -> TaskResult<usize> {
///     if path.is_empty() {
///         return Err(TaskError::fatal("no path").into());
///     }
///     Ok(std::fs::read_to_string(path)?.len())
/// }
/// assert!(TaskError::from(length("").unwrap_err()).is_fatal());
/// assert!(!TaskError::from(length("/no/such/file").unwrap_err()).is_fatal());
/// ```
pub type TaskResult<T = Outcome> = Result<T, BoxError>;

/// What a run came to, in the crate's own types.
pub(crate) type RunResult = Result<Outcome, TaskError>;

/// What a handler returned, in the crate's own types.
pub(crate) fn returned<T: IntoOutcome>(result: TaskResult<T>) -> RunResult {
    result?.into_outcome()
}
