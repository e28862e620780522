//! A schedule as storage knows it, and what became of its firings.

use std::time::Duration;

use serde::Serialize;

use super::policy::Policy;
use super::template::TaskTemplate;
use super::trigger::{Trigger, TriggerError, TriggerText};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{NodeId, ScheduleId, TaskId, TaskState, spelled};

spelled! {
    /// Where a schedule stands.
    ScheduleStatus ("schedule status") {
        /// It fires.
        Active = "active",
        /// It does not, until it is resumed: somebody paused it, it failed too often, or its row makes no sense.
        Paused = "paused",
        /// It has no time left, or has reached its run limit.
        Finished = "finished",
        /// It was deleted; its history is kept for a while.
        Deleted = "deleted",
    }
}

spelled! {
    /// What became of a nominal time.
    FiringStatus ("firing status") {
        /// A task was made.
        Fired = "fired",
        /// It was later than the misfire grace allows.
        Missed = "missed",
        /// The overlap policy passed it by.
        Skipped = "skipped",
        /// Another time of the same backlog ran in its place.
        Coalesced = "coalesced",
    }
}

spelled! {
    /// Who asked for a firing.
    FiringCause ("firing cause") {
        /// Its time had come.
        Schedule = "schedule",
        /// A backfill.
        Backfill = "backfill",
        /// Somebody who wanted a run at once.
        Manual = "manual",
    }
}

/// A schedule with all that is known of it: a row of `scheduler_task`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScheduleRecord {
    /// Its id.
    pub schedule_id: ScheduleId,
    /// Its name: no two schedules have the same.
    pub name: Name,
    /// What it makes.
    #[serde(flatten)]
    pub task: TaskTemplate,
    /// When it fires, as text: a row that somebody edited may hold what is no trigger.
    pub trigger: TriggerText,
    /// What happens when times were missed, runs overlap or fail.
    pub policy: Policy,
    /// What it is for, in the words of whoever made it.
    pub description: Option<String>,
    /// Where it stands.
    pub status: ScheduleStatus,
    /// Why it stands there, when that was not asked for.
    pub status_reason: Option<String>,
    /// When a pause ends by itself.
    pub paused_until: Option<Timestamp>,
    /// The definition as code last gave it, with the name that code gives it; nothing for a schedule made at run time.
    pub code: Option<String>,
    /// All nominal times up to here have been dealt with.
    pub cursor: Timestamp,
    /// When it last made a task.
    pub last_run_at: Option<Timestamp>,
    /// When it fires next; nothing when it does not.
    pub next_run_at: Option<Timestamp>,
    /// Tasks that it made by the clock; those of backfills and of `trigger` do not count.
    pub run_count: u64,
    /// Failures count from here.
    pub failures_from: Timestamp,
    /// Nothing is known any more of nominal times up to here: none of them makes a task, for it may have made one.
    pub forgotten_to: Option<Timestamp>,
    /// Changes with each write to the row; who writes says which one they have seen.
    pub turn: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by somebody, firings apart.
    pub updated_at: Timestamp,
}

impl ScheduleRecord {
    /// Its trigger, read.
    ///
    /// # Errors
    /// When the row was edited into what is no trigger.
    pub fn read_trigger(&self) -> Result<Trigger, TriggerError> {
        Trigger::from_text(&self.trigger)
    }

    /// The name under which code defines it, whatever it is called now; nothing for a schedule made at run time.
    pub fn code_name(&self) -> Option<String> {
        let code: serde_json::Value = serde_json::from_str(self.code.as_ref()?).ok()?;
        code["name"].as_str().map(str::to_owned)
    }

    /// The next `n` nominal times after `now` that its cursor leaves and its run limit allows, as if it were resumed now when
    /// it is paused without an end; none when it is finished or deleted, or its trigger cannot be read.
    pub fn preview(&self, now: Timestamp, n: usize) -> Vec<Timestamp> {
        let Ok(trigger) = self.read_trigger() else { return Vec::new() };
        let from = match (self.status, self.paused_until) {
            (ScheduleStatus::Finished | ScheduleStatus::Deleted, _) => return Vec::new(),
            // A time at the very end of a pause is not in it.
            (ScheduleStatus::Paused, Some(until)) => {
                now.max(Timestamp::from_micros(until.as_micros().saturating_sub(1)))
            }
            (ScheduleStatus::Paused, None) | (ScheduleStatus::Active, _) => now,
        };
        let left = self.policy.run_limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.run_count));
        trigger.preview(self.cursor.max(from), n.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    /// Why it never fires again, when its run limit says so.
    pub(crate) fn limit_reached(&self) -> Option<String> {
        let limit = self.policy.run_limit.filter(|limit| self.run_count >= *limit)?;
        Some(format!("its run limit of {limit} is reached"))
    }
}

/// What became of one nominal time: a row of `schedule_firing`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Firing {
    /// The nominal time.
    pub nominal_at: Timestamp,
    /// What became of it.
    pub status: FiringStatus,
    /// Who asked for it.
    pub cause: FiringCause,
    /// How many nominal times this stands for, at least: a long outage is told of in one row, at the last of them.
    pub times: u64,
    /// Why it made no task.
    pub reason: Option<String>,
    /// The task that it made.
    pub task_id: Option<TaskId>,
    /// The node that decided.
    pub node: NodeId,
    /// When it decided.
    pub at: Timestamp,
    /// The task's state, that of a pruned one too; nothing when there is none, or when it was deleted before its end.
    pub state: Option<TaskState>,
    /// When the task ended.
    pub finished_at: Option<Timestamp>,
    /// Why the task failed.
    pub error: Option<String>,
}

impl Firing {
    /// How late the decision was; zero when it was early, as by a clock ahead.
    pub fn lateness(&self) -> Duration {
        self.at.since(self.nominal_at)
    }
}
