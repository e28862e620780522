//! Clocks that are wrong.

use crate::clock::{Clock, Timestamp};

/// The machine's clock, but `ahead_us` microseconds ahead of it; behind when that is negative. A board whose database has
/// a clock of its own follows that one all the same.
pub fn skewed(ahead_us: i64) -> Clock {
    let clock = Clock::system();
    let (wall, elapsed) = (clock.now().as_micros(), clock.elapsed());
    clock.follow(Timestamp::from_micros(wall.saturating_add(ahead_us)), elapsed);
    clock
}
