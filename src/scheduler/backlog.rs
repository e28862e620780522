//! Which nominal times are due, however many: pure.

use std::time::Duration;

use super::trigger::Trigger;
use crate::clock::Timestamp;

/// Times that are looked at one by one.
const MOST: usize = 1_000;

/// Times that one window of the search from behind may hold: a burst of one second's beat over a day.
const MOST_IN_WINDOW: usize = 100_000;

/// Times that have come, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    /// One by one; when there are too many, the first and the last ones.
    pub(super) times: Vec<Timestamp>,
    /// Times between the first and the others that were passed over unseen: the last one seen, and how many at least.
    pub(super) unseen: Option<(Timestamp, u64)>,
}

/// A trigger, the name that its jitter follows from, and the time.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) trigger: &'a Trigger,
    pub(super) name: &'a str,
    pub(super) now: Timestamp,
}

impl Watch<'_> {
    /// When the run of a nominal time is due.
    pub(super) fn due(&self, nominal: Timestamp) -> Timestamp {
        self.trigger.runs_at(self.name, nominal)
    }

    /// How late the run of a nominal time is.
    pub(super) fn lateness(&self, nominal: Timestamp) -> Duration {
        self.now.since(self.due(nominal))
    }

    /// The times after `cursor` that are due.
    pub(super) fn times(&self, cursor: Timestamp) -> Backlog {
        let mut times = self.walk(cursor, MOST + 1);
        if times.len() <= MOST {
            return Backlog { times, unseen: None };
        }
        let (first, last_seen) = (times[0], times[MOST]);
        let tail = self.tail(last_seen);
        let seen = u64::try_from(MOST).unwrap_or(u64::MAX);
        times = std::iter::once(first).chain(tail).collect();
        Backlog { times, unseen: Some((last_seen, seen)) }
    }

    fn walk(&self, after: Timestamp, most: usize) -> Vec<Timestamp> {
        let next = |time: &Timestamp| self.trigger.next_after(*time);
        // In nominal order, which is the order in which they are due: no jitter reaches beyond the next time.
        let due = |time: &Timestamp| self.due(*time) <= self.now;
        std::iter::successors(self.trigger.next_after(after), next).take_while(due).take(most).collect()
    }

    /// The last times that are due and come after `after`, about as many as are looked at one by one. Found from behind
    /// in windows that double, for a trigger only knows the way ahead.
    fn tail(&self, after: Timestamp) -> Vec<Timestamp> {
        let mut span = Duration::from_secs(1) + self.trigger.longest_jitter();
        loop {
            let from = (self.now - span).max(after);
            let mut found = self.walk(from, MOST_IN_WINDOW);
            let full = found.len() == MOST_IN_WINDOW;
            if found.len() >= MOST || from == after || full {
                let excess = found.len().saturating_sub(MOST);
                return found.split_off(excess);
            }
            span *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn times(every: u64, cursor: i64, now: i64) -> Backlog {
        let trigger = Trigger::every(Duration::from_secs(every)).unwrap();
        Watch { trigger: &trigger, name: "n", now: seconds(now) }.times(seconds(cursor))
    }

    #[test]
    fn a_few_are_named_one_by_one() {
        assert_eq!(times(10, 0, 9), Backlog::default());
        assert_eq!(times(10, 0, 30).times, [10, 20, 30].map(seconds));
        assert_eq!(times(10, 30, 5).times, []);
    }

    #[test]
    fn of_very_many_the_first_and_the_last_are_named() {
        let year = 366 * 86_400;
        let backlog = times(1, 0, year);
        assert_eq!(backlog.times[0], seconds(1));
        assert_eq!(*backlog.times.last().unwrap(), seconds(year));
        assert!(backlog.times.len() <= MOST + 1 && backlog.times.len() > MOST / 2);
        assert!(backlog.times.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(backlog.unseen, Some((seconds(1_001), 1_000)));
    }

    #[test]
    fn a_thousand_is_not_too_many() {
        let backlog = times(1, 0, 1_000);
        assert_eq!((backlog.times.len(), backlog.unseen), (1_000, None));
        let backlog = times(1, 0, 1_002);
        assert_eq!(backlog.times.len(), 2, "the first, and those after the last seen");
    }

    #[test]
    fn jitter_delays_a_time_and_does_not_lose_it() {
        // Also one that is longer than the time to the next.
        [1, 30, 59, 60, 61, 600, 86_400].into_iter().for_each(each_comes_by_itself);
    }

    fn each_comes_by_itself(jitter: u64) {
        let trigger = Trigger::every(Duration::from_secs(60)).unwrap().jitter(Duration::from_secs(jitter)).unwrap();
        let mut cursor = seconds(0);
        let mut seen = Vec::new();
        for now in 0..6_000 {
            let watch = Watch { trigger: &trigger, name: "n", now: seconds(now) };
            let come = watch.times(cursor).times;
            assert!(come.len() <= 1, "no time waits for another");
            for time in come {
                assert!(watch.lateness(time) < Duration::from_secs(1));
                seen.push(time);
                cursor = time;
            }
        }
        assert_eq!(seen, (1..=99).map(|k| seconds(k * 60)).collect::<Vec<_>>());
    }
}
