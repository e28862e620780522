//! Decides what a schedule does now. Pure. The tables in `decide/tests.rs` show it case by case.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::backlog::{Backlog, Watch};
use super::firing::{Instance, SkippedTime};
use super::overlap::{Follows, Overlaps};
use super::policy::{Coalesce, ON_TIME};
use super::record::{FiringCause, FiringStatus, ScheduleRecord, ScheduleStatus};
use super::trigger::Trigger;
use crate::clock::Timestamp;
use crate::task::TaskId;

/// The input of a decision.
pub(crate) struct Situation<'a> {
    pub(crate) record: &'a ScheduleRecord,
    pub(crate) trigger: &'a Trigger,
    pub(crate) now: Timestamp,
    /// The tasks of the schedule that have not ended, the oldest first.
    pub(crate) live: &'a [Instance],
    /// Nominal times after the cursor that have already made a task, in order. Such times exist after a backfill, or
    /// after the cursor was moved back.
    pub(crate) fired: &'a [Timestamp],
    /// Number of dead runs, counted from the latest run back to the first completed run.
    pub(crate) failures: u32,
}

/// The times that the clock asks for.
struct Due {
    /// Times that may run.
    backlog: Backlog,
    /// Times that are too late to run.
    missed: Vec<SkippedTime>,
    /// The last time that has come, or `None` when no time has come.
    last: Option<Timestamp>,
}

/// A nominal time that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Go {
    pub(crate) nominal_at: Timestamp,
    /// The run that must end before this run starts.
    pub(crate) follows: Follows,
}

/// The changes to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) status: ScheduleStatus,
    pub(crate) reason: Option<String>,
    pub(crate) cursor: Timestamp,
    pub(crate) next_run_at: Option<Timestamp>,
    pub(crate) runs: Vec<Go>,
    pub(crate) passed: Vec<SkippedTime>,
    /// Runs to cancel, so that there is room.
    pub(crate) cancel: Vec<TaskId>,
}

impl Situation<'_> {
    /// Returns the changes to write now, or `None` when the row already states them.
    pub(crate) fn decide(&self) -> Option<Decision> {
        let record = self.record;
        let cursor = self.cursor()?;
        // The pause comes soon after the last failed run, and does not wait until the next run is due.
        if let Some(most) = record.policy.pause_after.filter(|most| self.failures >= *most) {
            let reason = format!("{most} runs in a row failed; resume it when the cause is gone");
            return Some(Decision { reason: Some(reason), ..self.stopped(ScheduleStatus::Paused) });
        }
        let mut passed = self.overtaken_by_the_pause();
        let Due { backlog, missed, last } = self.due(cursor);
        let Some(last) = last else {
            let decision = Decision { passed, ..self.at_rest(cursor) };
            let as_stored = decision.status == record.status
                && decision.next_run_at == record.next_run_at
                && decision.cursor == record.cursor;
            return (!as_stored).then_some(decision);
        };
        passed.extend(missed);
        let chosen = self.coalesce(backlog, &mut passed);
        Some(self.fire(last, &chosen, passed))
    }

    /// Runs the chosen times, as far as the overlap policy and the run limit allow.
    fn fire(&self, last: Timestamp, chosen: &[Timestamp], mut passed: Vec<SkippedTime>) -> Decision {
        let policy = &self.record.policy;
        let room = policy.run_limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.record.run_count));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let overlaps = Overlaps::apply(policy, room, &self.by_clock(), chosen, &mut passed);
        shorten(&mut passed, policy.keep_firings);
        let reached = policy.run_limit.filter(|_| overlaps.runs.len() >= room);
        // Times that this turn leaves over are due at once, in the next turn.
        let rest = self.at_rest(overlaps.stopped_at.unwrap_or(last));
        let decision = Decision { runs: overlaps.runs, cancel: overlaps.cancel, passed, ..rest };
        match reached {
            Some(limit) => Decision {
                status: ScheduleStatus::Finished,
                reason: Some(format!("its run limit of {limit} is reached")),
                next_run_at: None,
                ..decision
            },
            None => decision,
        }
    }

    fn watch(&self) -> Watch<'_> {
        Watch { trigger: self.trigger, name: &self.record.name, now: self.now, fired: self.fired }
    }

    /// The live tasks that the clock asked for. Backfills and runs by hand are not among them, because a person asked
    /// for them. So no later time cancels them, and no time is skipped because of them.
    fn by_clock(&self) -> Vec<&Instance> {
        self.live.iter().filter(|task| task.cause == FiringCause::Schedule).collect()
    }

    /// The moment from which times count, or `None` while the schedule does not fire.
    fn cursor(&self) -> Option<Timestamp> {
        let record = self.record;
        match (record.status, record.paused_until) {
            (ScheduleStatus::Active, _) => Some(record.cursor),
            // Skip times inside the pause. The end of the pause is exclusive: a time equal to `until` still fires.
            (ScheduleStatus::Paused, Some(until)) if until <= self.now => {
                Some(record.cursor.max(Timestamp::from_micros(until.as_micros().saturating_sub(1))))
            }
            _ => None,
        }
    }

    /// Returns the times that were due when a pause began and that no round had processed. The pause must have ended
    /// by now. If a paused schedule is changed, its pause counts from the time of the change.
    fn overtaken_by_the_pause(&self) -> Vec<SkippedTime> {
        let record = self.record;
        let Some(until) = record.paused_until.filter(|_| record.status == ScheduleStatus::Paused) else {
            return Vec::new();
        };
        let Backlog { times, unseen, .. } =
            Watch { now: record.updated_at.min(until), ..self.watch() }.times(record.cursor);
        let say = |nominal_at, times| SkippedTime {
            nominal_at,
            status: FiringStatus::Skipped,
            times,
            reason: "the schedule was paused before its turn came".to_owned(),
        };
        let unseen = unseen.map(|(last, times)| say(last, times));
        let told = times.into_iter().filter(|time| *time < until).map(|time| say(time, 1));
        told.chain(unseen).collect()
    }

    /// Collects the times that have come, and separates the times that are too late for the misfire grace. Times that
    /// have already made their task are not part of the result and take no room in it.
    fn due(&self, cursor: Timestamp) -> Due {
        let watch = self.watch();
        let Some(grace) = self.record.policy.misfire_grace else {
            let backlog = watch.times(cursor);
            return Due { last: backlog.last, missed: Vec::new(), backlog };
        };
        // Times due at or before this moment are later than the grace. 1 µs is subtracted because time is counted in
        // microseconds.
        let horizon = self.now - grace - Duration::from_micros(1);
        let old = Watch { now: horizon, ..watch }.times(cursor);
        let say = |nominal_at, times| SkippedTime {
            nominal_at,
            status: FiringStatus::Missed,
            times,
            reason: format!("later than the misfire grace of {grace:?}"),
        };
        let mut missed: Vec<SkippedTime> = old.times.into_iter().map(|time| say(time, 1)).collect();
        missed.extend(old.unseen.map(|(last, times)| say(last, times)));
        let backlog = watch.times(old.last.unwrap_or(cursor));
        Due { last: backlog.last.or(old.last), missed, backlog }
    }

    /// Chooses the times to run from a backlog, and records the rest in `passed`.
    fn coalesce(&self, backlog: Backlog, passed: &mut Vec<SkippedTime>) -> Vec<Timestamp> {
        let watch = self.watch();
        let Backlog { times, unseen, .. } = backlog;
        let keep = match self.record.policy.coalesce {
            Coalesce::Latest => times.len().saturating_sub(1)..times.len(),
            Coalesce::Earliest => 0..times.len().min(1),
            Coalesce::All(most) => times.len().saturating_sub(most as usize)..times.len(),
            Coalesce::None => {
                times.iter().position(|time| watch.lateness(*time) <= ON_TIME).unwrap_or(times.len())..times.len()
            }
        };
        let say = |nominal_at, times| SkippedTime {
            nominal_at,
            status: FiringStatus::Coalesced,
            times,
            reason: format!("one of several due times; its policy is to run {}", self.record.policy.coalesce),
        };
        let left = times.iter().enumerate().filter(|(place, _)| !keep.contains(place));
        passed.extend(left.map(|(_, time)| say(*time, 1)));
        passed.extend(unseen.map(|(last, times)| say(last, times)));
        times[keep].to_vec()
    }

    /// A decision without runs: the schedule waits for the next time after `cursor`, or no time is left.
    fn at_rest(&self, cursor: Timestamp) -> Decision {
        let decision = Decision {
            status: ScheduleStatus::Active,
            reason: None,
            cursor,
            next_run_at: self.trigger.next_after(cursor).map(|next| self.watch().due(next)),
            runs: Vec::new(),
            passed: Vec::new(),
            cancel: Vec::new(),
        };
        if decision.next_run_at.is_some() {
            return decision;
        }
        let reason = Some("its trigger has no time left".to_owned());
        Decision { status: ScheduleStatus::Finished, reason, ..decision }
    }

    fn stopped(&self, status: ScheduleStatus) -> Decision {
        Decision { status, next_run_at: None, ..self.at_rest(self.record.cursor) }
    }
}

/// Pauses a schedule whose row cannot be used. It does not fire until an operator has repaired the row and resumed
/// it.
pub(crate) fn parked(record: &ScheduleRecord, why: &str) -> Decision {
    Decision {
        status: ScheduleStatus::Paused,
        reason: Some(format!("{why}; update it, then resume it")),
        cursor: record.cursor,
        next_run_at: None,
        runs: Vec::new(),
        passed: Vec::new(),
        cancel: Vec::new(),
    }
}

/// Cuts `passed` to the number of firings that the history keeps. The dropped earliest entries are counted in the
/// first kept entry.
fn shorten(passed: &mut Vec<SkippedTime>, keep: u32) {
    passed.sort_unstable_by_key(|passed| passed.nominal_at);
    let excess = passed.len().saturating_sub(keep as usize);
    if excess == 0 {
        return;
    }
    let told: u64 = passed.drain(..excess).map(|passed| passed.times).sum();
    if let Some(first) = passed.first_mut() {
        first.times += told;
    }
}
