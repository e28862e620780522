//! Schedules: what makes tasks at given times.

mod agenda;
mod backfill;
mod backlog;
pub(crate) mod decide;
pub(crate) mod heap;
pub(crate) mod operations;
mod overlap;
mod policy;
mod record;
mod round;
mod schedule;
mod silent;
mod tell;
mod template;
mod ticker;
pub(crate) mod trigger;
mod turn;

pub(crate) use agenda::Agenda;
pub(crate) use backfill::{Backfill, TriggerNow};
pub use backfill::{BackfillOrder, Backfilled};
pub use operations::Resume;
pub use policy::{Coalesce, ON_TIME, Overlap, Policy};
pub use record::{Firing, FiringCause, FiringKey, FiringStatus, ScheduleId, ScheduleRecord, ScheduleStatus};
#[cfg(feature = "testing")]
pub(crate) use round::{RoundEnd, round};
pub use schedule::Schedule;
pub(crate) use silent::Silent;
pub use template::TaskTemplate;
pub(crate) use ticker::{Operate, Scheduler};
