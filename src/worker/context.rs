//! What a handler sees of its task and of the board.

/// What a running handler has in hand.
pub struct Context {}

impl Context {
    /// The task's logger.
    pub fn log(&self) -> &slog::Logger {
        todo!()
    }
}
