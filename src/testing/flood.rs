//! Floods actors with messages on purpose.

use crate::board::Board;
use crate::error::BoardError;
use crate::runtime::maintenance::DueAt;
use crate::runtime::queue::{AwaitIdle, Poke};

/// Sends `messages` messages each to the queue and to maintenance, faster than they can be handled. Resolves when the
/// queue has handled all of its messages.
///
/// # Errors
/// When the queue is not running.
pub async fn flood(board: &Board, messages: usize) -> Result<(), BoardError> {
    let core = board.core();
    let due = core.clock.now() + core.config.check_interval;
    for _ in 0..messages {
        core.queue.poke(Poke);
        core.maintenance.poke(DueAt(due));
    }
    // A mailbox is read in order, so this answer comes after all the messages.
    Ok(core.queue.ask(AwaitIdle(None)).await.map(drop)?)
}
