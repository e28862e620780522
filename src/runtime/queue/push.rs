//! Pushes: the way of tasks to the inbox.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::inbox::{PushReply, PushRequest};
use super::{Pushed, fast_path};
use crate::backend::BackendError;
use crate::error::PushError;
use crate::runtime::core::Core;
use crate::task::{IntoNewTask, TaskSpec};

/// Pushes a task for a handler that runs.
pub(crate) async fn push_from_within(core: &Arc<Core>, task: impl IntoNewTask) -> Result<Pushed, PushError> {
    let spec = checked(core, task)?;
    let deadline = deadline(core);
    let place = in_time(core, deadline, core.inbox.inner_place(1, spec.weight())).await?;
    one(hand_in(core, vec![spec], place, deadline).await?)
}

pub(crate) async fn push(core: &Arc<Core>, task: impl IntoNewTask) -> Result<Pushed, PushError> {
    let spec = checked(core, task)?;
    let bytes = spec.weight();
    one(push_specs(core, vec![spec], bytes).await?)
}

/// Pushes tasks that are stored together.
pub(crate) async fn push_specs(
    core: &Arc<Core>,
    specs: Vec<Arc<TaskSpec>>,
    bytes: usize,
) -> Result<Vec<Pushed>, PushError> {
    let deadline = deadline(core);
    let place = in_time(core, deadline, core.inbox.place(specs.len(), bytes)).await?;
    hand_in(core, specs, place, deadline).await
}

/// The monotonic time at which a push that begins now is given up.
pub(crate) fn deadline(core: &Core) -> Duration {
    core.clock.after(core.config.push_deadline)
}

/// Waits for a place, but no longer than a push may wait for storage. Pushes have no timer each, because thousands may
/// wait.
async fn in_time<T>(
    core: &Core,
    deadline: Duration,
    place: impl Future<Output = Result<T, PushError>>,
) -> Result<T, PushError> {
    let mut place = pin!(place);
    if let Some(placed) = place.as_mut().now_or_never() {
        return placed;
    }
    let mut time = core.inbox.time();
    match select(place, pin!(time.wait_for(|now| *now >= deadline))).await {
        Either::Left((placed, _)) => placed,
        Either::Right(_) => Err(PushError::Storage(BackendError::Transient {
            operation: "push",
            message: "as many pushes as `max_waiting_pushes` allows have waited for storage all this time".into(),
        })),
    }
}

/// Checks that a task may be stored, and fills in the fields that the caller left open.
pub(crate) fn checked(core: &Core, task: impl IntoNewTask) -> Result<Arc<TaskSpec>, PushError> {
    if let Some(reason) = core.backend.full() {
        return Err(PushError::NoRoom(reason));
    }
    Ok(Arc::new(task.into_new_task()?.into_spec(&core.clock, core.config.bounds())?))
}

pub(crate) fn one(answers: Vec<Pushed>) -> Result<Pushed, PushError> {
    answers.into_iter().next().ok_or(PushError::Unknown)
}

pub(crate) async fn hand_in(
    core: &Arc<Core>,
    specs: Vec<Arc<TaskSpec>>,
    place: OwnedSemaphorePermit,
    deadline: Duration,
) -> Result<Vec<Pushed>, PushError> {
    let (answer, outcome) = oneshot::channel();
    let reply = PushReply { answer, deadline, _place: place };
    let push = PushRequest { specs, reply };
    if let Err(push) = fast_path::send_here(core, push) {
        core.inbox.hand_in(|g| g.pushes.push(push));
    }
    outcome.await.unwrap_or(Err(PushError::Unknown))
}
