//! The scheduler: the actor that fires schedules, and changes to them.

mod backfill;
mod due_list;
pub(crate) mod heap;
pub(crate) mod operations;
mod publish;
mod round;
mod silent;
mod ticker;
mod turn;

pub(crate) use backfill::{Backfill, TriggerNow};
pub use backfill::{BackfillOrder, Backfilled};
pub(crate) use due_list::DueList;
pub use operations::Resume;
#[cfg(feature = "testing")]
pub(crate) use round::{RoundEnd, round};
pub(crate) use silent::Silent;
pub(crate) use ticker::{Operate, Operation, Scheduler};
