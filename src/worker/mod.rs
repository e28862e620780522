//! Workers: they run tasks.

mod context;

pub use context::Context;
