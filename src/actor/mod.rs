//! General helpers for actors.

mod address;

pub(crate) use address::Line;
