//! Reads tasks from JSON. Each field is read by its name, so that an error names the field and the expected form.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::InvalidTask;
use super::spec::When;
use super::{NewTask, Retry, Unique, UniqueMode, UniqueScope};
use crate::clock::Timestamp;
use crate::name::Name;

const TASK: &[&str] = &[
    "task_id",
    "type",
    "params",
    "queue",
    "priority",
    "run_at",
    "delay_seconds",
    "max_attempts",
    "retry_count",
    "retry_delay_seconds",
    "retry",
    "timeout_seconds",
    "expires_at",
    "expires_in_seconds",
    "unique",
    "tags",
    "meta",
    "limit_key",
];
const RETRY: &[&str] =
    &["kind", "delay_us", "delay_seconds", "base_us", "base_seconds", "cap_us", "cap_seconds", "jitter"];
const UNIQUE: &[&str] = &["key", "scope", "mode", "period_us", "period_seconds"];

const TIME: &str = "RFC 3339 such as \"2026-03-01T09:00:00Z\"";
const SECONDS: &str = "a number of seconds";
const MICROS: &str = "a whole number of microseconds";
const COUNT: &str = "a whole number from 0 to 4294967295";

/// The fields of an object that have not been read yet.
struct Fields {
    /// The path of the object, with a dot at its end.
    at: &'static str,
    left: Map<String, Value>,
}

impl Fields {
    fn new(at: &'static str, value: Value, known: &[&str]) -> Result<Self, String> {
        let Value::Object(left) = value else {
            let what = if at.is_empty() { "a task" } else { at.trim_end_matches('.') };
            return Err(format!("{what}: expected an object with fields, got {}", shown(&value)));
        };
        match left.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!(
                "{at}{}: there is no such field; there are {}",
                name.chars().take(40).collect::<String>(),
                known.join(", ")
            )),
            None => Ok(Self { at, left }),
        }
    }

    /// Takes a field unchanged; `None` if it is missing or `null`.
    fn raw(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn read<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<Option<T>, String> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match T::deserialize(&value) {
            Ok(read) => Ok(Some(read)),
            Err(_) => Err(format!("{}{name}: expected {expected}, got {}", self.at, shown(&value))),
        }
    }

    fn needed<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<T, String> {
        self.read(name, expected)?.ok_or_else(|| format!("{}{name}: expected {expected}, it is missing", self.at))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        self.read(name, "a text")
    }

    fn seconds(&mut self, name: &str) -> Result<Option<Duration>, String> {
        let given = self.read(name, SECONDS)?;
        span(self.at, name, given)
    }

    /// Reads a field whose value must be in the list `words`.
    fn word<T: DeserializeOwned>(&mut self, name: &str, words: &[&str]) -> Result<Option<T>, String> {
        self.read(name, &format!("one of {}", words.join(", ")))
    }

    fn has(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(|value| !value.is_null())
    }

    /// Rejects a pair of fields that set the same thing.
    fn not_both(&self, pairs: &[(&str, &str)]) -> Result<(), String> {
        match pairs.iter().find(|(one, other)| self.has(one) && self.has(other)) {
            Some((one, other)) => {
                Err(format!("{at}{one} and {at}{other} contradict each other; give one of them", at = self.at))
            }
            None => Ok(()),
        }
    }
}

fn span(at: &str, name: &str, seconds: Option<f64>) -> Result<Option<Duration>, String> {
    let span = seconds.map(Duration::try_from_secs_f64).transpose();
    span.map_err(|error| format!("{at}{name}: expected {SECONDS}, got {}: {error}", seconds.unwrap_or_default()))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

pub(super) fn new_task(value: Value) -> Result<NewTask, InvalidTask> {
    task(value).map_err(InvalidTask)
}

fn task(value: Value) -> Result<NewTask, String> {
    let mut fields = Fields::new("", value, TASK)?;
    fields.not_both(&[
        ("run_at", "delay_seconds"),
        ("expires_at", "expires_in_seconds"),
        ("retry", "retry_delay_seconds"),
        ("max_attempts", "retry_count"),
    ])?;
    let kind: String = fields.needed("type", "a text")?;
    let mut new = NewTask::new(kind, &fields.raw("params").unwrap_or_default());
    new.task_id = fields.read("task_id", "a UUID")?;
    new.queue = fields.text("queue")?.map_or(new.queue, Name::from);
    new.priority = fields.read("priority", "a whole number from -2147483648 to 2147483647")?.unwrap_or(0);
    let at = fields.read::<Timestamp>("run_at", TIME)?.map(When::At);
    new.when = at.or(fields.seconds("delay_seconds")?.map(When::After)).unwrap_or(new.when);
    if let Some(count) = fields.read("retry_count", COUNT)? {
        new = new.retry_count(count, 1);
    }
    new.retry = fields.seconds("retry_delay_seconds")?.map_or(new.retry, Retry::fixed);
    new.max_attempts = fields.read("max_attempts", COUNT)?.unwrap_or(new.max_attempts);
    new.retry = fields.raw("retry").map(retry).transpose()?.unwrap_or(new.retry);
    new.timeout = fields.seconds("timeout_seconds")?;
    let expires_at = fields.read::<Timestamp>("expires_at", TIME)?.map(When::At);
    new.expires = expires_at.or(fields.seconds("expires_in_seconds")?.map(When::After));
    if let Some(given) = fields.raw("unique") {
        new = new.unique(unique(given)?);
    }
    for tag in fields.read::<Vec<String>>("tags", "a list of texts")?.unwrap_or_default() {
        new = new.tag(tag);
    }
    if let Some(meta) = fields.raw("meta") {
        new = new.meta(meta);
    }
    Ok(match fields.text("limit_key")? {
        Some(key) => new.limit_key(key),
        None => new,
    })
}

fn unique(value: Value) -> Result<Unique, String> {
    let mut fields = Fields::new("unique.", value, UNIQUE)?;
    fields.not_both(&[("period_us", "period_seconds")])?;
    let mut unique = Unique::key(fields.needed::<String>("key", "a text")?);
    let (scopes, modes) =
        (UniqueScope::ALL.iter().map(|one| one.as_str()), UniqueMode::ALL.iter().map(|one| one.as_str()));
    unique.scope = fields.word("scope", &scopes.collect::<Vec<_>>())?.unwrap_or(unique.scope);
    unique.mode = fields.word("mode", &modes.collect::<Vec<_>>())?.unwrap_or(unique.mode);
    let micros = fields.read("period_us", MICROS)?.map(Duration::from_micros);
    Ok(match micros.or(fields.seconds("period_seconds")?) {
        Some(period) => unique.period(period),
        None => unique,
    })
}

fn retry(value: Value) -> Result<Retry, String> {
    let mut fields = Fields::new("retry.", value, RETRY)?;
    RetryParts {
        kind: fields.needed("kind", "one of fixed, exponential")?,
        delay_us: fields.read("delay_us", MICROS)?,
        delay_seconds: fields.read("delay_seconds", SECONDS)?,
        base_us: fields.read("base_us", MICROS)?,
        base_seconds: fields.read("base_seconds", SECONDS)?,
        cap_us: fields.read("cap_us", MICROS)?,
        cap_seconds: fields.read("cap_seconds", SECONDS)?,
        jitter: fields.read("jitter", "a share from 0 to 1")?,
    }
    .try_into()
}

/// A retry policy in JSON: spans in seconds, or in microseconds in the form that [`Retry`] writes.
///
/// This is a plain structure on purpose. For an enum tagged by `kind`, serde reads through its own buffer. That buffer
/// does not support the numbers of `serde_json/arbitrary_precision`, and any crate of a program may enable that
/// feature.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryParts {
    kind: String,
    delay_us: Option<u64>,
    delay_seconds: Option<f64>,
    base_us: Option<u64>,
    base_seconds: Option<f64>,
    cap_us: Option<u64>,
    cap_seconds: Option<f64>,
    jitter: Option<f64>,
}

impl TryFrom<RetryParts> for Retry {
    type Error = String;

    fn try_from(parts: RetryParts) -> Result<Self, String> {
        let RetryParts { kind, delay_us, delay_seconds, base_us, base_seconds, cap_us, cap_seconds, jitter } = parts;
        let delay = one_span("delay", delay_us, delay_seconds)?;
        let base = one_span("base", base_us, base_seconds)?;
        let cap = one_span("cap", cap_us, cap_seconds)?;
        let only = |given: &[(bool, &str)]| match given.iter().find(|(given, _)| *given) {
            Some((_, name)) => Err(format!("retry.{name}_us or retry.{name}_seconds: no field of the kind {kind:?}")),
            None => Ok(()),
        };
        match kind.as_str() {
            "fixed" => {
                only(&[(base.is_some(), "base"), (cap.is_some(), "cap")])?;
                if jitter.is_some() {
                    return Err("retry.jitter: no field of the kind \"fixed\"".into());
                }
                let missing = || format!("retry.delay_seconds: expected {SECONDS}, it is missing");
                Ok(Retry::fixed(delay.ok_or_else(missing)?))
            }
            "exponential" => {
                only(&[(delay.is_some(), "delay")])?;
                let mut retry = Retry::exponential(base.unwrap_or(Duration::from_secs(1)));
                if let Some(cap) = cap {
                    retry = retry.cap(cap);
                }
                // Unchecked here: the push returns an error if it is not a share from 0 to 1.
                if let (Retry::Exponential { jitter, .. }, Some(given)) = (&mut retry, jitter) {
                    *jitter = given;
                }
                Ok(retry)
            }
            _ => Err(format!("retry.kind: expected one of fixed, exponential, got {:?}", shown(&kind.into()))),
        }
    }
}

/// A span given either in microseconds or in seconds.
fn one_span(name: &str, us: Option<u64>, seconds: Option<f64>) -> Result<Option<Duration>, String> {
    if us.is_some() && seconds.is_some() {
        return Err(format!("retry.{name}_us and retry.{name}_seconds contradict each other; give one of them"));
    }
    Ok(us.map(Duration::from_micros).or(span("retry.", &format!("{name}_seconds"), seconds)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_names_the_field_and_the_form_wanted() {
        for (field, value, says) in [
            ("delay_seconds", json!("30"), r#"delay_seconds: expected a number of seconds, got "30""#),
            ("delay_seconds", json!(-1), "delay_seconds: expected a number of seconds, got -1"),
            ("timeout_seconds", json!(1e300), "timeout_seconds: expected a number of seconds, got 1"),
            ("run_at", json!("tomorrow"), "run_at: expected RFC 3339"),
            ("run_at", json!(1_700_000_000), "run_at: expected RFC 3339"),
            ("expires_at", json!("2026-13-01T00:00:00Z"), "expires_at: expected RFC 3339"),
            ("priority", json!(1.5), "priority: expected a whole number"),
            ("priority", json!(3_000_000_000_u32), "priority: expected a whole number"),
            ("max_attempts", json!(-1), "max_attempts: expected a whole number"),
            ("task_id", json!("x"), r#"task_id: expected a UUID, got "x""#),
            ("queue", json!(["a"]), r#"queue: expected a text, got ["a"]"#),
            ("tags", json!("a"), "tags: expected a list of texts"),
            ("tags", json!(["a", 1]), "tags: expected a list of texts"),
            ("retry", json!("fixed"), "retry: expected an object with fields"),
            ("retry", json!({"kind": "linear"}), "retry.kind: expected one of fixed, exponential"),
            ("retry", json!({"kind": "fixed", "delay_us": 1.5}), "retry.delay_us: expected a whole number"),
            ("retry", json!({"kind": "fixed", "delay_seconds": "9"}), "retry.delay_seconds: expected a number"),
            ("unique", json!({"key": 1}), "unique.key: expected a text, got 1"),
            ("unique", json!({}), "unique.key: expected a text, it is missing"),
            ("unique", json!({"key": "a", "mode": "never"}), "unique.mode: expected one of return_existing, reject"),
            ("dalay_seconds", json!(1), "dalay_seconds: there is no such field; there are task_id, type"),
        ] {
            let refused = task(json!({"type": "work", field: value})).unwrap_err();
            assert!(refused.starts_with(says), "{refused}");
        }
        assert_eq!(task(json!({})).unwrap_err(), "type: expected a text, it is missing");
        assert_eq!(task(json!([1])).unwrap_err(), "a task: expected an object with fields, got [1]");
        let long = task(json!({"type": "work", "queue": ["x".repeat(1_000)]})).unwrap_err();
        assert!(long.len() < 120, "{long}");
    }
}
