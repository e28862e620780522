//! Database operations for the queue, written once on [`Conn`](super::conn::Conn).

mod claim;
mod commit;
mod edit;
mod filter;
pub(super) mod in_line;
mod insert;
mod limited;
pub(super) mod limits;
mod locks;
pub(super) mod nodes;
mod pending;
pub(super) mod prune;
pub(super) mod read;
pub(super) mod rescue;
pub(super) mod schedules;
mod settle;
mod sweep;
mod unique;

#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(super) mod bulk;

pub(super) use claim::any as any_claim;
pub(super) use commit::{Aside, Batch};
pub(super) use edit::edit;
pub(super) use insert::{InsertNext, Kept, NewRow};
#[cfg(feature = "postgres")]
pub(super) use insert::{begin, columns};
pub(super) use sweep::{Glance, glance, look, work as sweep};
