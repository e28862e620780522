//! The return values of a handler.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{BoxError, TaskError};
use crate::json;

/// The outcome of a run that did not fail.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done; the value is stored as the task's result.
    Done(Option<Value>),
    /// Done; the JSON text is stored unchanged as the task's result.
    Json(Box<str>),
    /// Not yet: the task runs again after this time. Uses up no attempt.
    Snooze(Duration),
    /// Gives the task back: it is `pending` at once and runs again, on this node or on a different one. Uses up no
    /// attempt and leaves no trace in the history.
    ///
    /// Meant for a run that is asked to end because its board stops. To wait before the next run, use
    /// [`Snooze`](Outcome::Snooze).
    Release,
    /// Cancels the task with this reason: it becomes `cancelled` and does not run again.
    ///
    /// If the run was asked to end because its board stops ([`CancelReason::Shutdown`](crate::CancelReason::Shutdown)),
    /// the task is given back instead, as with [`Release`](Outcome::Release). Otherwise each deploy would cancel tasks.
    Cancel(String),
}

impl Outcome {
    /// Done, without a result.
    pub const fn done() -> Self {
        Self::Done(None)
    }

    /// Done; `value` is stored as the task's result.
    ///
    /// # Errors
    /// A fatal [`TaskError`] when `value` cannot be written as JSON that can be read again: NaN, or more than 127
    /// levels.
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

/// A value that a handler may return in `Ok`: an [`Outcome`], or a value to store as the task's result.
///
/// `()`, and every value that is `null` in JSON, store nothing.
pub trait IntoOutcome {
    /// Converts the value into an outcome.
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

/// The return type of a handler: an [`Outcome`] or a value to store, or any error.
///
/// `?` accepts every error that is `Send + Sync`, an `anyhow::Error`, a boxed error and a text. Each of them is a
/// failed attempt, after which the task is tried again. A [`TaskError`] can change this.
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

/// The result of a run, in the crate's own types.
pub(crate) type RunResult = Result<Outcome, TaskError>;

/// Converts a handler's return value into the crate's own types.
pub(crate) fn returned<T: IntoOutcome>(result: TaskResult<T>) -> RunResult {
    result?.into_outcome()
}
