//! The view that a handler has of its task and of the board.

use std::any::TypeId;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde::Serialize;
use slog::Logger;

use super::RunThread;
use super::cancel::{Cancel, CancelReason};
use super::log::AttemptLog;
#[cfg(feature = "sql")]
use crate::backend::sql::AppConnection;
use crate::backend::{Claimed, ProgressUpdate, Settlement};
use crate::clock::{Clock, Timestamp};
#[cfg(feature = "sql")]
use crate::error::CompleteError;
use crate::error::PushError;
use crate::json;
use crate::logging::keys;
use crate::runtime::core::{Core, Stage};
use crate::runtime::events::Fact;
use crate::runtime::queue::Pushed;
#[cfg(feature = "sql")]
use crate::runtime::queue::delivery::ended;
use crate::runtime::queue::progress::Pace;
use crate::store::StoreHandle;
#[cfg(feature = "sql")]
use crate::task::{ExecutionStatus, TaskState};
use crate::task::{IntoNewTask, LONGEST_REPORT, Progress, TaskError, TaskId, TaskSpec};

/// The context of a running handler: its task, a logger, progress, cancellation, shared data, the public store and the
/// board. Cloning is cheap. A clone may outlive the run, but then it can no longer change the task.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    claimed: Claimed,
    started_at: Timestamp,
    cancel: Cancel,
    // Boxed and made on first use: each run allocates this struct, and most runs never need the rare fields.
    rare: OnceLock<Box<Rare>>,
}

/// The part of a context that exists once a run logs, reports, blocks, keeps a result or completes its task by itself.
#[derive(Default)]
struct Rare {
    log: OnceLock<Logger>,
    attempt_log: OnceLock<AttemptLog>,
    result: Mutex<Option<Box<str>>>,
    // A remark that the execution keeps although the run completes its task.
    note: OnceLock<String>,
    // The settlement that a transaction of the handler has written. It counts only if the transaction has committed.
    completed: Mutex<Option<Settlement>>,
    pace: OnceLock<Arc<Pace>>,
    // Set for a blocking run.
    thread: OnceLock<Arc<RunThread>>,
}

impl Context {
    pub(crate) fn new(core: Arc<Core>, claimed: Claimed, started_at: Timestamp) -> Self {
        Self(Arc::new(Inner { core, claimed, started_at, cancel: Cancel::default(), rare: OnceLock::new() }))
    }

    fn rare(&self) -> &Rare {
        self.0.rare.get_or_init(Box::default)
    }

    /// The task as it was pushed.
    pub fn task(&self) -> &TaskSpec {
        &self.0.claimed.spec
    }

    /// The task's id.
    pub fn task_id(&self) -> TaskId {
        self.0.claimed.spec.task_id
    }

    /// The number of this attempt; the first is 1.
    pub fn attempt(&self) -> u32 {
        self.0.claimed.attempt + 1
    }

    /// When this run began.
    pub fn started_at(&self) -> Timestamp {
        self.0.started_at
    }

    /// The board's clock.
    pub fn clock(&self) -> &Clock {
        &self.0.core.clock
    }

    /// The task's logger. It writes to the board's logger and, where task logs are kept, also to the files of this
    /// attempt.
    pub fn log(&self) -> &Logger {
        self.rare().log.get_or_init(|| {
            let spec = &self.0.claimed.spec;
            let values = slog::o!(keys::TASK_ID => spec.task_id.to_string(), keys::TYPE => spec.kind.to_string(),
                keys::ATTEMPT => self.attempt());
            match &self.0.core.task_logs {
                None => self.0.core.log.new(values),
                Some(logs) => {
                    let files = self.rare().attempt_log.get_or_init(|| logs.attempt(spec.task_id, self.attempt()));
                    files.logger(&self.0.core.app_log, values)
                }
            }
        })
    }

    /// Reports how far the task has come, from 0 to 1, with a message about its present work. Storage gets at most two
    /// reports a second, and at the end the last report too. Events carry every report. A message of more than 4 KiB is
    /// cut.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        // Cut and not rejected, because a run must not fail over its own progress message.
        let message = json::cut(message.into().into(), LONGEST_REPORT).into();
        let progress = Progress { fraction, message };
        let core = &self.0.core;
        core.events.publish(|| Fact::progress(&self.0.claimed, self.0.core.clock.now(), progress.clone()));
        let update = ProgressUpdate { seq: self.0.claimed.seq, token: self.0.claimed.token, progress };
        core.inbox.report(self.task_id(), update, self.rare().pace.get_or_init(Arc::default), core.clock.elapsed());
    }

    /// True when the run is asked to end early.
    pub fn is_cancelled(&self) -> bool {
        self.cancel_reason().is_some()
    }

    /// The reason why the run is asked to end early, if it is.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.0.cancel.reason()
    }

    /// Resolves when the run is asked to end early.
    pub async fn cancelled(&self) {
        self.0.cancel.raised().await;
    }

    /// True when the board stops or has given up. A run may then go on for the [`drain`](crate::Config::drain) time. So
    /// a long run can now make a checkpoint, or begin no further work.
    pub fn is_stopping(&self) -> bool {
        self.0.core.stage() >= Stage::Stopping
    }

    /// Resolves when the board begins to stop. This is the [`drain`](crate::Config::drain) time before
    /// [`cancelled`](Self::cancelled) resolves.
    ///
    /// ```
    /// use callboard::{Context, Outcome, TaskResult};
    ///
    /// async fn crawl(cx: &Context) -> TaskResult {
    ///     for page in 0..1_000_u32 {
    ///         // one page is fetched here
    ///         if cx.is_stopping() {
    ///             cx.push(callboard::NewTask::new("crawl", &(page + 1))).await?;
    ///             break;
    ///         }
    ///     }
    ///     Ok(Outcome::done())
    /// }
    /// ```
    pub async fn stopping(&self) {
        self.0.core.stopping().await;
    }

    /// The value of this type that was given to the builder with [`data`](crate::BoardBuilder::data).
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.core.data.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// The public store.
    pub fn store(&self) -> &StoreHandle {
        &self.0.core.store
    }

    /// Pushes a further task. This works also while the board is stopping, because a run may still come to its end
    /// then.
    ///
    /// # Errors
    /// [`PushError`], as for [`Board::push`](crate::Board::push).
    pub async fn push(&self, task: impl IntoNewTask) -> Result<Pushed, PushError> {
        crate::runtime::queue::push::push_from_within(&self.0.core, task).await
    }

    /// Keeps `value` as the task's result, unless the handler returns a result.
    ///
    /// # Errors
    /// A fatal error when `value` cannot be written as JSON, or is larger than
    /// [`max_result_bytes`](crate::Config::max_result_bytes) allows.
    pub fn set_result(&self, value: &impl Serialize) -> Result<(), TaskError> {
        let text = json::written(value)
            .map_err(|fault| TaskError::fatal(format!("the result cannot be written as JSON: {fault}")))?;
        if let Some(fault) = self.0.core.config.bounds().result_fault(&text) {
            return Err(TaskError::fatal(fault));
        }
        *self.rare().result.lock() = Some(text.into());
        Ok(())
    }

    /// Pushes a further task in a transaction of the handler; see [`Board::push_in`](crate::Board::push_in).
    ///
    /// # Errors
    /// [`PushError`], as for that method.
    #[cfg(feature = "sql")]
    pub fn push_in<C: AppConnection>(&self, conn: &mut C, task: impl IntoNewTask) -> Result<Pushed, PushError> {
        crate::runtime::queue::transaction::push_in(&self.0.core, conn, [task])?
            .into_iter()
            .next()
            .ok_or(PushError::Unknown)
    }

    /// Completes the task in a transaction of the handler. The handler's effects and the completion are stored together
    /// or not at all, so that no run repeats the effects of an earlier run. With `&()` the task keeps no result, or the
    /// result that was [set](Context::set_result).
    ///
    /// `conn` is as for [`Board::push_in`](crate::Board::push_in). Call this at the end of the transaction, because the
    /// task is locked from here on. End the transaction before the handler returns. After that, storage is asked
    /// whether the transaction has committed. If it has, the task is completed, regardless of the handler's return
    /// value, also when the handler fails or panics later. If it has not, the handler's return value counts, as if this
    /// method had never been called. So let the handler return an error when its transaction fails: `?` does that.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] mod example {
    /// use callboard::{BoxError, Context, TaskResult};
    /// use diesel::prelude::*;
    ///
    /// fn credit(account: i32, cx: &Context) -> TaskResult<()> {
    ///     let mut conn = SqliteConnection::establish("shop.db")?;
    ///     conn.immediate_transaction(|conn| -> Result<(), BoxError> {
    ///         let text = format!("UPDATE account SET credit = credit + 5 WHERE id = {account}");
    ///         diesel::sql_query(text).execute(conn)?;
    ///         Ok(cx.complete_in(conn, &"5 credited")?)
    ///     })
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CompleteError::Fenced`] when this run no longer holds the task. Roll the transaction back then, because a
    /// second run of the task may produce the same effects. Any other [`CompleteError`]: the transaction then holds
    /// nothing of the completion.
    #[cfg(feature = "sql")]
    pub fn complete_in<C: AppConnection>(&self, conn: &mut C, output: &impl Serialize) -> Result<(), CompleteError> {
        let refused = |fault| CompleteError::Output(serde::ser::Error::custom(fault));
        let output = json::written(output).map_err(refused)?.into_boxed_str();
        let text = Some(output).filter(|output| **output != *"null").or_else(|| self.rare().result.lock().clone());
        if let Some(fault) = text.as_deref().and_then(|text| self.0.core.config.bounds().result_fault(text)) {
            return Err(refused(fault));
        }
        let (now, state) = (self.0.core.clock.now(), TaskState::Completed);
        let settlement = ended(self.claimed(), self.started_at(), now, state, ExecutionStatus::Success, text, None);
        // Set before the write, so that the end of the run asks storage in every case, also when the write fails.
        *self.rare().completed.lock() = Some(settlement.clone());
        crate::runtime::queue::transaction::complete_in(&self.0.core, conn, settlement)
    }

    /// The settlement that a transaction of the handler has written. It counts only if the transaction has committed.
    pub(crate) fn completed(&self) -> Option<Settlement> {
        self.0.rare.get()?.completed.lock().clone()
    }

    /// Adds a remark that the execution of the run keeps. The first remark stays.
    pub(crate) fn note(&self, text: String) {
        // There is a single caller, so the remark is never set twice.
        self.rare().note.set(text).ok();
    }

    pub(crate) fn noted(&self) -> Option<String> {
        self.0.rare.get()?.note.get().cloned()
    }

    pub(crate) fn take_result(&self) -> Option<Box<str>> {
        self.0.rare.get()?.result.lock().take()
    }

    pub(crate) fn claimed(&self) -> &Claimed {
        &self.0.claimed
    }

    pub(crate) fn cancel(&self, reason: CancelReason) {
        self.0.cancel.raise(reason);
    }

    /// The thread of a blocking run; `None` for any other run.
    pub(crate) fn thread(&self) -> Option<&Arc<RunThread>> {
        self.0.rare.get()?.thread.get()
    }

    /// Marks the run as blocking, and returns its thread.
    pub(crate) fn needs_thread(&self) -> Arc<RunThread> {
        let make = || RunThread::new(self.blocking_pool().overdue());
        Arc::clone(self.rare().thread.get_or_init(make))
    }

    pub(crate) fn blocking_pool(&self) -> &super::BlockingPool {
        self.0.core.workers.blocking()
    }

    /// Closes the log files, because the run is over.
    pub(crate) fn close_log(&self) {
        if let Some(log) = self.0.rare.get().and_then(|rare| rare.attempt_log.get()) {
            log.close();
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("task_id", &self.task_id()).field("attempt", &self.attempt()).finish()
    }
}
