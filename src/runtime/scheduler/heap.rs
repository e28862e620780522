//! Which schedule fires next: pure.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Timestamp;
use crate::task::ScheduleId;

/// The schedules that fire, by the next time of each. All other data is read from storage when a schedule is due, so
/// that 100,000 schedules cost a few megabytes.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    due: BTreeSet<(Timestamp, ScheduleId)>,
    times: HashMap<ScheduleId, Timestamp>,
}

impl Heap {
    /// Sets when a schedule fires next; `None` if it does not fire.
    pub(crate) fn set(&mut self, id: ScheduleId, due: Option<Timestamp>) {
        let before = match due {
            Some(due) => self.times.insert(id, due),
            None => self.times.remove(&id),
        };
        if let Some(before) = before {
            self.due.remove(&(before, id));
        }
        self.due.extend(due.map(|due| (due, id)));
    }

    /// The schedules that are due at `now`, the longest due first, at most `limit`. They stay in the heap: the caller
    /// that has dealt with a schedule sets its next time.
    pub(crate) fn due(&self, now: Timestamp, limit: usize) -> Vec<ScheduleId> {
        self.due.iter().take_while(|(due, _)| *due <= now).take(limit).map(|(_, id)| *id).collect()
    }

    /// When the next schedule is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Replaces all schedules.
    pub(crate) fn refill(&mut self, all: impl IntoIterator<Item = (ScheduleId, Timestamp)>) {
        self.times = all.into_iter().collect();
        self.due = self.times.iter().map(|(id, due)| (*due, *id)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> ScheduleId {
        uuid::Uuid::from_u128(number).into()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn the_earliest_comes_first_and_a_change_takes_the_old_time_away() {
        let mut heap = Heap::default();
        heap.refill([(id(1), at(30)), (id(2), at(10)), (id(3), at(20))]);
        assert_eq!((heap.next(), heap.len()), (Some(at(10)), 3));
        assert_eq!(heap.due(at(20), 10), [id(2), id(3)]);
        assert_eq!(heap.due(at(20), 1), [id(2)]);
        assert_eq!(heap.due(at(9), 10), []);
        heap.set(id(2), Some(at(40)));
        heap.set(id(3), None);
        heap.set(id(9), None);
        assert_eq!(heap.due(at(100), 10), [id(1), id(2)]);
        heap.refill([]);
        assert_eq!((heap.next(), heap.len()), (None, 0));
    }
}
