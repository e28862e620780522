//! Supervision: who watches the actors, and what happens when one dies.

mod life;
mod line;

pub use life::Part;
pub(crate) use life::{Life, Pulse};
pub(crate) use line::Line;
