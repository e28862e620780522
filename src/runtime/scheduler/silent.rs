//! Schedules that are silent because their cursor lies ahead of the clock.

use crate::clock::Timestamp;
use crate::name::Name;
use crate::schedule::{ScheduleRecord, ScheduleStatus};
use crate::task::ScheduleId;

/// A schedule that is silent for longer than the span between two of its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) schedule_id: ScheduleId,
    pub(crate) name: Name,
    /// The next time at which its trigger would fire.
    pub(crate) leaves_out: Timestamp,
    /// The time at which it does fire.
    pub(crate) until: Timestamp,
}

/// Tells whether a schedule is silent, and until when. Pure.
pub(super) fn silent(record: &ScheduleRecord, now: Timestamp) -> Option<Silent> {
    if record.status != ScheduleStatus::Active || record.cursor <= now {
        return None;
    }
    let trigger = record.read_trigger().ok()?;
    let skipped = trigger.next_after(now)?;
    let next = trigger.next_after(record.cursor)?;
    let period = trigger.next_after(skipped)?.since(skipped);
    let silent = next > skipped && next.since(now) > period;
    silent.then(|| Silent {
        schedule_id: record.schedule_id,
        name: record.name.clone(),
        leaves_out: skipped,
        until: trigger.runs_at(&record.name, next),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::schedule::Schedule;
    use crate::schedule::trigger::{Trigger, Zone};
    use crate::task::NewTask;

    const HOUR: i64 = 3_600;

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn told(trigger: &Trigger, cursor: i64, now: i64, change: fn(&mut ScheduleRecord)) -> Option<(i64, i64)> {
        let schedule = Schedule::new("s", trigger.clone(), NewTask::new("work", &()));
        let definition =
            schedule.check(&Clock::manual(seconds(0)), crate::task::Bounds::all(1_000), Zone::UTC).unwrap();
        let mut record = definition.record(seconds(cursor));
        change(&mut record);
        let silent = silent(&record, seconds(now))?;
        Some((silent.leaves_out.as_micros() / 1_000_000, silent.until.as_micros() / 1_000_000))
    }

    #[test]
    fn a_cursor_ahead_of_the_clock_makes_it_silent() {
        let hourly = Trigger::every(Duration::from_secs(3_600)).unwrap();
        let as_it_is: fn(&mut ScheduleRecord) = |_| {};
        for (cursor, now, silent) in [
            // Times are dealt with up to now, or up to an earlier time.
            (HOUR, HOUR, None),
            (0, 10 * HOUR, None),
            // Ahead, but no time is left out.
            (HOUR + 5, HOUR + 3, None),
            (2 * HOUR - 1, HOUR, None),
            // The time of this hour has passed, and the next firing is more than an hour away.
            (2 * HOUR, HOUR + 1, Some((2 * HOUR, 3 * HOUR))),
            (2 * HOUR, 2 * HOUR - 1, Some((2 * HOUR, 3 * HOUR))),
            // Ahead by a day.
            (25 * HOUR, HOUR + 1, Some((2 * HOUR, 26 * HOUR))),
        ] {
            assert_eq!(told(&hourly, cursor, now, as_it_is), silent, "cursor {cursor}, now {now}");
        }
        let far = |change| told(&hourly, 100 * HOUR, 0, change);
        assert_eq!(far(|record| record.status = ScheduleStatus::Paused), None);
        assert_eq!(far(|record| record.trigger.kind = "nonsense".into()), None);
        // Not silent: a trigger that fires only once, and a trigger that has no time left.
        let once = Trigger::at(seconds(50 * HOUR)).unwrap();
        assert_eq!((told(&once, 10 * HOUR, 0, as_it_is), told(&once, 60 * HOUR, 0, as_it_is)), (None, None));
        let ends = hourly.clone().end_at(seconds(50 * HOUR)).unwrap();
        assert_eq!(told(&ends, 60 * HOUR, 0, as_it_is), None);
        assert_eq!(told(&ends, 40 * HOUR, 1, as_it_is), Some((HOUR, 41 * HOUR)));
    }
}
