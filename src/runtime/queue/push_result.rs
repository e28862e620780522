//! Turns storage's answers for a push into the caller's `Result`. Pure.

use super::Pushed;
use crate::backend::{BackendError, Inserted, Insertion};
use crate::error::PushError;
use crate::task::TaskState;

/// The answer to the caller that pushed a group.
pub(crate) fn of_group(answers: impl Iterator<Item = Result<Pushed, PushError>>) -> Result<Vec<Pushed>, PushError> {
    let mut pushed = Vec::with_capacity(answers.size_hint().0);
    let mut refused = None;
    for answer in answers {
        match answer {
            Ok(answer) => pushed.push(answer),
            // The error of the task whose key is held says more than the errors of the other tasks, which were refused
            // with it.
            Err(error @ PushError::UniqueKeyHeld { .. }) => refused = Some(error),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(pushed), Err)
}

/// The answer to the caller that pushed a task.
pub(crate) fn answer(insertion: &Insertion, outcome: Inserted) -> Result<Pushed, PushError> {
    let spec = &insertion.spec;
    match outcome {
        Inserted::New { state } => Ok(Pushed { task_id: spec.task_id, duplicate: false, state }),
        Inserted::Claimed { .. } => Ok(Pushed { task_id: spec.task_id, duplicate: false, state: TaskState::Running }),
        Inserted::Duplicate { task_id, state } | Inserted::Replaced { task_id, state } => {
            Ok(Pushed { task_id, duplicate: true, state })
        }
        Inserted::Refused { existing } => {
            let key = spec.extras().unique.as_ref().map(|unique| unique.key.clone()).unwrap_or_default();
            Err(PushError::UniqueKeyHeld { key, existing })
        }
        Inserted::GroupRefused => {
            Err(PushError::Invalid("another task of the same push_many was refused; nothing was stored".into()))
        }
        Inserted::Busy => Err(PushError::Storage(key_is_busy())),
    }
}

/// The error of a push whose unique key a different transaction held until the deadline of the push.
pub(crate) fn key_is_busy() -> BackendError {
    let message = "a transaction that has not ended holds the unique key of the push; end it, and push again";
    BackendError::Transient { operation: "commit", message: message.into() }
}
