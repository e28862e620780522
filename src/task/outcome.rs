//! What a handler returns.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

/// How a run went, when it did not fail.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done; the value is kept as the task's result.
    Done(Option<Value>),
    /// Not yet: run again after this time. Uses up no attempt.
    Snooze(Duration),
    /// Call the task off, with the reason.
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
    /// A fatal [`TaskError`] when `value` cannot be written as JSON.
    pub fn output(value: &impl Serialize) -> Result<Self, TaskError> {
        serde_json::to_value(value)
            .map(|value| Self::Done(Some(value)))
            .map_err(|error| TaskError::fatal(format!("the result cannot be written as JSON: {error}")))
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

/// What every handler returns.
pub type TaskResult = Result<Outcome, TaskError>;

/// Why a run failed.
///
/// Any error becomes a retryable one with `?`; [`TaskError::fatal`] sends the task to `dead` at once.
///
/// ```
/// use callboard::{Outcome, TaskError, TaskResult};
/// fn read() -> TaskResult {
///     let text = std::fs::read_to_string("/no/such/file")?;
///     Ok(serde_json::Value::from(text).into())
/// }
/// assert!(!read().unwrap_err().is_fatal());
/// ```
pub struct TaskError {
    message: String,
    fatal: bool,
    retry_after: Option<Duration>,
}

impl TaskError {
    /// The task is tried again as its retry policy says.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), fatal: false, retry_after: None }
    }

    /// The task goes to `dead` at once.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), fatal: true, retry_after: None }
    }

    /// Sets the wait before the next attempt, in place of the retry policy's.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// True when trying again cannot help.
    pub const fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// The wait that the error asks for.
    pub const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.fatal { "fatal" } else { "retryable" };
        write!(f, "TaskError({kind}: {})", self.message)
    }
}

// `TaskError` itself is no `Error`: that is what allows this conversion, as in anyhow.
impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(message)
    }
}
