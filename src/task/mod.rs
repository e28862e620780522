//! Tasks: their definition at the push, their runs, and their record in storage.

mod bounds;
mod failure;
mod firing;
mod id;
mod invalid;
mod outcome;
mod read;
mod record;
mod retry;
mod spec;
mod state;
mod unique;

pub(crate) use bounds::{Bounds, LONGEST_ERROR, LONGEST_REPORT, text_fault};
pub use failure::{BoxError, TaskError};
pub use firing::{FiringKey, ScheduleId};
pub(crate) use id::uuid_id;
pub use id::{ClaimToken, InvalidTaskId, NodeId, TaskId};
pub use invalid::InvalidTask;
pub use outcome::{IntoOutcome, Outcome, TaskResult};
pub(crate) use outcome::{RunResult, returned};
pub use record::{Execution, Progress, TaskRecord};
pub use retry::Retry;
pub(crate) use spec::When;
pub use spec::{DEFAULT_QUEUE, Extras, IntoNewTask, NewTask, TaskSpec};
pub(crate) use state::spelled;
pub use state::{ExecutionStatus, TaskState, UnknownSpelling};
pub use unique::{Unique, UniqueMode, UniqueScope, holds_key};
