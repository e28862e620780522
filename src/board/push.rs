//! How tasks come to the desk.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::core::Core;
use crate::error::PushError;
use crate::queue::Pushed;
use crate::queue::desk::{PushReply, PushRequest};
use crate::task::{IntoNewTask, TaskSpec};

/// Pushes one task for a handler that runs.
pub(crate) async fn push_from_within(core: &Arc<Core>, task: impl IntoNewTask) -> Result<Pushed, PushError> {
    let spec = checked(core, task)?;
    let place = core.desk.inner_place(1, spec.params.len()).await?;
    one(hand_in(core, vec![spec], place).await?)
}

pub(super) async fn push(core: &Arc<Core>, task: impl IntoNewTask) -> Result<Pushed, PushError> {
    let spec = checked(core, task)?;
    let place = core.desk.place(1, spec.params.len()).await?;
    one(hand_in(core, vec![spec], place).await?)
}

/// A task that may be stored, with what its pusher left open filled in.
pub(super) fn checked(core: &Core, task: impl IntoNewTask) -> Result<Arc<TaskSpec>, PushError> {
    Ok(Arc::new(task.into_new_task()?.into_spec(&core.clock, core.config.max_params_bytes)?))
}

pub(super) fn one(answers: Vec<Pushed>) -> Result<Pushed, PushError> {
    answers.into_iter().next().ok_or(PushError::Unknown)
}

pub(super) async fn hand_in(
    core: &Arc<Core>,
    specs: Vec<Arc<TaskSpec>>,
    place: OwnedSemaphorePermit,
) -> Result<Vec<Pushed>, PushError> {
    let (answer, outcome) = oneshot::channel();
    let deadline = core.clock.elapsed() + core.config.push_deadline;
    let reply = PushReply { answer, deadline, _place: place };
    core.desk.hand_in(|g| g.pushes.push(PushRequest { specs, reply }));
    outcome.await.unwrap_or(Err(PushError::Unknown))
}
