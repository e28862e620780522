//! The scheduler: the actor that fires schedules, and changes to them.

mod agenda;
mod backfill;
pub(crate) mod heap;
pub(crate) mod operations;
mod round;
mod silent;
mod tell;
mod ticker;
mod turn;

pub(crate) use agenda::Agenda;
pub(crate) use backfill::{Backfill, TriggerNow};
pub use backfill::{BackfillOrder, Backfilled};
pub use operations::Resume;
#[cfg(feature = "testing")]
pub(crate) use round::{RoundEnd, round};
pub(crate) use silent::Silent;
pub(crate) use ticker::{Operate, Operation, Scheduler};
