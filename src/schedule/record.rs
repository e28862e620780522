//! A schedule as storage keeps it, and the results of its firings.

use std::time::Duration;

use serde::Serialize;

use super::policy::Policy;
use super::template::TaskTemplate;
use super::trigger::{Trigger, TriggerError, TriggerText};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{NodeId, ScheduleId, TaskId, TaskState, spelled};

spelled! {
    /// The status of a schedule.
    ScheduleStatus ("schedule status") {
        /// The schedule fires.
        Active = "active",
        /// The schedule does not fire until it is resumed. It was paused by hand, it failed too often, or its row is
        /// invalid.
        Paused = "paused",
        /// No time is left, or the run limit is reached.
        Finished = "finished",
        /// The schedule was deleted. Its history is kept for a while.
        Deleted = "deleted",
    }
}

spelled! {
    /// The result of a nominal time.
    FiringStatus ("firing status") {
        /// A task was made.
        Fired = "fired",
        /// It was later than the misfire grace allows.
        Missed = "missed",
        /// The overlap policy skipped it.
        Skipped = "skipped",
        /// A different time of the same backlog ran in its place.
        Coalesced = "coalesced",
    }
}

spelled! {
    /// The cause of a firing.
    FiringCause ("firing cause") {
        /// Its time had come.
        Schedule = "schedule",
        /// A backfill.
        Backfill = "backfill",
        /// A request by hand for a run at once.
        Manual = "manual",
    }
}

/// A schedule with everything that storage knows of it: a row of `scheduler_task`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScheduleRecord {
    /// Its id.
    pub schedule_id: ScheduleId,
    /// Its name, which is unique among schedules.
    pub name: Name,
    /// The task that it makes.
    #[serde(flatten)]
    pub task: TaskTemplate,
    /// When it fires, as text. A row that was edited by hand may hold a text that is no trigger.
    pub trigger: TriggerText,
    /// The rules for missed times, overlapping runs and failed runs.
    pub policy: Policy,
    /// The purpose, in the words of the author of the schedule.
    pub description: Option<String>,
    /// Its status.
    pub status: ScheduleStatus,
    /// The reason for the status, when no request caused it.
    pub status_reason: Option<String>,
    /// When a pause ends by itself.
    pub paused_until: Option<Timestamp>,
    /// The definition as code last gave it, including the name in code. `None` for a schedule made at run time.
    pub code: Option<String>,
    /// All nominal times up to here have been processed.
    pub cursor: Timestamp,
    /// When it last made a task.
    pub last_run_at: Option<Timestamp>,
    /// When it fires next, or `None` when it does not fire.
    pub next_run_at: Option<Timestamp>,
    /// Number of tasks made by the clock. Tasks of backfills and of `trigger` do not count.
    pub run_count: u64,
    /// Failures count from here.
    pub failures_from: Timestamp,
    /// Nominal times up to here are forgotten: it is unknown whether they made a task. None of them makes a task now,
    /// because it may already have made its task.
    pub forgotten_to: Option<Timestamp>,
    /// Changes with each write to the row. A writer names the value that it has read, as in a compare-and-set.
    pub turn: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by a request. Firings do not count.
    pub updated_at: Timestamp,
}

impl ScheduleRecord {
    /// Reads its trigger.
    ///
    /// # Errors
    /// When the row was edited to a text that is no trigger.
    pub fn read_trigger(&self) -> Result<Trigger, TriggerError> {
        Trigger::from_text(&self.trigger)
    }

    /// The name that code gives it, even if it was renamed since. `None` for a schedule made at run time.
    pub fn code_name(&self) -> Option<String> {
        let code: serde_json::Value = serde_json::from_str(self.code.as_ref()?).ok()?;
        code["name"].as_str().map(str::to_owned)
    }

    /// The next `n` nominal times after `now` that also lie after its cursor and that its run limit allows. A schedule
    /// that is paused without an end is treated as if it were resumed now. The list is empty when the schedule is
    /// finished or deleted, or when its trigger cannot be read.
    pub fn preview(&self, now: Timestamp, n: usize) -> Vec<Timestamp> {
        let Ok(trigger) = self.read_trigger() else { return Vec::new() };
        let from = match (self.status, self.paused_until) {
            (ScheduleStatus::Finished | ScheduleStatus::Deleted, _) => return Vec::new(),
            // The end of a pause is exclusive: a time equal to `until` is not in the pause.
            (ScheduleStatus::Paused, Some(until)) => {
                now.max(Timestamp::from_micros(until.as_micros().saturating_sub(1)))
            }
            (ScheduleStatus::Paused, None) | (ScheduleStatus::Active, _) => now,
        };
        let left = self.policy.run_limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.run_count));
        trigger.preview(self.cursor.max(from), n.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    /// The reason why it never fires again, when the run limit is reached.
    pub(crate) fn limit_reached(&self) -> Option<String> {
        let limit = self.policy.run_limit.filter(|limit| self.run_count >= *limit)?;
        Some(format!("its run limit of {limit} is reached"))
    }
}

/// The result of a nominal time: a row of `schedule_firing`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Firing {
    /// The nominal time.
    pub nominal_at: Timestamp,
    /// The result.
    pub status: FiringStatus,
    /// The cause of the firing.
    pub cause: FiringCause,
    /// How many nominal times this row stands for, at least. A long outage is recorded as a single row at its last
    /// time.
    pub times: u64,
    /// Why no task was made.
    pub reason: Option<String>,
    /// The task that was made.
    pub task_id: Option<TaskId>,
    /// The node that decided.
    pub node: NodeId,
    /// When it decided.
    pub at: Timestamp,
    /// The state of the task, even after it was pruned. `None` when there is no task, or when it was deleted before
    /// its end.
    pub state: Option<TaskState>,
    /// When the task ended.
    pub finished_at: Option<Timestamp>,
    /// Why the task failed.
    pub error: Option<String>,
}

impl Firing {
    /// How late the decision was. Zero when it was early, for example because a clock was ahead.
    pub fn lateness(&self) -> Duration {
        self.at.since(self.nominal_at)
    }
}
