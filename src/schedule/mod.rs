//! Schedules as data: triggers, policies, records, and the pure decisions about them.

pub(crate) mod backlog;
pub(crate) mod decide;
pub(crate) mod definition;
mod firing;
pub(crate) mod overlap;
pub(crate) mod policy;
mod record;
pub(crate) mod template;
pub(crate) mod trigger;

pub use definition::Schedule;
pub use firing::{Instance, SkippedTime};
pub use policy::{Coalesce, ON_TIME, Overlap, Policy};
pub use record::{Firing, FiringCause, FiringStatus, ScheduleRecord, ScheduleStatus};
pub use template::TaskTemplate;
