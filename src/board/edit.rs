//! Changes to stored tasks and to queues.

use super::names::named;
use super::{Board, stop};
use crate::backend::{Cursor, Edit, EditAction, EditReport, QueueChange, QueueSettings, Selection, TaskFilter};
use crate::clock::Timestamp;
use crate::error::BoardError;
use crate::name::Name;
use crate::runtime::events::Event;
use crate::runtime::persistence::{ApplyEdit, ChangeQueue, ListLimits, ListQueues};
use crate::runtime::queue::Configure;
use crate::runtime::worker::CancelReason;
use crate::task::{TaskId, text_fault};

/// The most tasks that an edit by filter changes in a single transaction.
const MOST_PER_EDIT: usize = 1_000;

/// The result of an edit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Edited {
    /// Tasks that were changed.
    pub changed: u64,
    /// Running tasks that were asked to end.
    pub cancelling: u64,
}

impl Board {
    /// Cancels a task. A running task is asked to end, and dropped after the grace. True when there was a task to
    /// cancel.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] for a reason of more than 10,000 bytes.
    pub async fn cancel(&self, task_id: TaskId, reason: impl Into<String>) -> Result<bool, BoardError> {
        self.edit_one(task_id, EditAction::Cancel(reason.into())).await
    }

    /// Runs a task again, now. This includes dead, cancelled and completed tasks. False when the task is running or
    /// already pending.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn retry(&self, task_id: TaskId) -> Result<bool, BoardError> {
        self.edit_one(task_id, EditAction::Retry).await
    }

    /// Deletes a task, its history and its logs, unless it is running.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn delete(&self, task_id: TaskId) -> Result<bool, BoardError> {
        self.edit_one(task_id, EditAction::Delete).await
    }

    /// Changes the priority of a task that has not started.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn reprioritise(&self, task_id: TaskId, priority: i32) -> Result<bool, BoardError> {
        self.edit_one(task_id, EditAction::Reprioritise(priority)).await
    }

    /// Changes the `run_at` of a task that has not started.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn reschedule(&self, task_id: TaskId, run_at: impl Into<Timestamp>) -> Result<bool, BoardError> {
        self.edit_one(task_id, EditAction::Reschedule(run_at.into())).await
    }

    async fn edit_one(&self, task_id: TaskId, action: EditAction) -> Result<bool, BoardError> {
        let report = self.apply_edit(Selection::Ids(vec![task_id]), action, None).await?;
        Ok(!report.changed.is_empty() || !report.cancelling.is_empty())
    }

    /// Applies `action` to every task that matches `filter` and that the action can change, in small transactions. It
    /// goes through the tasks in push order and handles each task once, even a task that dies again meanwhile.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] for a filter that matches everything, unless the action is
    /// harmless: deleting all tasks takes [`edit_everything`](Board::edit_everything).
    pub async fn edit_all(&self, filter: TaskFilter, action: EditAction) -> Result<Edited, BoardError> {
        if filter.is_everything() {
            let text = "the filter matches every task; narrow it, or use edit_everything on purpose";
            return Err(BoardError::Invalid(text.into()));
        }
        self.edit_filter(filter, action).await
    }

    /// Applies `action` to every task there is.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn edit_everything(&self, action: EditAction) -> Result<Edited, BoardError> {
        self.edit_filter(TaskFilter::default(), action).await
    }

    async fn edit_filter(&self, filter: TaskFilter, action: EditAction) -> Result<Edited, BoardError> {
        let mut edited = Edited::default();
        let mut after = None;
        loop {
            let report = self.apply_edit(Selection::Filter(filter.clone()), action.clone(), after).await?;
            edited.changed += report.changed.len() as u64;
            edited.cancelling += report.cancelling.len() as u64;
            after = report.next;
            if after.is_none() {
                return Ok(edited);
            }
        }
    }

    async fn apply_edit(
        &self,
        selection: Selection,
        action: EditAction,
        after: Option<Cursor>,
    ) -> Result<EditReport, BoardError> {
        let core = &self.core;
        if let EditAction::Cancel(reason) = &action
            && let Some(fault) = text_fault("the reason", reason)
        {
            return Err(BoardError::Invalid(fault));
        }
        if let Selection::Filter(filter) = &selection {
            filter.check().map_err(BoardError::Invalid)?;
        }
        let edit = Edit { selection, action: action.clone(), now: core.clock.now(), limit: MOST_PER_EDIT, after };
        let report = core.ask_open(ApplyEdit { edit }).await?;
        match &action {
            EditAction::Cancel(reason) => {
                for task_id in &report.cancelling {
                    core.cancel_run(*task_id, &CancelReason::Requested(reason.clone()));
                }
                report.changed.iter().for_each(|task_id| core.awaited.ended(*task_id));
            }
            EditAction::Delete => {
                core.forget_logs(&report.changed);
                report.changed.iter().for_each(|task_id| core.awaited.ended(*task_id));
            }
            EditAction::Reschedule(run_at) => core.due_at(*run_at),
            EditAction::Retry | EditAction::Reprioritise(_) => {}
        }
        if matches!(action, EditAction::Cancel(_) | EditAction::Retry | EditAction::Reschedule(_)) {
            core.publish_stored(&report.changed).await;
        }
        if !report.queues.is_empty() {
            let queues = report.queues.clone();
            core.inbox.hand_in(|g| g.hints.extend(queues));
        }
        Ok(report)
    }

    /// Pauses a queue on every node: no node claims from it until it is resumed. Running tasks continue.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] when the queue is no valid name.
    pub async fn pause(&self, queue: impl Into<Name>) -> Result<(), BoardError> {
        let queue = named("queue", queue)?;
        self.change_queue(QueueChange { paused: Some(true), ..QueueChange::of(queue.clone()) }).await?;
        self.core.events.publish(|| Event::QueuePaused { queue });
        Ok(())
    }

    /// Resumes a paused queue.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] when the queue is no valid name.
    pub async fn resume(&self, queue: impl Into<Name>) -> Result<(), BoardError> {
        let queue = named("queue", queue)?;
        self.change_queue(QueueChange { paused: Some(false), ..QueueChange::of(queue.clone()) }).await?;
        self.core.events.publish(|| Event::QueueResumed { queue });
        Ok(())
    }

    /// Pauses a queue, and resolves when none of its tasks runs on this node.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] when the queue is no valid name.
    pub async fn drain(&self, queue: impl Into<Name>) -> Result<(), BoardError> {
        let queue = named("queue", queue)?;
        self.pause(queue.clone()).await?;
        stop::idle(&self.core, Some(queue)).await
    }

    /// Changes how many tasks of a queue run at a time on each node. With `None`, each node's own setting applies
    /// again.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] over 100,000, or when the queue is no valid name.
    pub async fn set_concurrency(
        &self,
        queue: impl Into<Name>,
        concurrency: Option<usize>,
    ) -> Result<(), BoardError> {
        if concurrency.is_some_and(|n| n > 100_000) {
            return Err(BoardError::Invalid("a concurrency of at most 100000 is allowed".into()));
        }
        let queue = named("queue", queue)?;
        self.change_queue(QueueChange { concurrency: Some(concurrency), ..QueueChange::of(queue) }).await
    }

    /// The queues whose settings were changed at run time.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn queue_settings(&self) -> Result<Vec<QueueSettings>, BoardError> {
        self.core.ask_open(ListQueues {}).await
    }

    async fn change_queue(&self, change: QueueChange) -> Result<(), BoardError> {
        self.core.ask_open(ChangeQueue { change }).await?;
        self.configure().await
    }

    /// Applies the stored settings and limits to the lanes of this node.
    pub(super) async fn configure(&self) -> Result<(), BoardError> {
        let core = &self.core;
        let look = core.looks.begin();
        let (settings, limits) = (core.ask_open(ListQueues {}).await?, core.ask_open(ListLimits {}).await?);
        // Awaited, so that the caller's next call meets the new settings.
        Ok(core.queue.ask(Configure { settings, limits, look }).await?)
    }
}
