//! The error of an invalid task.

/// The task itself is invalid, so that pushing it again cannot succeed. The text names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task refused: {0}")]
pub struct InvalidTask(pub String);
