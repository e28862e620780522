//! A task queue and a public key-value store run by actix actors, kept in memory or in SQLite.

pub mod backend;
mod board;
mod clock;
mod config;
mod core;
mod error;
mod events;
pub mod logging;
mod maintenance;
mod name;
mod persistence;
mod queue;
pub mod store;
mod supervise;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod worker;

pub use crate::core::Stage;
pub use board::{Board, BoardBuilder, Edited, Health, PartHealth, PartState, QueueHealth};
pub use clock::{Clock, Timestamp};
pub use config::{Config, Keep};
pub use error::{BoardError, DeliveryError, PushError, StartError};
pub use events::{Event, SubscriptionId, TaskFact};
pub use name::Name;
pub use queue::Pushed;
pub use queue::delivery::Delivery;
pub use supervise::Part;
pub use task::{
    ClaimToken, DEFAULT_QUEUE, Execution, ExecutionStatus, Extras, IntoNewTask, InvalidTaskId, NewTask, NodeId,
    Outcome, Progress, Retry, Task, TaskError, TaskId, TaskRecord, TaskResult, TaskSpec, TaskState, Unique,
    UniqueMode, UniqueScope, UnknownSpelling, holds_key,
};
pub use worker::log::{LogForm, LogSlice, TaskLogOptions, TaskLogs};
pub use worker::{CancelReason, Context, Run};

/// The pages beside the code: what they show compiles and runs.
#[cfg(doctest)]
#[allow(missing_debug_implementations, dead_code, reason = "nothing but a place for the pages")]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/tasks.md")]
    struct Tasks;
    #[doc = include_str!("../docs/public-store.md")]
    struct PublicStore;
    #[doc = include_str!("../docs/supervision.md")]
    struct Supervision;
}
