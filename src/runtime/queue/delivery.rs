//! The plain pull loop: a claimed task that its consumer holds.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;

use super::inbox::{Holder, SettleRequest};
use crate::backend::{Claimed, ExecutionEnd, Settlement};
use crate::clock::Timestamp;
use crate::error::DeliveryError;
use crate::json;
use crate::runtime::core::Core;
use crate::runtime::worker::{Cancel, CancelReason};
use crate::task::{ClaimToken, ExecutionStatus, LONGEST_ERROR, TaskId, TaskSpec, TaskState};

/// A task taken with [`Board::pop`](crate::Board::pop). Settle it with [`ack`](Delivery::ack) or a related method.
///
/// The task stays claimed for as long as the delivery is held and the process lives, or until the task's timeout, if it
/// has a timeout. A delivery that is dropped unsettled gives the task back at once, without using up an attempt. When
/// the task is cancelled, [`cancelled`](Delivery::cancelled) resolves. After the grace period the task is taken away
/// and becomes cancelled.
#[must_use = "a dropped delivery gives its task back"]
pub struct Delivery {
    claimed: Claimed,
    core: Arc<Core>,
    started_at: Timestamp,
    cancel: Arc<Cancel>,
    settled: bool,
}

/// The node's record of a delivery, so that the delivery's time can run out.
pub(crate) struct Held {
    pub(crate) claimed: Claimed,
    pub(crate) started_at: Timestamp,
    /// In monotonic time.
    pub(crate) deadline: Option<Duration>,
    pub(crate) cancel: Arc<Cancel>,
}

impl Held {
    /// Asks the holder to end by the monotonic time `grace`; false when it was asked before.
    pub(crate) fn cancel(&mut self, reason: &CancelReason, grace: Duration) -> bool {
        if self.cancel.reason().is_some() {
            return false;
        }
        self.deadline = Some(self.deadline.map_or(grace, |deadline| deadline.min(grace)));
        self.cancel.raise(reason.clone());
        true
    }
}

impl Delivery {
    pub(crate) fn new(claimed: Claimed, core: Arc<Core>) -> Self {
        let started_at = core.clock.now();
        let timeout = claimed.spec.timeout;
        let deadline = timeout.map(|timeout| core.clock.elapsed().saturating_add(timeout));
        let cancel = Arc::<Cancel>::default();
        let held = Held { claimed: claimed.clone(), started_at, deadline, cancel: Arc::clone(&cancel) };
        core.deliveries.lock().insert(claimed.spec.task_id, held);
        if let Some(timeout) = timeout {
            core.due_at(started_at + timeout);
        }
        Self { claimed, core, started_at, cancel, settled: false }
    }

    /// The task.
    pub fn task(&self) -> &TaskSpec {
        &self.claimed.spec
    }

    /// The task's id.
    pub fn task_id(&self) -> TaskId {
        self.claimed.spec.task_id
    }

    /// Which attempt this is; 1 is the first.
    pub fn attempt(&self) -> u32 {
        self.claimed.attempt + 1
    }

    /// The params, decoded as `T`.
    ///
    /// # Errors
    /// When the params cannot be decoded as `T`.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.claimed.spec.params)
    }

    /// The task in the untyped form: `{"task_id", "type", "params"}`.
    pub fn to_json(&self) -> Value {
        let spec = &self.claimed.spec;
        let params = serde_json::from_str(&spec.params).unwrap_or_else(|_| Value::String((*spec.params).into()));
        serde_json::json!({"task_id": spec.task_id, "type": spec.kind, "params": params})
    }

    /// True when the task is to end early.
    pub fn is_cancelled(&self) -> bool {
        self.cancel_reason().is_some()
    }

    /// Why the task is to end early, if it is.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.cancel.reason()
    }

    /// Resolves when the task is to end early: it was cancelled, or the board stops.
    pub async fn cancelled(&self) {
        self.cancel.raised().await;
    }

    /// Settles the task as completed.
    ///
    /// # Errors
    /// [`DeliveryError`] when the claim no longer holds, or no answer came.
    pub async fn ack(self) -> Result<(), DeliveryError> {
        self.end(TaskState::Completed, ExecutionStatus::Success, None, None).await
    }

    /// Settles the task as completed, and keeps `result` with it. If the result cannot be written as JSON, or is larger
    /// than [`max_result_bytes`](crate::Config::max_result_bytes) allows, its error text is kept instead.
    ///
    /// # Errors
    /// [`DeliveryError`] when the claim no longer holds, or no answer came.
    pub async fn ack_with(self, result: &impl Serialize) -> Result<(), DeliveryError> {
        let bounds = self.core.config.bounds();
        let text = json::written(result).and_then(|text| bounds.result_fault(&text).map_or(Ok(text), Err));
        let text = text.unwrap_or_else(|error| Value::String(format!("not kept: {error}")).to_string());
        self.end(TaskState::Completed, ExecutionStatus::Success, Some(text.into()), None).await
    }

    /// Settles the task as failed. With `requeue` it is offered again at once, unless its attempts are used up.
    /// Otherwise it becomes dead.
    ///
    /// # Errors
    /// [`DeliveryError`] when the claim no longer holds, or no answer came.
    pub async fn reject(self, requeue: bool) -> Result<(), DeliveryError> {
        let again = requeue && self.attempt() < self.claimed.spec.max_attempts;
        let state = if again { TaskState::Pending } else { TaskState::Dead };
        self.end(state, ExecutionStatus::Failed, None, Some("rejected by its consumer".into())).await
    }

    /// Postpones the task: it is offered again after `delay`, without using up an attempt.
    ///
    /// # Errors
    /// [`DeliveryError`] when the claim no longer holds, or no answer came.
    pub async fn snooze(mut self, delay: Duration) -> Result<(), DeliveryError> {
        let mut settlement = self.settlement(TaskState::Scheduled, ExecutionStatus::Snoozed, None, None);
        settlement.attempt = self.claimed.attempt;
        settlement.run_at = self.core.clock.now() + delay;
        self.settle(settlement).await
    }

    /// Gives the task back: it is offered again at once, here or elsewhere, without using up an attempt. A dropped
    /// delivery does the same, but does not tell whether storage has the release.
    ///
    /// # Errors
    /// [`DeliveryError`] when the claim no longer holds, or no answer came.
    pub async fn release(mut self) -> Result<(), DeliveryError> {
        let settlement = released(&self.claimed);
        self.settle(settlement).await
    }

    /// Replaces the task's timeout: the consumer has until `time` from now.
    ///
    /// # Errors
    /// [`DeliveryError::Fenced`] when the claim no longer holds, [`DeliveryError::Cancelled`] when the task was
    /// cancelled, [`DeliveryError::Closed`] when the board has stopped.
    pub fn extend(&self, time: Duration) -> Result<(), DeliveryError> {
        self.check_open()?;
        let mut held = self.core.deliveries.lock();
        let ours = held.get_mut(&self.task_id()).filter(|held| held.claimed.token == self.claimed.token);
        let Some(ours) = ours else { return Err(DeliveryError::Fenced(self.task_id())) };
        if matches!(ours.cancel.reason(), Some(CancelReason::Requested(_))) {
            return Err(DeliveryError::Cancelled(self.task_id()));
        }
        ours.deadline = Some(self.core.clock.elapsed().saturating_add(time));
        drop(held);
        self.core.due_at(self.core.clock.now() + time);
        Ok(())
    }

    async fn end(
        mut self,
        state: TaskState,
        status: ExecutionStatus,
        result: Option<Box<str>>,
        error: Option<Box<str>>,
    ) -> Result<(), DeliveryError> {
        let settlement = self.settlement(state, status, result, error);
        self.settle(settlement).await
    }

    fn settlement(
        &self,
        state: TaskState,
        status: ExecutionStatus,
        result: Option<Box<str>>,
        error: Option<Box<str>>,
    ) -> Settlement {
        let now = self.core.clock.now();
        ended(&self.claimed, self.started_at, now, state, status, result, error)
    }

    fn check_open(&self) -> Result<(), DeliveryError> {
        self.core.open().map_err(|_| DeliveryError::Closed(self.task_id()))
    }

    async fn settle(&mut self, settlement: Settlement) -> Result<(), DeliveryError> {
        let task_id = self.task_id();
        self.settled = true;
        self.check_open()?;
        let (answer, outcome) = oneshot::channel();
        let spec = Arc::clone(&self.claimed.spec);
        let holder = Holder::Delivery(Some(answer));
        let mut held = false;
        // The claim moves to the inbox in a single step. Otherwise a reconciliation could find it without a holder and
        // give it away.
        self.core.inbox.hand_in(|g| {
            held = self.core.forget_delivery(task_id, self.claimed.token);
            if held {
                g.settles.push(SettleRequest { settlement, spec, holder });
            }
        });
        if !held {
            return Err(DeliveryError::Fenced(task_id));
        }
        outcome.await.unwrap_or(Err(DeliveryError::Unknown(task_id)))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled {
            let (task_id, token) = (self.claimed.spec.task_id, self.claimed.token);
            self.core.inbox.hand_in(|g| {
                if self.core.forget_delivery(task_id, token) {
                    let (settlement, spec) = (released(&self.claimed), Arc::clone(&self.claimed.spec));
                    g.settles.push(SettleRequest { settlement, spec, holder: Holder::Delivery(None) });
                }
            });
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("task_id", &self.task_id()).field("attempt", &self.attempt()).finish()
    }
}

/// The settlement of a run that began at `started_at` and ends `now`. It uses up an attempt.
pub(crate) fn ended(
    claimed: &Claimed,
    started_at: Timestamp,
    now: Timestamp,
    state: TaskState,
    status: ExecutionStatus,
    result: Option<Box<str>>,
    error: Option<Box<str>>,
) -> Settlement {
    let attempt = claimed.attempt + 1;
    let error = error.map(|text| json::cut(text, LONGEST_ERROR));
    Settlement {
        seq: claimed.seq,
        task_id: claimed.spec.task_id,
        token: claimed.token,
        state,
        run_at: if state.is_terminal() { claimed.spec.run_at } else { now },
        attempt,
        execution: Some(ExecutionEnd { attempt, status, started_at, finished_at: now, result, error }),
    }
}

/// The settlement of a run that was cancelled.
pub(crate) fn cancelled(claimed: &Claimed, started_at: Timestamp, now: Timestamp, reason: String) -> Settlement {
    // The reason is empty when a different process requested the cancel. The reason is in storage then.
    let reason = (!reason.is_empty()).then(|| reason.into());
    ended(claimed, started_at, now, TaskState::Cancelled, ExecutionStatus::Cancelled, None, reason)
}

/// The settlement of a claim that is given back unused.
pub(crate) fn released(claimed: &Claimed) -> Settlement {
    Settlement {
        seq: claimed.seq,
        task_id: claimed.spec.task_id,
        token: claimed.token,
        state: TaskState::Pending,
        run_at: claimed.spec.run_at,
        attempt: claimed.attempt,
        execution: None,
    }
}

/// The earliest deadline of these deliveries, in monotonic time.
pub(crate) fn next_deadline(held: &std::collections::HashMap<TaskId, Held>) -> Option<Duration> {
    held.values().filter_map(|held| held.deadline).min()
}

/// The task id and claim token of each held delivery.
pub(crate) fn tokens(held: &std::collections::HashMap<TaskId, Held>) -> Vec<(TaskId, ClaimToken)> {
    held.iter().map(|(task_id, held)| (*task_id, held.claimed.token)).collect()
}
