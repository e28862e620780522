//! The board: the handle an application holds.

mod builder;
mod edit;
mod health;
mod keeper;
mod leaving;
mod limits;
mod names;
mod schedules;
mod start;
mod stop;
mod threads;
#[cfg(feature = "sql")]
mod transaction;
mod warning;

use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use futures_util::future::{Either, select};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::runtime::queue::push::{self, checked, hand_in, one, push, push_specs};
pub use builder::BoardBuilder;
pub use edit::Edited;
pub use health::{Health, PartHealth, PartState, QueueHealth};
use names::named;
pub use schedules::{ScheduleDetails, Schedules};
pub use warning::HealthWarning;

use crate::backend::{Cursor, NodeRecord, StateCount, TaskFilter, TaskOrder, TaskPage};
use crate::clock::Clock;
use crate::error::{BoardError, PushError};
use crate::name::Name;
use crate::runtime::core::{Core, Stage};
use crate::runtime::events::{Event, SubscriptionId};
use crate::runtime::persistence::{CountStates, GetTask, ListExecutions, ListNodes, ListQueues, ListTasks};
use crate::runtime::queue::Pushed;
use crate::runtime::queue::delivery::Delivery;
use crate::runtime::queue::inbox::{PopRequest, Puller};
use crate::runtime::worker::log::TaskLogs;
use crate::store::StoreHandle;
use crate::task::{Execution, IntoNewTask, NodeId, TaskId, TaskRecord, TaskState};

/// A running board. Cloning is cheap; all clones are the same board.
///
/// A board runs on threads of its own, in an actix system of its own. So its methods may be awaited from any thread and
/// any executor: actix, tokio, or none. A board stops when [`stop`](Board::stop) is called. A board that is dropped
/// without a stop runs for as long as its process.
///
/// ```
/// use callboard::{Board, Outcome};
/// use serde_json::json;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// actix_rt::System::new().block_on(async {
///     let board = Board::builder()
///         .handler("greet", |params, _cx| async move {
///             println!("hello, {}", params["name"]);
///             Ok(Outcome::done())
///         })
///         .start()
///         .await?;
///     let pushed = board.push(json!({"type": "greet", "params": {"name": "world"}})).await?;
///     let task = board.wait(pushed.task_id).await?;
///     assert_eq!(task.state, callboard::TaskState::Completed);
///     board.stop().await;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Board {
    core: Arc<Core>,
    keeper: Arc<keeper::Keeper>,
}

impl Board {
    /// Begins to describe a board.
    pub fn builder() -> BoardBuilder {
        BoardBuilder::new()
    }

    /// Pushes a task: a typed [`Task`](crate::Task), a [`NewTask`](crate::NewTask) with options, or JSON. Resolves when
    /// storage has committed it.
    ///
    /// # Errors
    /// [`PushError`]. After [`PushError::Storage`] or [`PushError::Unknown`] a retry with the same `task_id` is
    /// idempotent: it gives a single task.
    pub async fn push(&self, task: impl IntoNewTask) -> Result<Pushed, PushError> {
        push(&self.core, task).await
    }

    /// Like [`push`](Board::push), but returns [`PushError::Full`] instead of waiting for its turn.
    ///
    /// # Errors
    /// [`PushError`].
    pub async fn try_push(&self, task: impl IntoNewTask) -> Result<Pushed, PushError> {
        let spec = checked(&self.core, task)?;
        let place = self.core.inbox.try_place(1, spec.weight())?;
        one(hand_in(&self.core, vec![spec], place, push::deadline(&self.core)).await?)
    }

    /// Pushes several tasks in a single transaction: all of them or none. The answers come in the same order.
    ///
    /// # Errors
    /// [`PushError`]; then none is stored.
    pub async fn push_many<T: IntoNewTask>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Pushed>, PushError> {
        let specs = tasks.into_iter().map(|task| checked(&self.core, task)).collect::<Result<Vec<_>, _>>()?;
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = specs.iter().map(|spec| spec.weight()).sum();
        push_specs(&self.core, specs, bytes).await
    }

    /// Takes the next task of a queue, of any type. Waits up to `timeout` for a task. Without a timeout it waits for
    /// ever; with a timeout of zero it does not wait.
    ///
    /// # Errors
    /// [`BoardError::Closed`] when the board stops; [`BoardError::Invalid`] when the queue is no valid name;
    /// [`BoardError::Storage`] when storage permanently refuses to read the queue.
    pub async fn pop(
        &self,
        queue: impl Into<Name>,
        timeout: Option<Duration>,
    ) -> Result<Option<Delivery>, BoardError> {
        if self.core.stage() != Stage::Running {
            return Err(BoardError::Closed);
        }
        let queue = named("queue", queue)?;
        let _pulling = self.core.unrun.pulls.begin(&queue, &self.core.clock);
        let once = timeout.is_some_and(|timeout| timeout.is_zero());
        let mut time = timeout.map(|timeout| self.core.timeout(timeout));
        loop {
            let (answer, delivery) = oneshot::channel();
            let request = PopRequest { queue: queue.clone(), puller: Puller { answer, once } };
            self.core.inbox.hand_in(|g| g.pops.push(request));
            let delivered = match time.as_mut().filter(|_| !once) {
                None => delivery.await,
                Some(time) => match select(delivery, time).await {
                    Either::Left((delivered, _)) => delivered,
                    Either::Right((_, mut delivery)) => {
                        // A task may have arrived at the last moment. Dropped unread it would give itself back, but the
                        // caller wants it.
                        delivery.close();
                        return Ok(delivery.try_recv().ok().and_then(Result::ok));
                    }
                },
            };
            match delivered {
                Ok(Ok(delivery)) => return Ok(Some(delivery)),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if self.core.stage() != Stage::Running => return Err(BoardError::Closed),
                Err(_) if once => return Ok(None),
                // The queue actor died with the request: ask its successor again.
                Err(_) => {}
            }
        }
    }

    /// A task with all its stored fields.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn get(&self, task_id: TaskId) -> Result<Option<TaskRecord>, BoardError> {
        self.core.ask_open(GetTask { task_id }).await
    }

    /// The attempts at a task, oldest first.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn executions(&self, task_id: TaskId) -> Result<Vec<Execution>, BoardError> {
        self.core.ask_open(ListExecutions { task_id }).await
    }

    /// A page of at most `limit` tasks that match `filter`; `after` is the cursor of the previous page.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] when `limit` is 0 or over 10,000.
    pub async fn list(
        &self,
        filter: TaskFilter,
        order: TaskOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, BoardError> {
        if limit == 0 || limit > 10_000 {
            return Err(BoardError::Invalid(format!("a page has 1 to 10000 tasks, not {limit}")));
        }
        filter.check().map_err(BoardError::Invalid)?;
        self.core.ask_open(ListTasks { filter, order, after, limit }).await
    }

    /// The number of tasks in each state of each queue.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn counts(&self) -> Result<Vec<StateCount>, BoardError> {
        self.core.ask_open(CountStates {}).await
    }

    /// The nodes that share this board's storage, with their current concurrency.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>, BoardError> {
        let (mut nodes, settings) =
            (self.core.ask_open(ListNodes {}).await?, self.core.ask_open(ListQueues {}).await?);
        for (queue, concurrency) in nodes.iter_mut().flat_map(|node| &mut node.queues) {
            let set = settings.iter().find(|settings| settings.queue == *queue);
            *concurrency = set.and_then(|settings| settings.concurrency).unwrap_or(*concurrency);
        }
        Ok(nodes)
    }

    /// Resolves when the task has reached a terminal state, on any node, and returns the task.
    ///
    /// # Errors
    /// [`BoardError::NoSuchTask`], also when it is deleted meanwhile; [`BoardError::Storage`]; [`BoardError::Closed`].
    pub async fn wait(&self, task_id: TaskId) -> Result<TaskRecord, BoardError> {
        self.core.open()?;
        loop {
            // Registered before the read, so that an end in between is not missed.
            let ended = self.core.awaited.register(task_id);
            let task = self.core.ask_to_the_end(GetTask { task_id }).await?.ok_or(BoardError::NoSuchTask(task_id))?;
            if task.state.is_terminal() {
                return Ok(task);
            }
            // The task may run on a different node. Then only the next round of upkeep sees its end, and that may be
            // far away.
            self.core.due_at(self.core.clock.now() + self.core.config.check_interval);
            ended.await.map_err(|_| BoardError::Closed)?;
        }
    }

    /// Waits like [`wait`](Board::wait), and reads the handler's result as a type of your own.
    ///
    /// ```
    /// use callboard::Board;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix_rt::System::new().block_on(async {
    /// let board = Board::builder().handler("count", |words, _| async move { Ok(words.as_array().map(Vec::len)) }).start().await?;
    /// let pushed = board.push(callboard::NewTask::new("count", &["a", "b"])).await?;
    /// let count: usize = board.wait_as(pushed.task_id).await?;
    /// assert_eq!(count, 2);
    /// # board.stop().await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Board::wait); [`BoardError::NotCompleted`] when the task ended as dead or cancelled;
    /// [`BoardError::Result`] when its result cannot be read as this type.
    pub async fn wait_as<T: DeserializeOwned>(&self, task_id: TaskId) -> Result<T, BoardError> {
        let task = self.wait(task_id).await?;
        if task.state != TaskState::Completed {
            let reason = task.last_error.unwrap_or_else(|| "no reason was given".into());
            return Err(BoardError::NotCompleted { task_id, state: task.state, reason });
        }
        task.result().map_err(|error| BoardError::Result { task_id, error })
    }

    /// The public store.
    pub fn store(&self) -> &StoreHandle {
        &self.core.store
    }

    /// The logs of tasks, if they are kept.
    pub fn task_logs(&self) -> Option<&TaskLogs> {
        self.core.task_logs.as_ref()
    }

    /// Sends every event from now on to `recipient`. At most [`event_buffer`](crate::Config::event_buffer) events wait
    /// for it; further events are counted as missed.
    pub fn subscribe(&self, recipient: Recipient<Event>) -> SubscriptionId {
        self.core.events.subscribe(recipient)
    }

    /// Ends a subscription; false when there was none.
    pub fn unsubscribe(&self, id: SubscriptionId) -> bool {
        self.core.events.unsubscribe(id)
    }

    /// The number of events that a subscriber missed because it was too slow. `None` when there is no such
    /// subscription.
    pub fn missed(&self, id: SubscriptionId) -> Option<u64> {
        self.core.events.missed(id)
    }

    /// This node's incarnation.
    pub fn node(&self) -> NodeId {
        self.core.node
    }

    /// The board's clock.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// The handle of the shared state, for the crate's own helpers.
    #[cfg(feature = "testing")]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Resolves when the board has stopped or has given up. It returns true if the board has given up: then the program
    /// should exit with a non-zero code.
    pub async fn ended(&self) -> bool {
        let mut stage = self.core.stage.subscribe();
        // An error means that the board is gone altogether.
        let end = stage.wait_for(|stage| *stage >= Stage::Stopped).await.map(|stage| *stage);
        end.is_ok_and(|stage| stage == Stage::Failed)
    }

    /// Resolves when the board begins to stop, or has given up. A pull loop should then finish the tasks it has taken.
    pub async fn stopping(&self) {
        self.core.stopping().await;
    }

    /// Stops the board. It accepts nothing new, and lets running tasks continue for the [`drain`](crate::Config::drain)
    /// time. Then it asks them to end, and gives back the claims of tasks that do not end, without using up an attempt.
    /// Safe to call twice.
    ///
    /// It ends within `drain` + [`cancel_grace`](crate::Config::cancel_grace) + 2 s, 25 s by default, no matter how
    /// long handlers, callbacks and storage block. The exception is a logger that blocks for ever: it blocks a stop as
    /// well. It may be called from anywhere: from a handler, which it then waits for like any other handler, from a
    /// callback, and after the program's runtime has ended. Once begun it continues to its end, even if its future is
    /// not awaited.
    ///
    /// While the board stops, new pushes and pops are refused, and all other calls work. Once it has stopped, every
    /// call of the board, its schedules, limits, store and deliveries is refused with an error named `Closed`.
    /// `health()`, `ended()` and calls that need no answer from storage still report the state of the board.
    pub async fn stop(&self) {
        self.keeper.stop().await;
    }

    /// Like [`stop`](Board::stop), but blocks the thread: for destructors, and for programs without an async runtime.
    ///
    /// ```
    /// use callboard::Board;
    ///
    /// struct Service { board: Board }
    ///
    /// impl Drop for Service {
    ///     fn drop(&mut self) {
    ///         self.board.blocking_stop();
    ///     }
    /// }
    /// ```
    pub fn blocking_stop(&self) {
        self.keeper.blocking_stop();
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("node", &self.core.node).field("stage", &self.core.stage()).finish()
    }
}
