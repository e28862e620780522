//! Background tasks, schedules and a public key-value store inside your program, run by [actix] actors.
//!
//! A task is pushed to a [`Board`]. The board stores the task before it confirms the push, runs it on a worker, and
//! retries it when it fails. The outcome is kept in memory, in a SQLite file, in PostgreSQL or in MySQL. Tasks in a
//! database outlive the program, and several programs may share it. Memory and SQLite need no further software to be
//! installed or started.
//!
//! ```
//! use callboard::{Board, Context, Task, TaskError, TaskFilter, TaskOrder, TaskResult, TaskState, slog};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Resize { image: String, width: u32 }
//!
//! impl Task for Resize {
//!     const TYPE: &'static str = "resize";
//!     type Output = String;
//!     async fn run(self, cx: &Context) -> TaskResult<String> {
//!         if self.width == 0 { return Err(TaskError::fatal("no width").into()) }
//!         slog::info!(cx.log(), "resizing"; "image" => &self.image);
//!         Ok(format!("{}@{}", self.image, self.width))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! actix_rt::System::new().block_on(async {
//!     // `.url("sqlite:tasks.db")` keeps tasks over restarts.
//!     let board = Board::builder().queue("default", 4).task::<Resize>().start().await?;
//!     let good = board.push(Resize { image: "cat.png".into(), width: 64 }).await?;
//!     let bad = board.push(Resize { image: "dog.png".into(), width: 0 }).await?;
//!     let name: String = board.wait_as(good.task_id).await?;
//!     assert_eq!(name, "cat.png@64");
//!     board.wait(bad.task_id).await?;
//!     let dead = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
//!     let page = board.list(dead, TaskOrder::NewestFirst, None, 10).await?;
//!     assert_eq!(page.tasks[0].last_error.as_deref(), Some("no width"));
//!     board.stop().await;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # The map
//!
//! | to | there is |
//! |---|---|
//! | describe, start and stop a board | [`Board::builder`], [`BoardBuilder`], [`Config`], [`StartError`] |
//! | define a task and its work | [`Task`], or JSON and a function; [`Context`], [`TaskResult`], [`Outcome`], [`TaskError`], [`Run`] for an actor of yours |
//! | push | [`Board::push`], [`NewTask`], [`Retry`], [`Unique`], [`Pushed`], [`PushError`] |
//! | push and complete in transactions of your own | `Board::push_in`, `Context::complete_in`, `AppConnection`, [`CompleteError`] |
//! | pull, in a loop of your own | [`Board::pop`], [`Delivery`] |
//! | see the outcome of tasks | [`Board::wait`], [`Board::wait_as`], [`Board::list`], [`TaskRecord`], [`TaskFilter`], [`TaskPage`], [`Execution`], [`StateCount`] |
//! | change tasks | [`Board::cancel`], [`Board::retry`], [`Board::edit_all`], [`EditAction`] |
//! | run queues | [`Board::pause`], [`Board::drain`], [`Board::set_concurrency`], [`QueueSettings`] |
//! | receive events | [`Board::subscribe`], [`BoardBuilder::on_event`], [`Event`], [`TaskFact`] |
//! | share values | [`Board::store`], [`StoreHandle`], and more in [`store`] |
//! | check the health of a board | [`Board::health`], [`Health`], [`Board::nodes`], [`Board::task_logs`], [`logging`] |
//! | write your own storage backend | [`Backend`], and the contract in [`backend`] |
//!
//! # What it promises
//!
//! A push that was answered is stored. Its task is still live, or has ended as completed, dead or cancelled. Tasks run
//! *at least* once: if a process dies during a run, the task runs again, so handlers should be idempotent. If a task
//! has several runs, exactly one of them decides its outcome. When the answer to a push is lost, pushing again with the
//! same id gives one task. Nothing is dropped silently.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `sqlite` | yes | the SQLite backend, with SQLite itself compiled in: building it needs a C compiler |
//! | `postgres` | no | the PostgreSQL backend; building it needs libpq |
//! | `mysql` | no | the backend for MySQL and MariaDB; building it needs libmariadb |
//! | `testing` | no | `testing::TestBoard`, whose clock your tests move by hand, and the conformance suite for backends |
//!
//! # Where to go next
//!
//! In the repository:
//! - `examples/`: a ladder of small programs with their output.
//! - `docs/tasks.md`: options, retries, unique keys, cancelling and logs.
//! - `docs/scheduling.md`: schedules.
//! - `docs/limits.md`: limits over all nodes.
//! - `docs/operations.md`: database servers.
//! - `docs/supervision.md`: the effect of each failure.
//! - `docs/reliability.md`: how failures are tested.
//! - `docs/public-store.md`: the public store.
//! - `ARCHITECTURE.md`: for developers of callboard.
//!
//! [actix]: https://docs.rs/actix

mod actor;
pub mod backend;
mod board;
mod clock;
mod config;
mod error;
mod files;
mod json;
mod limit;
pub mod logging;
mod name;
mod panics;
mod runtime;
mod schedule;
pub mod store;
mod task;
#[cfg(feature = "testing")]
pub mod testing;

// The versions that this crate is built on, so that a program needs no such dependencies of its own.
pub use actix_rt;
pub use slog;

pub use runtime::core::{Stage, UnrunReason, UnrunTasks};
// The types that `Board` takes and returns. Types that only a backend's author needs stay in their module.
pub use actor::Part;
#[cfg(feature = "sql")]
#[doc(inline)]
pub use backend::sql::AppConnection;
#[doc(inline)]
pub use backend::{
    Backend, BackendError, Capabilities, Cursor, EditAction, NodeRecord, QueueSettings, ScheduleFilter, StateCount,
    Synchronous, TaskFilter, TaskOrder, TaskPage,
};
pub use board::{
    Board, BoardBuilder, Edited, Health, HealthWarning, PartHealth, PartState, QueueHealth, ScheduleDetails,
    Schedules,
};
pub use clock::{Clock, Timestamp};
pub use config::{Config, Keep};
pub use error::{BoardError, CompleteError, DeliveryError, PushError, StartError};
pub use limit::{Limit, LimitScope, Rate};
pub use name::Name;
pub use runtime::events::{Event, SubscriptionId, TaskFact};
pub use runtime::queue::Pushed;
pub use runtime::queue::delivery::Delivery;
pub use runtime::scheduler::{BackfillOrder, Backfilled, Resume};
pub use runtime::worker::log::{LogForm, LogSlice, TaskLogOptions, TaskLogs};
pub use runtime::worker::{CancelReason, Context, Run, Task};
pub use schedule::trigger::{
    CalendarUnit, CronField, Language, ShortMonth, Trigger, TriggerError, TriggerText, Zone,
};
pub use schedule::{
    Coalesce, Firing, FiringCause, FiringStatus, ON_TIME, Overlap, Policy, Schedule, ScheduleRecord, ScheduleStatus,
    TaskTemplate,
};
#[doc(inline)]
pub use store::{StoreError, StoreHandle, StoreLimits};
pub use task::{
    BoxError, ClaimToken, DEFAULT_QUEUE, Execution, ExecutionStatus, Extras, FiringKey, IntoNewTask, IntoOutcome,
    InvalidTask, InvalidTaskId, NewTask, NodeId, Outcome, Progress, Retry, ScheduleId, TaskError, TaskId, TaskRecord,
    TaskResult, TaskSpec, TaskState, Unique, UniqueMode, UniqueScope, UnknownSpelling, holds_key,
};

/// The Markdown pages, so that their examples are compiled and run as tests.
#[cfg(doctest)]
#[allow(missing_debug_implementations, dead_code, reason = "nothing but a place for the pages")]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[cfg(feature = "sqlite")]
    #[doc = include_str!("../README.zh.md")]
    struct ReadmeInChinese;
    #[cfg(feature = "sqlite")]
    #[doc = include_str!("../README.ru.md")]
    struct ReadmeInRussian;
    #[doc = include_str!("../docs/tasks.md")]
    struct Tasks;
    #[doc = include_str!("../docs/limits.md")]
    struct Limits;
    #[doc = include_str!("../docs/public-store.md")]
    struct PublicStore;
    #[doc = include_str!("../docs/scheduling.md")]
    struct Scheduling;
    #[doc = include_str!("../docs/supervision.md")]
    struct Supervision;
}
