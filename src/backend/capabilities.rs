//! The features of a backend.

use serde::Serialize;

/// The features of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// The URL scheme.
    pub name: &'static str,
    /// Acknowledged tasks survive the process.
    pub durable: bool,
    /// Several processes may use the same storage.
    pub shared: bool,
    /// Its methods touch no disk and no network, so an actor may call them directly.
    pub never_blocks: bool,
    /// The number of commits that it can run in parallel.
    pub parallel_commits: usize,
    /// It reports changes made by other nodes, so that polling without a wake-up may be rare.
    pub notifies: bool,
}

impl Capabilities {
    /// A backend that is not durable, is not shared, and blocks.
    pub const fn new(name: &'static str) -> Self {
        Self { name, durable: false, shared: false, never_blocks: false, parallel_commits: 1, notifies: false }
    }
}
