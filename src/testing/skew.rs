//! Clocks that show a wrong time.

use crate::clock::{Clock, Timestamp};

/// A clock that is `ahead_us` microseconds ahead of the clock of the machine; behind if the value is negative. A
/// board whose database has a clock follows the clock of the database all the same.
pub fn skewed(ahead_us: i64) -> Clock {
    let clock = Clock::system();
    let (wall, elapsed) = (clock.now().as_micros(), clock.elapsed());
    clock.follow(Timestamp::from_micros(wall.saturating_add(ahead_us)), elapsed);
    clock
}
