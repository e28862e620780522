//! Schedules of every overlap policy, with runs that often last longer than their period.

use std::time::Duration;

use callboard::{Coalesce, NewTask, Overlap, Retry, Schedule, Timestamp, Trigger};

use super::handlers::Params;

/// A schedule. The judging test knows its definition too.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) overlap: Overlap,
    pub(crate) places: u32,
    every_ms: u64,
    /// The longest time that a run takes, in milliseconds.
    run_ms: u64,
}

const fn kind(name: &'static str, overlap: Overlap, places: u32, every_ms: u64, run_ms: u64) -> Kind {
    Kind { name, overlap, places, every_ms, run_ms }
}

pub(crate) const KINDS: [Kind; 10] = [
    kind("allow", Overlap::Allow, 1, 500, 400),
    kind("allow, long", Overlap::Allow, 1, 1_100, 2_500),
    kind("skip", Overlap::Skip, 1, 700, 1_500),
    kind("skip, two places", Overlap::Skip, 2, 500, 2_000),
    kind("buffer one", Overlap::BufferOne, 1, 800, 1_800),
    kind("buffer one, two places", Overlap::BufferOne, 2, 600, 2_400),
    kind("buffer all", Overlap::BufferAll, 1, 1_200, 1_800),
    kind("cancel other", Overlap::CancelOther, 1, 1_000, 2_000),
    kind("cancel other, short", Overlap::CancelOther, 1, 600, 800),
    kind("cancel other, two places", Overlap::CancelOther, 2, 600, 2_400),
];

impl Kind {
    /// The schedule; none of its times may be left out.
    pub(crate) fn schedule(&self) -> Schedule {
        // An offset, so that the schedules do not all fire at the same moment.
        let offset = self.name.bytes().map(i64::from).sum::<i64>() * 97;
        let trigger = Trigger::every(Duration::from_millis(self.every_ms))
            .and_then(|trigger| trigger.anchored_at(Timestamp::from_micros(offset)))
            .expect("a constant interval");
        let params = Params { up_to_ms: self.run_ms, deaf: self.places == 1, ..Params::default() };
        let task = NewTask::new("tick", &params).queue("ticks").max_attempts(5).retry(Retry::fixed(SOON));
        Schedule::new(self.name, trigger, task)
            .coalesce(Coalesce::All(1_000))
            .overlap(self.overlap)
            .max_instances(self.places)
            .keep_firings(10_000)
    }
}

const SOON: Duration = Duration::from_millis(50);
