//! Why something is no task.

/// The task itself is wrong, and pushing it again cannot help; the text names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task refused: {0}")]
pub struct InvalidTask(pub String);
