//! Kills parts of a board on purpose.

use crate::board::Board;
use crate::supervise::{Part, guardian};

/// Makes a part panic, as a bug in it would. Returns false for parts that have no actor of their own to kill:
/// persistence (see [`Faulty`](super::Faulty)), heartbeat and watch.
pub fn crash(board: &Board, part: Part) -> bool {
    let core = board.core();
    match part {
        Part::Queue => core.queue.poke(crate::queue::Crash),
        Part::Store => core.store_line.poke(crate::store::Crash),
        Part::Maintenance => core.maintenance.poke(crate::maintenance::Crash),
        Part::Events => core.events.line().poke(crate::events::Crash),
        Part::Worker => return core.crew.crash_one(),
        Part::Guardian => core.guardian.poke(guardian::Crash),
        Part::Persistence | Part::Heartbeat | Part::Watch => return false,
    }
    true
}
