//! The runtime of a node: its actors, its threads, and their shared state.

pub(crate) mod core;
pub(crate) mod events;
pub(crate) mod maintenance;
pub(crate) mod persistence;
pub(crate) mod queue;
pub(crate) mod scheduler;
pub(crate) mod supervise;
pub(crate) mod worker;
