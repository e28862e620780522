//! A queue, a persistent scheduler and a public key-value store run by actix actors.

pub mod backend;
mod clock;
mod error;
mod name;
pub mod store;
mod supervise;
mod task;
mod worker;

pub use clock::{Clock, Timestamp};
pub use error::{BoardError, DeliveryError, PushError, StartError};
pub use name::Name;
pub use supervise::Part;
pub use task::{
    ClaimToken, DEFAULT_QUEUE, Execution, ExecutionStatus, Extras, IntoNewTask, InvalidTaskId, NewTask, NodeId,
    Outcome, Progress, Retry, Task, TaskError, TaskId, TaskRecord, TaskResult, TaskSpec, TaskState, Unique,
    UniqueMode, UniqueScope, UnknownSpelling, holds_key,
};
pub use worker::Context;
