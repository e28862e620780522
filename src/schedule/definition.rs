//! Schedules as code defines them.

use std::time::Duration;

use serde_json::{Value, json};

use super::policy::{Coalesce, Overlap, Policy};
use super::record::{ScheduleRecord, ScheduleStatus};
use super::template::TaskTemplate;
use super::trigger::{Trigger, TriggerText, Zone};
use crate::clock::{Clock, Timestamp};
use crate::json;
use crate::name::{Name, name_fault};
use crate::task::{Bounds, IntoNewTask, InvalidTask, NewTask, ScheduleId, text_fault};

/// A schedule: a name, a trigger, the task that each firing makes, and the rules.
///
/// ```
/// use callboard::{NewTask, Schedule, Trigger, Zone};
/// use serde_json::json;
/// use std::time::Duration;
/// let report = NewTask::new("report", &json!({"day": "{{local_date}}"})).retry_count(3, 60);
/// let schedule = Schedule::new("nightly report", Trigger::cron("0 2 * * *", Zone::UTC)?, report)
///     .misfire_grace(Duration::from_secs(300))
///     .pause_after(5)
///     .description("what yesterday was like");
/// # drop(schedule);
/// # Ok::<(), callboard::TriggerError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a schedule does nothing before a board has it"]
pub struct Schedule {
    pub(crate) name: Name,
    trigger: Trigger,
    task: Result<NewTask, String>,
    policy: Policy,
    description: Option<String>,
    paused: bool,
}

/// A schedule after its checks.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) name: Name,
    pub(crate) trigger: Trigger,
    /// The trigger as code gives it, possibly without a zone. So a different default zone does not count as a change
    /// of the code.
    given: TriggerText,
    pub(crate) task: TaskTemplate,
    pub(crate) policy: Policy,
    pub(crate) description: Option<String>,
    pub(crate) paused: bool,
}

impl Schedule {
    /// Makes a schedule with the default rules; see [`Policy`]. Strings in the params of `task` may contain places
    /// such as `{{nominal_time}}`; see [`TaskTemplate`].
    pub fn new(name: impl Into<Name>, trigger: Trigger, task: impl IntoNewTask) -> Self {
        Self {
            name: name.into(),
            trigger,
            task: task.into_new_task().map_err(|error| error.to_string()),
            policy: Policy::default(),
            description: None,
            paused: false,
        }
    }

    /// Records a time that is later than `grace` as missed, and does not run it.
    pub fn misfire_grace(mut self, grace: Duration) -> Self {
        self.policy.misfire_grace = Some(grace);
        self
    }

    /// Sets which of several due times run. Default: the latest.
    pub fn coalesce(mut self, coalesce: Coalesce) -> Self {
        self.policy.coalesce = coalesce;
        self
    }

    /// Sets the rule for a firing while earlier runs go on. Default: the firing is skipped.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.policy.overlap = overlap;
        self
    }

    /// Sets how many runs may go on side by side before the overlap policy decides. Default: 1.
    pub fn max_instances(mut self, instances: u32) -> Self {
        self.policy.max_instances = instances;
        self
    }

    /// Pauses the schedule when `failures` runs in a row are dead.
    pub fn pause_after(mut self, failures: u32) -> Self {
        self.policy.pause_after = Some(failures);
        self
    }

    /// Finishes the schedule after it has made `runs` tasks.
    pub fn run_limit(mut self, runs: u64) -> Self {
        self.policy.run_limit = Some(runs);
        self
    }

    /// Sets how many firings the history keeps. Default: 100.
    pub fn keep_firings(mut self, firings: u32) -> Self {
        self.policy.keep_firings = firings;
        self
    }

    /// Sets all rules at once.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets a description of the purpose.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Makes the schedule paused: it does not fire until it is resumed.
    pub fn paused(mut self) -> Self {
        self.paused = true;
        self
    }

    /// The type and the queue of the tasks. `None` when the task is refused anyway.
    pub(crate) fn target(&self) -> Option<(&Name, &Name)> {
        self.task.as_ref().ok().map(NewTask::target)
    }

    /// Checks every part of the schedule.
    pub(crate) fn check(self, clock: &Clock, bounds: Bounds, zone: Zone) -> Result<Definition, String> {
        let name = self.name;
        let of = |fault: String| format!("schedule {:?}: {fault}", name.chars().take(40).collect::<String>());
        if let Some(fault) = name_fault("the name", &name) {
            return Err(of(fault));
        }
        let template = |task: NewTask| task.into_template(clock, bounds).map_err(|InvalidTask(fault)| fault);
        let task = self.task.and_then(template).map_err(of)?;
        let description = self.description.as_deref().and_then(|text| text_fault("the description", text));
        match task.fault().or_else(|| task.misplaced()).or_else(|| self.policy.fault()).or(description) {
            Some(fault) => Err(of(fault)),
            None => Ok(Definition {
                given: self.trigger.to_text(),
                trigger: self.trigger.in_zone(zone),
                task,
                policy: self.policy,
                description: self.description,
                paused: self.paused,
                name,
            }),
        }
    }
}

/// Removes empty fields: nulls, empty lists and empty objects.
fn lean(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        });
    }
    value
}

impl Definition {
    /// The definition as code gives it. Comparing it with the stored text shows whether the code changed. Pausing is
    /// not part of it, because it is decided at run time.
    ///
    /// Unset fields and rules with default values are left out. So a later version of this program, which knows more
    /// rules, still finds the code unchanged.
    pub(crate) fn code(&self) -> Value {
        let Self { name, given, trigger: _, task, policy, description, paused: _ } = self;
        let mut task = lean(json!(task));
        // Raw texts would differ when a map is written in a different order. Parsed values would differ when a number
        // is larger than they can hold.
        task["params"] = json::canonical(&self.task.params).into();
        let (mut rules, usual) = (json!(policy), json!(Policy::default()));
        if let Value::Object(rules) = &mut rules {
            rules.retain(|rule, value| usual.get(rule) != Some(value));
        }
        lean(json!({
            "name": name, "trigger": given, "task": task, "policy": rules, "description": description,
        }))
    }

    /// True when the code gave the same definition before.
    pub(crate) fn is_code(&self, before: Option<&str>) -> bool {
        before.is_some_and(|before| serde_json::from_str::<Value>(before).is_ok_and(|before| before == self.code()))
    }

    /// The row of a schedule that is made at `now`.
    pub(crate) fn record(self, now: Timestamp) -> ScheduleRecord {
        let next = self.trigger.next_after(now).map(|next| self.trigger.runs_at(&self.name, next));
        let (status, reason) = match (self.paused, next) {
            (true, _) => (ScheduleStatus::Paused, None),
            (false, Some(_)) => (ScheduleStatus::Active, None),
            (false, None) => (ScheduleStatus::Finished, Some("its trigger has no time left".to_owned())),
        };
        ScheduleRecord {
            schedule_id: ScheduleId::new(now),
            name: self.name,
            task: self.task,
            trigger: self.trigger.to_text(),
            policy: self.policy,
            description: self.description,
            next_run_at: next.filter(|_| status == ScheduleStatus::Active),
            status,
            status_reason: reason,
            paused_until: None,
            code: None,
            cursor: now,
            last_run_at: None,
            run_count: 0,
            failures_from: now,
            forgotten_to: None,
            turn: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// Writes the definition over `record`, which keeps its id, its history and its cursor. If the trigger differs,
    /// or if the schedule was finished, times count from `now`.
    pub(crate) fn apply_to(self, record: &mut ScheduleRecord, now: Timestamp) {
        let text = self.trigger.to_text();
        if record.trigger != text {
            record.cursor = record.cursor.max(now);
            record.trigger = text;
        }
        record.name = self.name;
        record.task = self.task;
        record.policy = self.policy;
        record.description = self.description;
        if record.status == ScheduleStatus::Finished {
            record.status = ScheduleStatus::Active;
            // Times that passed while the schedule was finished are not made up.
            record.cursor = record.cursor.max(now);
        }
        record.status_reason = record.status_reason.take().filter(|_| record.status == ScheduleStatus::Paused);
        record.plan_next(&self.trigger);
    }
}

impl ScheduleRecord {
    /// Computes the next firing again after a change.
    pub(crate) fn plan_next(&mut self, trigger: &Trigger) {
        let next = trigger.next_after(self.cursor).map(|next| trigger.runs_at(&self.name, next));
        self.next_run_at = match self.status {
            ScheduleStatus::Active => next,
            ScheduleStatus::Paused => self.paused_until,
            ScheduleStatus::Finished | ScheduleStatus::Deleted => None,
        };
        let over = self.limit_reached().or(next.is_none().then(|| "its trigger has no time left".to_owned()));
        if let (ScheduleStatus::Active, Some(reason)) = (self.status, over) {
            self.status = ScheduleStatus::Finished;
            self.status_reason = Some(reason);
            self.next_run_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn definition(params: &str) -> Definition {
        let task = NewTask::new("work", &serde_json::from_str::<Box<serde_json::value::RawValue>>(params).unwrap());
        let schedule = Schedule::new("s", Trigger::every(Duration::from_secs(1)).unwrap(), task).run_limit(3);
        schedule.check(&Clock::manual(Timestamp::default()), Bounds::all(1_000), Zone::UTC).unwrap()
    }

    #[test]
    fn code_is_the_same_whatever_the_order_of_its_params() {
        let one = definition(r#"{"a":1,"b":[1,2]}"#);
        assert!(one.is_code(Some(&definition(r#"{"b": [1,2], "a": 1}"#).code().to_string())));
        let large = definition("[18446744073709551616]");
        assert!(large.is_code(Some(&definition("[ 18446744073709551616 ]").code().to_string())));
        assert!(!large.is_code(Some(&definition("[18446744073709551617]").code().to_string())));
        for other in [r#"{"a":1,"b":[2,1]}"#, r#"{"a":1}"#, "null", "{}"] {
            assert!(!one.is_code(Some(&definition(other).code().to_string())), "{other}");
        }
        assert!(!definition("null").is_code(Some(&definition("[]").code().to_string())));
        assert!(!one.is_code(None) && !one.is_code(Some("{")));
    }

    #[test]
    fn what_is_not_set_is_no_part_of_the_code() {
        let code = definition("{}").code();
        assert_eq!(code["policy"], json!({"run_limit": 3}));
        assert_eq!(code.get("description"), None);
        let set: Vec<&String> = code["task"].as_object().unwrap().keys().collect();
        assert_eq!(set, ["max_attempts", "params", "priority", "queue", "retry", "type"]);
    }
}
