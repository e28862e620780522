//! What a backend can do.

use serde::Serialize;

/// What a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// The URL scheme.
    pub name: &'static str,
    /// Acknowledged tasks survive the process.
    pub durable: bool,
    /// Several processes may share it.
    pub shared: bool,
    /// Its methods touch no disk and no network, so an actor may call them directly.
    pub never_blocks: bool,
    /// How many commits it can take side by side.
    pub parallel_commits: usize,
    /// It tells by itself what other nodes change, so that looking without a wake-up may be rare.
    pub notifies: bool,
}

impl Capabilities {
    /// A backend that keeps nothing, shares nothing, and blocks.
    pub const fn new(name: &'static str) -> Self {
        Self { name, durable: false, shared: false, never_blocks: false, parallel_commits: 1, notifies: false }
    }
}
