//! What whoever pushed is told. Pure.

use super::Pushed;
use crate::backend::{BackendError, Inserted, Insertion};
use crate::error::PushError;
use crate::task::TaskState;

/// What whoever pushed a group is told of it.
pub(crate) fn of_group(answers: impl Iterator<Item = Result<Pushed, PushError>>) -> Result<Vec<Pushed>, PushError> {
    let mut pushed = Vec::with_capacity(answers.size_hint().0);
    let mut refused = None;
    for answer in answers {
        match answer {
            Ok(answer) => pushed.push(answer),
            // The one that holds the key says more than the others of its group, which were refused with it.
            Err(error @ PushError::UniqueKeyHeld { .. }) => refused = Some(error),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(pushed), Err)
}

/// What whoever pushed a task is told of it.
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

/// Why a push whose key another transaction had in hand until its deadline came to nothing.
pub(crate) fn key_is_busy() -> BackendError {
    let message = "a transaction that has not ended holds the unique key of the push; end it, and push again";
    BackendError::Transient { operation: "commit", message: message.into() }
}
