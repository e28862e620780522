//! Describes a board before it starts.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use serde_json::Value;
use slog::Logger;

use super::{Board, keeper};
use crate::backend::{Backend, BackendError, Synchronous, url_from_env};
use crate::clock::Clock;
use crate::config::{Config, Keep};
use crate::error::StartError;
use crate::name::Name;
use crate::runtime::events::{Event, TaskFact};
use crate::runtime::worker::{ActorHandler, AsyncFn, BlockingFn, Context, Handle, Run, Task, Typed};
use crate::schedule::Schedule;
use crate::schedule::trigger::Zone;
use crate::store::StoreLimits;
use crate::task::{IntoOutcome, TaskResult, TaskState};

/// A callback for events, kept until the board starts.
pub(crate) type EventCallback = Box<dyn Fn(&Event) + Send + Sync>;

/// Describes a board: storage, queues, handlers, and everything in [`Config`].
#[must_use = "a builder does nothing before start()"]
pub struct BoardBuilder {
    pub(super) config: Config,
    pub(super) backend: Option<Arc<dyn Backend>>,
    pub(super) log: Logger,
    pub(super) handlers: Vec<(Name, Box<dyn Handle>)>,
    pub(super) data: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    pub(super) callbacks: Vec<EventCallback>,
    pub(super) schedules: Vec<Schedule>,
    default_queues: bool,
}

macro_rules! callbacks {
    ($($(#[$doc:meta])* $name:ident => $event:ident;)+) => {$(
        $(#[$doc])*
        pub fn $name(self, kind: impl Into<Name>, call: impl Fn(&TaskFact) + Send + Sync + 'static) -> Self {
            let kind = kind.into();
            self.callback(Box::new(move |event| {
                if let Event::$event(fact) = event
                    && fact.kind == kind
                {
                    call(fact);
                }
            }))
        }
    )+};
}

impl BoardBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: Config::default(),
            backend: None,
            log: Logger::root(slog::Discard, slog::o!()),
            handlers: Vec::new(),
            data: HashMap::new(),
            callbacks: Vec::new(),
            schedules: Vec::new(),
            default_queues: true,
        }
    }

    /// Replaces all settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self.default_queues = false;
        self
    }

    /// Changes single settings: `.configure(|c| c.lease = Duration::from_secs(5))`.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Where tasks are kept: `memory:`, `sqlite:PATH`, `postgres://...` or `mysql://...`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.config.url = url.into();
        self
    }

    /// Takes the storage URL from the environment: from `CALLBOARD_URL`, or else from `DATABASE_URL`.
    ///
    /// # Errors
    /// [`BackendError::BadUrl`](crate::BackendError::BadUrl) when neither is set; its text says how to set it.
    pub fn url_from_env(self) -> Result<Self, BackendError> {
        Ok(self.url(url_from_env(|name| std::env::var(name).ok())?))
    }

    /// A backend of your own, in place of a URL.
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Adds a queue, with the number of its tasks that may run on this node at a time. The first call replaces the
    /// default queue. A node that must also run tasks of the default queue needs `.queue("default", 10)` as well.
    ///
    /// With 0 the node knows the queue but runs none of its tasks, until [`set_concurrency`](Board::set_concurrency)
    /// changes that. So a node can declare that it leaves a queue to other nodes on purpose: there is no
    /// [warning](crate::HealthWarning) then. Tasks that no live node runs are still reported.
    pub fn queue(mut self, queue: impl Into<Name>, concurrency: usize) -> Self {
        if std::mem::take(&mut self.default_queues) {
            self.config.queues.clear();
        }
        self.config.queues.push((queue.into(), concurrency));
        self
    }

    /// Registers a task type that has its own `run`.
    pub fn task<T: Task>(self) -> Self {
        self.add(Name::of(T::TYPE), Box::new(Typed::<T>(PhantomData)))
    }

    /// Registers an async function for the tasks of type `kind`. It gets their params as JSON.
    pub fn handler<F, Fut, O>(self, kind: impl Into<Name>, run: F) -> Self
    where
        F: Fn(Value, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = TaskResult<O>> + 'static,
        O: IntoOutcome + 'static,
    {
        self.add(kind, Box::new(AsyncFn(run)))
    }

    /// Registers a blocking function for a typed task. It runs on a separate, bounded thread pool.
    pub fn blocking<T, F>(self, run: F) -> Self
    where
        T: Task + Send,
        F: Fn(T, &Context) -> TaskResult<T::Output> + Clone + Send + Sync + 'static,
    {
        self.add(Name::of(T::TYPE), Box::new(BlockingFn(run, PhantomData::<fn() -> T>)))
    }

    /// Registers an actor of the application that runs the tasks of type `T`; see [`Run`].
    pub fn actor<T: Task<Output: Send> + Send>(self, actor: impl Into<Recipient<Run<T>>>) -> Self {
        self.add(Name::of(T::TYPE), Box::new(ActorHandler(actor.into())))
    }

    /// Adds a schedule that the code defines. When the board starts, the schedule is stored, or compared with the
    /// stored schedule of the same name.
    ///
    /// If this definition differs from the last definition that code gave, it replaces the stored schedule, including
    /// changes made at run time. While the code stays the same, changes at run time stay: a pause, an update, a
    /// deletion.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedules.push(schedule);
        self
    }

    fn add(mut self, kind: impl Into<Name>, handler: Box<dyn Handle>) -> Self {
        self.handlers.push((kind.into(), handler));
        self
    }

    /// Shared state that handlers get with [`Context::data`]; a single value for each type.
    pub fn data<T: Send + Sync + 'static>(mut self, data: T) -> Self {
        self.data.insert(TypeId::of::<T>(), Box::new(data));
        self
    }

    /// The logger of the application. Without this call nothing is logged.
    pub fn logger(mut self, log: Logger) -> Self {
        self.log = log;
        self
    }

    /// Keeps the log of every task under `dir/{task_id}/`.
    pub fn task_logs(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.task_logs = Some(dir.into());
        self
    }

    /// Leaves records below `level` out of the logs of tasks. Without this call the level is `Debug`. Records for the
    /// application's [`logger`](Self::logger) are not affected: that logger filters them itself.
    ///
    /// ```
    /// let builder = callboard::Board::builder().task_logs("logs/tasks").task_log_level(slog::Level::Warning);
    /// # drop(builder);
    /// ```
    pub fn task_log_level(mut self, level: slog::Level) -> Self {
        self.config.task_log_level = level;
        self
    }

    /// The time zone of triggers that name no zone: `Trigger::cron("0 9 * * *", None)`. Without this call it is UTC. A
    /// schedule keeps the zone it was created with, which its record shows.
    pub fn default_zone(mut self, zone: Zone) -> Self {
        self.config.default_zone = zone;
        self
    }

    /// The node's name in lists.
    pub fn node_name(mut self, name: impl Into<String>) -> Self {
        self.config.node_name = name.into();
        self
    }

    /// How long after its last heartbeat a node counts as alive.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.lease = lease;
        self
    }

    /// How long a stop lets running tasks continue before it cancels them.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.config.drain = drain;
        self
    }

    /// How long a cancelled run may continue before it is dropped.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.config.cancel_grace = grace;
        self
    }

    /// The number of threads that commit in parallel, where the database takes several commits at a time.
    pub fn writers(mut self, writers: usize) -> Self {
        self.config.writers = writers;
        self
    }

    /// How durable a commit is.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.config.synchronous = synchronous;
        self
    }

    /// Size limits of the public store.
    pub fn store_limits(mut self, limits: StoreLimits) -> Self {
        self.config.store_limits = limits;
        self
    }

    /// How long, and how many, finished tasks are kept.
    pub fn retention(mut self, state: TaskState, age: Option<Duration>, count: Option<u64>) -> Self {
        self.config.retention.retain(|keep| keep.state != state);
        self.config.retention.push(Keep { state, age, count });
        self
    }

    /// The clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.config.clock = clock;
        self
    }

    /// Calls a function with every event.
    pub fn on_event(self, call: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.callback(Box::new(call))
    }

    callbacks! {
        /// Calls a function when a task of type `kind` begins to run.
        on_running => Running;
        /// Calls a function when a task of type `kind` has failed and will run again.
        on_retrying => Retrying;
        /// Calls a function when a task of type `kind` is completed.
        on_completed => Completed;
        /// Calls a function when a task of type `kind` is dead.
        on_dead => Dead;
        /// Calls a function when a task of type `kind` is cancelled.
        on_cancelled => Cancelled;
        /// Calls a function when a task of type `kind` reports progress.
        on_progress => Progress;
    }

    /// Uses memory, in place of any storage chosen before.
    #[cfg(feature = "testing")]
    pub(crate) fn on_memory(mut self) -> Self {
        self.backend = None;
        self.url("memory:")
    }

    fn callback(mut self, call: EventCallback) -> Self {
        self.callbacks.push(call);
        self
    }

    /// Opens storage and starts the actors, in an actix system of the board's own. It may be awaited on any executor.
    /// If its future is dropped, the parts already started stop again.
    ///
    /// In a handler, `actix_rt::System::current()` is the board's system, not the application's. A handler reaches an
    /// actor of the application by its address or `Recipient`.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub async fn start(self) -> Result<Board, StartError> {
        keeper::start(self).await
    }
}

impl std::fmt::Debug for BoardBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let types: Vec<_> = self.handlers.iter().map(|(kind, _)| kind).collect();
        f.debug_struct("BoardBuilder").field("config", &self.config).field("types", &types).finish_non_exhaustive()
    }
}
