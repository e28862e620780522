//! Kills parts of a board on purpose.

use crate::actor::{Crash, Part};
use crate::board::Board;

/// Makes a part panic, as a bug in it would. Returns false for persistence, which has nothing of its own to kill.
/// [`Faulty`](super::Faulty) makes persistence panic.
pub fn crash(board: &Board, part: Part) -> bool {
    let core = board.core();
    match part {
        Part::Queue => core.queue.poke(Crash),
        Part::Store => core.store_line.poke(crate::store::Crash),
        Part::Scheduler => core.scheduler.poke(Crash),
        Part::Maintenance => core.maintenance.poke(Crash),
        Part::Events => core.events.line().poke(Crash),
        Part::Worker => return core.workers.crash_one(),
        Part::Guardian => core.guardian.poke(Crash),
        Part::Heartbeat | Part::Watch => core.parts.pulse(part).crash(),
        Part::Persistence => return false,
    }
    true
}
