//! Finds the nominal times that are due, however many there are. Pure.

use std::time::Duration;

use super::trigger::Trigger;
use crate::clock::Timestamp;

/// Largest number of times that are examined individually.
const MOST: usize = 1_000;

/// A window of the search from behind is too wide if it holds this many times. It is a multiple of [`MOST`], so that
/// a suitable window is found soon.
const MOST_IN_WINDOW: usize = 8 * MOST;

/// Times that have come and have not made a task yet, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// The times in order. If there are more than 1,000: the first time, and the last 1,000 times.
    pub(crate) times: Vec<Timestamp>,
    /// Times left out between the first time and the last 1,000: the last of them that was seen, and a lower
    /// bound of their number.
    pub(crate) unseen: Option<(Timestamp, u64)>,
    /// The last time that has come, whether or not it has already made its task.
    pub(crate) last: Option<Timestamp>,
}

/// A trigger, the name from which its jitter follows, and the time.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a> {
    pub(crate) trigger: &'a Trigger,
    pub(crate) name: &'a str,
    pub(crate) now: Timestamp,
    /// Nominal times that have already made a task, in order.
    pub(crate) fired: &'a [Timestamp],
}

impl Watch<'_> {
    /// When the run of a nominal time is due.
    pub(crate) fn due(&self, nominal: Timestamp) -> Timestamp {
        self.trigger.runs_at(self.name, nominal)
    }

    /// How late the run of a nominal time is.
    pub(crate) fn lateness(&self, nominal: Timestamp) -> Duration {
        self.now.since(self.due(nominal))
    }

    /// The times after `cursor` that are due.
    pub(crate) fn times(&self, cursor: Timestamp) -> Backlog {
        let head = self.walk(cursor, MOST + 1);
        let [first, between @ ..] = head.times.as_slice() else { return head };
        if head.times.len() <= MOST {
            return head;
        }
        let tail = self.tail(*first);
        let from = tail.times.first();
        // The tail may begin among the times that the head has seen. Times in the tail are not left out.
        let between = &between[..between.partition_point(|time| Some(time) < from)];
        let passed = u64::try_from(between.len()).unwrap_or(u64::MAX);
        let unseen = between.last().map(|last| (*last, passed));
        Backlog { times: std::iter::once(*first).chain(tail.times).collect(), unseen, last: tail.last }
    }

    /// The first due times after `after`, `most` at most.
    fn walk(&self, after: Timestamp, most: usize) -> Backlog {
        let next = |time: &Timestamp| self.trigger.next_after(*time);
        // Times come in nominal order, which is also the order in which they are due: no jitter reaches beyond the
        // next time.
        let due = |time: &Timestamp| self.due(*time) <= self.now;
        let mut last = None;
        let come = std::iter::successors(self.trigger.next_after(after), next).take_while(due);
        let come = come.inspect(|time| last = Some(*time)).filter(|time| self.fired.binary_search(time).is_err());
        let times = come.take(most).collect();
        Backlog { times, unseen: None, last }
    }

    /// The last due times after `after`, as many as are examined individually. The search goes backwards in windows
    /// that double, because a trigger can only search forwards. Where times are dense and long past, a window may
    /// hold too few times and the next window millions. The right window then lies in between, and the search halves
    /// the gap.
    fn tail(&self, after: Timestamp) -> Backlog {
        let mut span = Duration::from_secs(1) + self.trigger.longest_jitter();
        let (mut too_many, mut too_few) = (None, self.now);
        loop {
            let from = match too_many {
                None => (self.now - span).max(after),
                Some(far) => too_few - too_few.since(far) / 2,
            };
            let mut found = self.walk(from, MOST_IN_WINDOW);
            if found.times.len() == MOST_IN_WINDOW {
                too_many = Some(from);
            } else if found.times.len() >= MOST || from == after {
                let excess = found.times.len().saturating_sub(MOST);
                found.times.drain(..excess);
                return found;
            } else {
                too_few = from;
                span *= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trigger::Zone;
    use super::*;

    fn seconds(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn times(every: u64, cursor: i64, now: i64) -> Backlog {
        let trigger = Trigger::every(Duration::from_secs(every)).unwrap();
        Watch { trigger: &trigger, name: "n", now: seconds(now), fired: &[] }.times(seconds(cursor))
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
        assert_eq!(backlog.times[1..], (year - 999..=year).map(seconds).collect::<Vec<_>>());
        assert_eq!(backlog.unseen, Some((seconds(1_001), 1_000)));
    }

    #[test]
    fn a_thousand_is_not_too_many() {
        let backlog = times(1, 0, 1_000);
        assert_eq!((backlog.times.len(), backlog.unseen), (1_000, None));
        let backlog = times(1, 0, 1_001);
        assert_eq!((backlog.times.len(), backlog.unseen), (1_001, None), "the first, and the last 1,000");
        let backlog = times(1, 0, 1_003);
        assert_eq!((backlog.times.len(), backlog.unseen), (1_001, Some((seconds(3), 2))));
        assert_eq!((backlog.times[1], backlog.last), (seconds(4), Some(seconds(1_003))));
    }

    #[test]
    fn the_last_ones_are_found_wherever_they_are_dense() {
        let day = 86_400;
        let second = || Trigger::every(Duration::from_secs(1)).unwrap();
        // Each second, ended long ago: for three days, for a century.
        for (ended, now) in [(3 * day, 6 * day), (3 * day, 3 * day + 262_400), (36_500 * day, 73_000 * day)] {
            let trigger = second().end_at(seconds(ended)).unwrap();
            let backlog = Watch { trigger: &trigger, name: "n", now: seconds(now), fired: &[] }.times(seconds(0));
            assert_eq!(backlog.times[1..], (ended - 999..=ended).map(seconds).collect::<Vec<_>>());
            assert_eq!(backlog.last, Some(seconds(ended)));
        }
        // Each second of the first two days of each month.
        let trigger = Trigger::cron("* * * 1,2 * *", Zone::UTC).unwrap();
        for now in [0, 1, 17, 30, 45].map(|days| days * day) {
            let backlog =
                Watch { trigger: &trigger, name: "n", now: seconds(now), fired: &[] }.times(seconds(-900 * day));
            assert_eq!(backlog.times.len(), MOST + 1);
            let last = backlog.last.unwrap();
            assert_eq!(backlog.times.last(), Some(&last));
            assert!(trigger.next_after(last).unwrap() > seconds(now), "{last} is not the last one before {now}");
            assert_eq!(trigger.preview(backlog.times[1], MOST - 1).last(), Some(&last));
        }
    }

    #[test]
    fn what_has_fired_takes_no_place() {
        let trigger = Trigger::every(Duration::from_secs(1)).unwrap();
        // More fired times than a window holds.
        let fired: Vec<_> = (90_001..=100_000).map(seconds).collect();
        let backlog = Watch { trigger: &trigger, name: "n", now: seconds(100_000), fired: &fired }.times(seconds(0));
        assert_eq!(backlog.times[1..], (89_001..=90_000).map(seconds).collect::<Vec<_>>());
        assert_eq!(backlog.last, Some(seconds(100_000)));
    }

    #[test]
    fn jitter_delays_a_time_and_does_not_lose_it() {
        // This includes a jitter longer than the time to the next firing.
        [1, 30, 59, 60, 61, 600, 86_400].into_iter().for_each(each_comes_by_itself);
    }

    fn each_comes_by_itself(jitter: u64) {
        let trigger = Trigger::every(Duration::from_secs(60)).unwrap().jitter(Duration::from_secs(jitter)).unwrap();
        let mut cursor = seconds(0);
        let mut seen = Vec::new();
        for now in 0..6_000 {
            let watch = Watch { trigger: &trigger, name: "n", now: seconds(now), fired: &[] };
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
