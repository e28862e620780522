//! The task that a schedule makes. Its params may contain places, which each firing fills.

use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use serde::Serialize;
use serde_json::Value;

#[cfg(doc)]
use super::trigger::Trigger;
use crate::clock::{Clock, Timestamp};
use crate::json;
use crate::name::Name;
use crate::task::{Bounds, Extras, FiringKey, InvalidTask, NewTask, Retry, ScheduleId, TaskId, TaskSpec, When};

/// The task that a schedule makes: its type, its params, its options.
///
/// Strings in the params may contain places, and each firing fills them. Field names are not filled. Tags, `meta` and
/// `limit_key` are not filled either: a place in them is refused.
///
/// | place | value |
/// |---|---|
/// | `{{nominal_time}}` | the nominal time in UTC, `2026-03-06T14:00:00Z` |
/// | `{{local_time}}` | the same in the schedule's zone, `2026-03-06T09:00:00-05:00`; see [`Trigger::local_time`] |
/// | `{{local_date}}` | the date of the local time, `2026-03-06` |
/// | `{{schedule}}` | the name of the schedule |
/// | `{{schedule_id}}` | the id of the schedule |
/// | `{{{{` | two literal braces that begin no place: `{{{{schedule}}` becomes `{{schedule}}` |
///
/// The local time and date are the values that the trigger names. For example, a run at 23:30 starts at midnight when
/// the clocks are set ahead over that half hour. Its places then hold 23:30 and the day before. An interval has no
/// zone, and parts in several zones have no common zone. Such a schedule fills in UTC.
/// parts in several zones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskTemplate {
    /// The name that picks the handler.
    #[serde(rename = "type")]
    pub kind: Name,
    /// JSON text with places to fill.
    pub params: Box<str>,
    /// The lane in which the tasks wait.
    pub queue: Name,
    /// Tasks with a smaller number run first.
    pub priority: i32,
    /// Number of attempts before a task is dead.
    pub max_attempts: u32,
    /// Time limit of a single attempt.
    pub timeout: Option<Duration>,
    /// The wait between attempts.
    pub retry: Retry,
    /// Words by which the tasks can be found.
    pub tags: Vec<String>,
    /// JSON kept with each task.
    pub meta: Option<Value>,
    /// A task that has not started within this time is cancelled.
    pub expires_in: Option<Duration>,
    /// The key of the limits that apply to the tasks, beside the limits of their queue and type.
    pub limit_key: Option<String>,
}

/// The places that params may contain.
const PLACES: [&str; 5] = ["nominal_time", "local_time", "local_date", "schedule", "schedule_id"];

/// The values for the places of a firing.
pub(crate) struct Places<'a> {
    pub(crate) schedule_id: ScheduleId,
    pub(crate) name: &'a str,
    pub(crate) nominal_at: Timestamp,
    /// The nominal time on the clock of the schedule, as its trigger names it.
    pub(crate) local: DateTime<FixedOffset>,
}

impl Places<'_> {
    fn value(&self, place: &str) -> Option<String> {
        use chrono::SecondsFormat::AutoSi;
        Some(match place {
            "nominal_time" => self.nominal_at.to_datetime().to_rfc3339_opts(AutoSi, true),
            "local_time" => self.local.to_rfc3339_opts(AutoSi, false),
            "local_date" => self.local.format("%Y-%m-%d").to_string(),
            "schedule" => self.name.to_owned(),
            "schedule_id" => self.schedule_id.to_string(),
            _ => return None,
        })
    }
}

impl TaskTemplate {
    /// Says why the template cannot be filled: the params are no JSON, or they name an unknown place. Otherwise
    /// `None`.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Err(error) = serde_json::from_str::<Value>(&self.params) {
            return Some(format!("params are no JSON: {error}"));
        }
        let mut unknown = None;
        json::filled(&self.params, |text| {
            fill(text, |place| {
                if !PLACES.contains(&place) {
                    unknown.get_or_insert_with(|| place.to_owned());
                }
                None
            })
        });
        unknown.map(|place| {
            format!(
                "params name the place {{{{{place}}}}}, which there is not; there are {}; for two plain braces write {{{{{{{{",
                PLACES.join(", ")
            )
        })
    }

    /// Reports a place in an option, because only params may contain places. A stored row with such a place keeps
    /// working as before.
    pub(crate) fn misplaced(&self) -> Option<String> {
        let mut found = None;
        let mut note = |what: &str, text: &str| {
            fill(text, |place| {
                if PLACES.contains(&place) {
                    found.get_or_insert_with(|| {
                        format!("{what} has the place {{{{{place}}}}}, which only params may have")
                    });
                }
                None
            })
        };
        self.tags.iter().for_each(|tag| drop(note("a tag", tag)));
        self.limit_key.iter().for_each(|key| drop(note("limit_key", key)));
        if let Some(meta) = &self.meta {
            json::filled(&meta.to_string(), |text| note("meta", text));
        }
        found
    }

    /// Makes the task of a firing at `now`.
    pub(crate) fn task(&self, places: &Places<'_>, now: Timestamp) -> TaskSpec {
        TaskSpec {
            task_id: TaskId::new(now),
            kind: self.kind.clone(),
            queue: self.queue.clone(),
            params: self.filled(places),
            priority: self.priority,
            run_at: now,
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            retry: self.retry,
            created_at: now,
            extras: Some(Box::new(Extras {
                unique: None,
                tags: self.tags.clone(),
                meta: self.meta.clone(),
                expires_at: self.expires_in.map(|span| now + span),
                firing: Some(FiringKey { schedule_id: places.schedule_id, nominal_at: places.nominal_at }),
                limit_key: self.limit_key.clone(),
            })),
        }
    }

    fn filled(&self, places: &Places<'_>) -> Box<str> {
        if !self.params.contains("{{") {
            return self.params.clone();
        }
        // Params that are no JSON were found earlier: a row with such params is parked.
        let filled = json::filled(&self.params, |text| fill(text, |place| places.value(place)));
        filled.map_or_else(|| self.params.clone(), String::into_boxed_str)
    }
}

/// Fills the places of a text. Returns `None` when no place was filled.
fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let (mut filled, mut rest, mut any) = (String::new(), text, false);
    while let Some((before, after)) = rest.split_once("{{") {
        // Doubled braces stand for themselves.
        if let Some(behind) = after.strip_prefix("{{") {
            filled.push_str(before);
            filled.push_str("{{");
            (rest, any) = (behind, true);
            continue;
        }
        let Some((place, behind)) = after.split_once("}}") else { break };
        filled.push_str(before);
        match value(place.trim()) {
            Some(value) => {
                filled.push_str(&value);
                any = true;
            }
            None => filled.push_str(&rest[before.len()..rest.len() - behind.len()]),
        }
        rest = behind;
    }
    filled.push_str(rest);
    any.then_some(filled)
}

impl NewTask {
    /// Turns the task into the options of a schedule. It refuses options that the schedule itself decides: when a
    /// task runs, and which task it is.
    pub(crate) fn into_template(self, clock: &Clock, bounds: Bounds) -> Result<TaskTemplate, InvalidTask> {
        let refuse = |what: &str, instead: &str| {
            Err(InvalidTask(format!("the task of a schedule must not have {what}: {instead}")))
        };
        if self.task_id.is_some() {
            return refuse("a task_id", "each firing makes a task with a new one; leave it away");
        }
        if self.when != When::Now {
            return refuse("a run_at or a delay", "its trigger says when it runs; leave them away");
        }
        if self.extras.as_ref().is_some_and(|extras| extras.unique.is_some()) {
            return refuse(
                "a unique key",
                "each nominal time makes one task anyway, and the overlap policy says what happens while one goes on; leave it away",
            );
        }
        let expires_in = match self.expires {
            Some(When::After(span)) => Some(span),
            Some(When::At(_)) => {
                return refuse("an expires_at", "all firings would have the same; give it expires_in");
            }
            Some(When::Now) | None => None,
        };
        let spec = self.into_spec(clock, bounds)?;
        let extras = spec.extras.unwrap_or_default();
        Ok(TaskTemplate {
            kind: spec.kind,
            params: spec.params,
            queue: spec.queue,
            priority: spec.priority,
            max_attempts: spec.max_attempts,
            timeout: spec.timeout,
            retry: spec.retry,
            tags: extras.tags,
            meta: extras.meta,
            expires_in,
            limit_key: extras.limit_key,
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::trigger::{Trigger, Zone};
    use super::*;

    fn template(params: &str) -> TaskTemplate {
        TaskTemplate {
            kind: "report".into(),
            params: params.into(),
            queue: "default".into(),
            priority: 0,
            max_attempts: 1,
            timeout: None,
            retry: Retry::default(),
            tags: Vec::new(),
            meta: None,
            expires_in: None,
            limit_key: None,
        }
    }

    /// Fills `params` for a nominal time of a trigger, in seconds since 1970.
    fn filled_for(params: &str, trigger: &Trigger, nominal: i64) -> String {
        let nominal_at = Timestamp::from_micros(nominal * 1_000_000);
        let local = trigger.local_time(nominal_at);
        let places = Places { schedule_id: Uuid::nil().into(), name: "night", nominal_at, local };
        template(params).filled(&places).into()
    }

    fn filled(params: &str) -> String {
        let trigger = Trigger::cron("0 9 * * *", "America/New_York".parse::<Zone>().unwrap()).unwrap();
        filled_for(params, &trigger, 1_772_805_600)
    }

    #[test]
    fn places_are_filled_wherever_a_text_stands() {
        assert_eq!(
            filled(
                r#"{"at":"{{nominal_time}}","in":["{{ local_time }}, {{local_date}}",{"by":"{{schedule}}!"}],"n":1}"#
            ),
            r#"{"at":"2026-03-06T14:00:00Z","in":["2026-03-06T09:00:00-05:00, 2026-03-06",{"by":"night!"}],"n":1}"#
        );
    }

    #[test]
    fn local_places_are_those_that_the_trigger_names() {
        let (all, nuuk) = ("[\"{{local_date}}\",\"{{local_time}}\",\"{{nominal_time}}\"]", "America/Nuuk");
        let trigger = Trigger::cron("30 23 * * *", nuuk.parse::<Zone>().unwrap()).unwrap();
        let runs = trigger.preview(Timestamp::from_micros(1_774_612_800_000_000), 3);
        let days: Vec<_> = runs.iter().map(|run| filled_for(all, &trigger, run.as_micros() / 1_000_000)).collect();
        assert_eq!(
            days,
            [
                r#"["2026-03-27","2026-03-27T23:30:00-02:00","2026-03-28T01:30:00Z"]"#,
                r#"["2026-03-28","2026-03-28T23:30:00-02:00","2026-03-29T01:00:00Z"]"#,
                r#"["2026-03-29","2026-03-29T23:30:00-01:00","2026-03-30T00:30:00Z"]"#,
            ]
        );
    }

    #[test]
    fn what_is_no_place_stays() {
        for params in [r#"{"a":"{{"}"#, r#"{"a":"}} {{ x"}"#, r#"["{{}}"]"#, r#"{"{{schedule}}":1}"#, "null"] {
            assert_eq!(filled(params), params);
        }
        assert_eq!(filled(r#"["{{schedule}} {{open"]"#), r#"["night {{open"]"#);
        // Numbers, order and spaces stay too.
        assert_eq!(
            filled(r#"{"z": 18446744073709551616, "a":["{{schedule}}", 1.10]}"#),
            r#"{"z": 18446744073709551616, "a":["night", 1.10]}"#
        );
    }

    #[test]
    fn doubled_braces_stand_for_themselves() {
        for (params, expected) in [
            (r#"["{{{{schedule}}"]"#, r#"["{{schedule}}"]"#),
            (r#"["{{{{now}} {{schedule}}"]"#, r#"["{{now}} night"]"#),
            (r#"["{{{{{{schedule}}}}"]"#, r#"["{{night}}"]"#),
            (r#"["{{{{"]"#, r#"["{{"]"#),
            (r#"["{{{{{{{{"]"#, r#"["{{{{"]"#),
        ] {
            assert_eq!(template(params).fault(), None, "{params}");
            assert_eq!(filled(params), expected, "{params}");
        }
    }

    #[test]
    fn a_place_outside_of_the_params_is_a_fault() {
        let plain = || template("null");
        let places = [
            TaskTemplate { tags: vec!["a".into(), "day {{ local_date }}".into()], ..plain() },
            TaskTemplate { limit_key: Some("{{schedule}}".into()), ..plain() },
            TaskTemplate { meta: Some(serde_json::json!({"a": ["{{nominal_time}}"]})), ..plain() },
        ];
        for (template, what) in places.iter().zip(["a tag has the place {{local_date}}", "limit_key has", "meta has"])
        {
            let fault = template.misplaced().unwrap();
            assert!(fault.contains(what) && fault.contains("only params"), "{fault}");
        }
        let other = TaskTemplate { tags: vec!["{{name}}".into(), "{{{{schedule}}".into(), "{{".into()], ..plain() };
        assert_eq!(other.misplaced(), None);
    }

    #[test]
    fn an_unknown_place_and_broken_json_are_faults() {
        assert_eq!(template(r#"{"a":"{{nominal_time}}"}"#).fault(), None);
        let unknown = template(r#"{"a":["{{now}}"]}"#).fault().unwrap();
        assert!(unknown.contains("{{now}}") && unknown.ends_with("for two plain braces write {{{{"), "{unknown}");
        assert!(template("{").fault().unwrap().contains("no JSON"));
    }
}
