//! The definition of a task at the push, before it has a history.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::bounds::{Bounds, key_fault, tags_fault};
use super::{FiringKey, InvalidTask, Retry, TaskId, Unique};
use crate::clock::{Clock, Timestamp};
use crate::json;
use crate::name::{Name, name_fault};

/// The queue of a task that names no queue.
pub const DEFAULT_QUEUE: &str = "default";

/// A task as its pusher defined it. After the push, only an explicit edit changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// The task's id.
    pub task_id: TaskId,
    /// The name that selects the handler (`type` in SQL, CLI and HTTP).
    pub kind: Name,
    /// The queue of the task.
    pub queue: Name,
    /// The handler's input: JSON text.
    pub params: Box<str>,
    /// Priority: a smaller number runs first.
    pub priority: i32,
    /// The earliest time at which the task may run.
    pub run_at: Timestamp,
    /// The number of attempts before the task is dead; at least 1.
    pub max_attempts: u32,
    /// The longest time that one attempt may take.
    pub timeout: Option<Duration>,
    /// The retry policy: the wait between attempts.
    pub retry: Retry,
    /// The time of the push.
    pub created_at: Timestamp,
    /// Options that most tasks do not have.
    pub extras: Option<Box<Extras>>,
}

/// Options that most tasks do not have. They are stored apart so that a plain task stays small.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// The unique key.
    pub unique: Option<Unique>,
    /// Tags to find the task by.
    pub tags: Vec<String>,
    /// The pusher's own JSON.
    pub meta: Option<Value>,
    /// The task is cancelled if it has not started by this time.
    pub expires_at: Option<Timestamp>,
    /// The schedule that made the task, and the nominal time of the firing.
    pub firing: Option<FiringKey>,
    /// The key by which [limits of keys](crate::LimitScope::Key) apply.
    pub limit_key: Option<String>,
}

impl TaskSpec {
    /// The number of bytes that the pusher gave; a push reserves room by this number.
    pub(crate) fn weight(&self) -> usize {
        let own = self.params.len() + self.kind.len() + self.queue.len();
        self.extras.as_deref().map_or(own, |extras| own.saturating_add(extras.weight()))
    }

    /// The extras; an empty set if there are none.
    pub fn extras(&self) -> &Extras {
        static NONE: Extras =
            Extras { unique: None, tags: Vec::new(), meta: None, expires_at: None, firing: None, limit_key: None };
        self.extras.as_deref().unwrap_or(&NONE)
    }
}

impl Extras {
    fn weight(&self) -> usize {
        let Self { unique, tags, meta, expires_at: _, firing: _, limit_key } = self;
        let texts = tags.iter().chain(limit_key).chain(unique.as_ref().map(|unique| &unique.key));
        texts.map(String::len).sum::<usize>() + meta.as_ref().map_or(0, json::size)
    }
}

/// The earliest time at which a pushed task may run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum When {
    Now,
    After(Duration),
    At(Timestamp),
}

/// A task to push, with its options.
///
/// ```
/// use callboard::NewTask;
/// use serde_json::json;
/// use std::time::Duration;
/// let task = NewTask::new("download_audio", &json!({"url": "https://example.org/a.wav"}))
///     .queue("downloads")
///     .priority(-5)
///     .delay(Duration::from_secs(30))
///     .max_attempts(3)
///     .tag("music");
/// # let _ = task;
/// ```
#[derive(Clone, Debug)]
pub struct NewTask {
    pub(crate) task_id: Option<TaskId>,
    pub(crate) kind: Name,
    pub(crate) queue: Name,
    pub(crate) params: Result<Box<str>, String>,
    pub(crate) priority: i32,
    pub(crate) when: When,
    pub(crate) max_attempts: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Retry,
    pub(crate) expires: Option<When>,
    pub(crate) extras: Option<Box<Extras>>,
}

impl NewTask {
    /// A task of the type `kind` with `params`, which may be any value that serialises to JSON.
    ///
    /// The push reports a value that cannot be written as JSON.
    pub fn new(kind: impl Into<Name>, params: &impl Serialize) -> Self {
        Self {
            task_id: None,
            kind: kind.into(),
            queue: Name::of(DEFAULT_QUEUE),
            params: json::written(params).map(String::into_boxed_str),
            priority: 0,
            when: When::Now,
            max_attempts: 5,
            timeout: None,
            retry: Retry::default(),
            expires: None,
            extras: None,
        }
    }

    /// Reads the untyped form: `{"task_id", "type", "params"}`, with further options under their own names.
    ///
    /// # Errors
    /// [`InvalidTask`] when a field is unknown, missing or of the wrong kind, or when two fields set the same thing,
    /// such as `run_at` and `delay_seconds`.
    pub fn from_json(value: Value) -> Result<Self, InvalidTask> {
        super::read::new_task(value)
    }

    /// Chooses the id. Pushing the same id again returns the same task.
    #[must_use]
    pub fn task_id(mut self, id: impl Into<TaskId>) -> Self {
        self.task_id = Some(id.into());
        self
    }

    /// Chooses the queue. The default is `default`.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<Name>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Sets the priority: a smaller number runs first. The default is 0.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Delays the run: the task runs no sooner than `delay` after the push.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.when = When::After(delay);
        self
    }

    /// The task runs no sooner than `time`; a time in the past means at once.
    #[must_use]
    pub fn run_at(mut self, time: impl Into<Timestamp>) -> Self {
        self.when = When::At(time.into());
        self
    }

    /// Sets the number of attempts, including the first. The default is 5.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the longest time that one attempt may take. Without it an attempt has no time limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the wait between attempts; see [`Retry`].
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The simple form: `count` retries after the first attempt, with `delay_seconds` between attempts.
    #[must_use]
    pub fn retry_count(mut self, count: u32, delay_seconds: u64) -> Self {
        self.max_attempts = count.saturating_add(1);
        self.retry = Retry::fixed(Duration::from_secs(delay_seconds));
        self
    }

    /// Sets the unique key.
    #[must_use]
    pub fn unique(mut self, unique: Unique) -> Self {
        self.extras().unique = Some(unique);
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.extras().tags.push(tag.into());
        self
    }

    /// Attaches your own JSON, which is stored with the task and given to its handler.
    #[must_use]
    pub fn meta(mut self, meta: Value) -> Self {
        self.extras().meta = Some(meta);
        self
    }

    /// Cancels the task if its first run has not started `after` the push. A task that has started once, and runs again
    /// later, is not affected.
    #[must_use]
    pub fn expires_in(mut self, after: Duration) -> Self {
        self.expires = Some(When::After(after));
        self
    }

    /// Cancels the task if its first run has not started by `time`. A task that has started once, and runs again later,
    /// is not affected.
    #[must_use]
    pub fn expires_at(mut self, time: impl Into<Timestamp>) -> Self {
        self.expires = Some(When::At(time.into()));
        self
    }

    /// Sets a limit key: the task shares the [limits of that key](crate::LimitScope::Key) with all tasks that have the
    /// same key.
    ///
    /// ```
    /// use callboard::{Limit, NewTask};
    /// use std::time::Duration;
    /// // Set with `Board::set_limit`: for each customer at most 5 calls in any second.
    /// let each_customer = Limit::of_key("api").rate(5, Duration::from_secs(1));
    /// let call = NewTask::new("call", &()).limit_key("api:anna");
    /// # let _ = (each_customer, call);
    /// ```
    #[must_use]
    pub fn limit_key(mut self, key: impl Into<String>) -> Self {
        self.extras().limit_key = Some(key.into());
        self
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Checks the task and fills in the options that were left open.
    pub(crate) fn into_spec(mut self, clock: &Clock, bounds: Bounds) -> Result<TaskSpec, InvalidTask> {
        let now = clock.now();
        let params = std::mem::replace(&mut self.params, Ok(Box::from("null")))
            .map_err(|error| InvalidTask(format!("params cannot be written as JSON: {error}")))?;
        self.check(params.len(), bounds)?;
        if let Some(expires) = self.expires {
            self.extras().expires_at = Some(at(expires, now));
        }
        if let Some(unique) = self.extras.as_mut().and_then(|extras| extras.unique.as_mut())
            && let Some(until) = unique.until(now)
        {
            // Storage keeps the end of the period. An end beyond the last possible `Timestamp` is stored as that last
            // time.
            unique.period_us = Some(until.as_micros().saturating_sub(now.as_micros()).max(0).unsigned_abs());
        }
        Ok(TaskSpec {
            task_id: self.task_id.unwrap_or_else(|| TaskId::new(now)),
            kind: self.kind,
            queue: self.queue,
            params,
            priority: self.priority,
            run_at: at(self.when, now),
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            retry: self.retry.stored(),
            created_at: now,
            extras: self.extras,
        })
    }

    /// The type and the queue of the task.
    pub(crate) fn target(&self) -> (&Name, &Name) {
        (&self.kind, &self.queue)
    }

    fn check(&self, params: usize, bounds: Bounds) -> Result<(), InvalidTask> {
        let fault = |text: String| Err(InvalidTask(text));
        if let Some(text) = bounds.params_fault(params) {
            return fault(text);
        }
        for (what, name) in [("type", &self.kind), ("queue", &self.queue)] {
            if let Some(text) = name_fault(what, name) {
                return fault(text);
            }
        }
        if self.max_attempts == 0 {
            return fault("max_attempts is 0; a task needs at least 1 attempt".into());
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return fault("timeout is 0; leave it out for none".into());
        }
        if let Some(text) = self.retry.fault() {
            return fault(text);
        }
        let extras = self.extras.as_deref();
        if let Some(unique) = extras.and_then(|extras| extras.unique.as_ref())
            && (unique.key.is_empty() || unique.key.len() > 250)
        {
            return fault(format!("a unique key has 1 to 250 bytes, this one {}", unique.key.len()));
        }
        let meta = extras.and_then(|extras| extras.meta.as_ref());
        let too_large = meta.and_then(|meta| bounds.meta_fault(meta));
        if let Some(text) = too_large.or_else(|| tags_fault(&extras?.tags)) {
            return fault(text);
        }
        let tags = extras.into_iter().flat_map(|extras| &extras.tags);
        let keys = extras.and_then(|extras| Some(&extras.unique.as_ref()?.key));
        if let Some(text) = tags.chain(keys).find(|text| text.contains('\0')) {
            return fault(format!(
                "{text:?} contains the character NUL, which not every database can store; leave it out"
            ));
        }
        if let Some(text) = extras.and_then(|extras| key_fault(extras.limit_key.as_deref()?)) {
            return fault(text);
        }
        Ok(())
    }
}

fn at(when: When, now: Timestamp) -> Timestamp {
    match when {
        When::Now => now,
        When::After(delay) => now + delay,
        When::At(time) => time,
    }
}

/// A value that can be pushed: a typed [`Task`](crate::Task), a [`NewTask`], or JSON in the untyped form.
pub trait IntoNewTask {
    /// Converts the value into a task with its options.
    ///
    /// # Errors
    /// [`InvalidTask`] when the value is not a valid task.
    fn into_new_task(self) -> Result<NewTask, InvalidTask>;
}

impl IntoNewTask for NewTask {
    fn into_new_task(self) -> Result<NewTask, InvalidTask> {
        Ok(self)
    }
}

impl IntoNewTask for Value {
    fn into_new_task(self) -> Result<NewTask, InvalidTask> {
        NewTask::from_json(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task::UniqueMode;

    fn pushed(new: NewTask) -> Result<TaskSpec, String> {
        new.into_spec(&Clock::system(), Bounds::all(1_000)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_task_weighs_all_that_its_pusher_gave() {
        let weight = |task: NewTask| pushed(task).unwrap().weight();
        let (plain, text) = (weight(NewTask::new("work", &())), "x".repeat(190));
        assert_eq!(plain, "work".len() + "default".len() + "null".len());
        for task in [
            NewTask::new("work", &text),
            NewTask::new("work", &()).meta(json!({"text": text})),
            NewTask::new("work", &()).tag(text.clone()),
            NewTask::new("work", &()).unique(Unique::key(text.clone())),
            NewTask::new("work", &()).limit_key(text.clone()),
            NewTask::new("work", &()).queue(text.clone()),
            NewTask::new(text.clone(), &()),
        ] {
            let weight = weight(task.clone());
            assert!(weight >= plain - "default".len() + 190, "{weight}: {task:?}");
        }
    }

    #[test]
    fn a_jitter_that_is_no_share_is_refused() {
        for jitter in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let retry = Retry::Exponential { base_us: 1, cap_us: 2, jitter };
            let refused = pushed(NewTask::new("work", &()).retry(retry)).unwrap_err();
            assert!(refused.contains("retry.jitter"), "{refused}");
        }
        let given =
            json!({"type": "work", "retry": {"kind": "exponential", "base_us": 1, "cap_us": 2, "jitter": 7.0}});
        assert!(pushed(NewTask::from_json(given).unwrap()).is_err());
    }

    /// Reads a task from JSON with `options` beside its type.
    fn read(options: &str) -> Result<TaskSpec, String> {
        let text = format!(r#"{{"type": "work", {options}}}"#);
        NewTask::from_json(serde_json::from_str(&text).unwrap()).map_err(|error| error.to_string()).and_then(pushed)
    }

    #[test]
    fn a_period_beyond_the_last_time_is_kept_as_storage_keeps_it() {
        let clock = Clock::manual(Timestamp::from_micros(1_000));
        let endless = NewTask::new("a", &()).unique(Unique::key("k").period(Duration::MAX));
        let unique = endless.into_spec(&clock, Bounds::all(usize::MAX)).unwrap().extras().unique.clone().unwrap();
        assert_eq!(unique.period_us, Some(i64::MAX.unsigned_abs() - 1_000));
        assert_eq!(unique.until(clock.now()), Some(Timestamp::from_micros(i64::MAX)));
    }

    #[test]
    fn a_unique_key_alone_has_the_defaults_of_the_rest() {
        let unique = |options: &str| read(options).unwrap().extras().unique.clone();
        assert_eq!(unique(r#""unique": {"key": "a"}"#), Some(Unique::key("a")));
        let hour = Unique::key("a").period(Duration::from_secs(3600)).mode(UniqueMode::Reject);
        assert_eq!(unique(r#""unique": {"key": "a", "mode": "reject", "period_seconds": 3600}"#), Some(hour.clone()));
        assert_eq!(unique(&format!(r#""unique": {}"#, json!(hour))), Some(hour), "as it is written");
        let alone: Unique = serde_json::from_value(json!({"key": "a"})).unwrap();
        assert_eq!(alone, Unique::key("a"));
    }

    #[test]
    fn retries_in_their_forms() {
        let retry = |options: &str| read(options).map(|spec| (spec.max_attempts, spec.retry)).unwrap();
        let fixed = |seconds| Retry::fixed(Duration::from_secs_f64(seconds));
        assert_eq!(retry(r#""retry_delay_seconds": 7"#), (5, fixed(7.0)));
        assert_eq!(retry(r#""retry_count": 2"#), (3, fixed(1.0)));
        assert_eq!(retry(r#""retry_count": 2, "retry_delay_seconds": 0.5"#), (3, fixed(0.5)));
        assert_eq!(retry(r#""retry": {"kind": "fixed", "delay_seconds": 9}, "retry_count": 1"#), (2, fixed(9.0)));
        let exponential = Retry::exponential(Duration::from_secs(2)).cap(Duration::from_secs(60)).jitter(0.5);
        let given = r#""retry": {"kind": "exponential", "base_seconds": 2, "cap_seconds": 60, "jitter": 0.5}"#;
        assert_eq!(retry(given), (5, exponential));
        assert_eq!(retry(&format!(r#""retry": {}"#, json!(exponential))), (5, exponential), "as it is written");
        assert_eq!(retry(r#""retry": {"kind": "exponential"}"#), (5, Retry::default()));
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let time = r#""2026-03-01T00:00:00Z""#;
        let fixed = r#"{"kind": "fixed", "delay_us": 1}"#;
        for (one, value, other) in [
            ("run_at", time, "delay_seconds"),
            ("expires_at", time, "expires_in_seconds"),
            ("retry", fixed, "retry_delay_seconds"),
            ("max_attempts", "3", "retry_count"),
        ] {
            let refused = read(&format!(r#""{one}": {value}, "{other}": 1"#)).unwrap_err();
            assert!(refused.contains(&format!("{one} and {other} contradict")), "{refused}");
        }
        for (options, named) in [
            (r#""unique": {"key": "a", "period_us": 1, "period_seconds": 1}"#, "unique.period_seconds"),
            (r#""unique": {"key": "a", "periods": 1}"#, "periods"),
            (r#""retry": {"kind": "fixed"}"#, "retry.delay_seconds"),
            (r#""retry": {"kind": "fixed", "delay_us": 1, "cap_us": 1}"#, "cap_us"),
            (r#""retry_delay_seconds": -1"#, "retry_delay_seconds"),
        ] {
            let refused = read(options).unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
