//! Pending tasks, as claims read them.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryResult, Queryable};
use serde::de::IgnoredAny;

use crate::backend::Unreadable;
use crate::backend::sql::conn::{Conn, Reads};
use crate::backend::sql::rows::{StoredText, count, firing, small, span};
use crate::backend::sql::statement::{Statement, Value};
use crate::backend::sql::text::{read_retry, read_rule};
use crate::clock::Timestamp;
use crate::json::shown;
use crate::limit::Labels;
use crate::name::Name;
use crate::task::{Extras, TaskSpec, Unique};

/// The most types that a statement names separately. Reading an array for each row costs more.
const FEW: usize = 8;

/// The SQL types of a [`Row`].
pub(super) type RowTypes = (
    BigInt,
    Text,
    Text,
    Text,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Text,
    Nullable<Text>,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<BigInt>,
    BigInt,
    Nullable<Text>,
    Nullable<BigInt>,
    Nullable<Text>,
);

/// The columns of a [`Row`].
macro_rules! columns {
    () => {
        "seq, task_id, type, params, priority, run_at, attempt, max_attempts, crash_count, timeout, retry, unique_rule,
        unique_until, tags, meta, expires_at, created_at, schedule_id, nominal_at, limit_key"
    };
}
pub(super) use columns;

/// A pending task.
#[derive(Queryable)]
pub(super) struct Row {
    pub(super) seq: i64,
    task_id: StoredText,
    pub(super) kind: StoredText,
    params: StoredText,
    priority: i64,
    run_at: i64,
    pub(super) attempt: i64,
    max_attempts: i64,
    pub(super) crash_count: i64,
    timeout: Option<i64>,
    retry: StoredText,
    unique_rule: Option<StoredText>,
    unique_until: Option<i64>,
    tags: Option<StoredText>,
    meta: Option<StoredText>,
    expires_at: Option<i64>,
    created_at: i64,
    schedule_id: Option<StoredText>,
    nominal_at: Option<i64>,
    limit_key: Option<StoredText>,
}

impl Row {
    pub(super) fn labels<'a>(&'a self, queue: &'a str) -> Labels<'a> {
        Labels { queue, kind: &self.kind, key: self.limit_key.as_deref() }
    }

    /// The task, or why it cannot run.
    pub(super) fn into_spec(self, queue: &Name, kind: Name) -> Result<TaskSpec, Unreadable> {
        let bury = |task_id, reason| Unreadable { task_id, kind: kind.clone(), queue: queue.clone(), reason };
        let task_id = self.task_id.parse().map_err(|error| bury(None, format!("unreadable row: {error}")))?;
        serde_json::from_str::<IgnoredAny>(&self.params)
            .map_err(|error| bury(Some(task_id), format!("unreadable row: params are no JSON: {error}")))?;
        let retry = read_retry(&self.retry)
            .ok_or_else(|| bury(Some(task_id), format!("unreadable retry policy {:?}", &*self.retry)))?;
        Ok(TaskSpec {
            task_id,
            kind,
            queue: queue.clone(),
            priority: small(self.priority),
            run_at: Timestamp::from_micros(self.run_at),
            max_attempts: count(self.max_attempts).max(1),
            timeout: self.timeout.map(span),
            retry,
            created_at: Timestamp::from_micros(self.created_at),
            extras: self.extras(),
            params: self.params.0.into(),
        })
    }

    fn extras(&self) -> Option<Box<Extras>> {
        let plain = self.unique_rule.is_none() && self.tags.is_none() && self.meta.is_none();
        if plain && self.expires_at.is_none() && self.schedule_id.is_none() && self.limit_key.is_none() {
            return None;
        }
        Some(Box::new(Extras {
            unique: self.unique(),
            tags: self.tags.as_deref().and_then(|tags| serde_json::from_str(tags).ok()).unwrap_or_default(),
            meta: self.meta.as_deref().map(shown),
            expires_at: self.expires_at.map(Timestamp::from_micros),
            firing: firing(self.schedule_id.as_deref(), self.nominal_at),
            limit_key: self.limit_key.as_ref().map(|key| key.0.clone()),
        }))
    }

    fn unique(&self) -> Option<Unique> {
        let rule = read_rule(self.unique_rule.as_deref()?)?;
        let period_us = self.unique_until.map(|until| until.saturating_sub(self.created_at).max(0).unsigned_abs());
        Some(Unique { key: rule.key.into(), scope: rule.scope, period_us, mode: rule.mode })
    }
}

/// Loads with the statement for all types, for a few types, or for many. The values for the types follow `values`.
pub(super) fn of_types<All: Statement, Few: Statement, Many: Statement, C: Conn, R>(
    conn: &mut C,
    types: Option<&[Name]>,
    values: Vec<Value<'_>>,
) -> QueryResult<Vec<R>>
where
    R: Reads<All> + Reads<Few> + Reads<Many>,
{
    let text;
    let mut values = values;
    match types {
        None => conn.load::<All, R>(&values),
        Some([]) => Ok(Vec::new()),
        Some(types) if types.len() <= FEW => {
            // A type that is named more than once is still found once.
            values.extend(types.iter().cycle().take(FEW).map(|kind| Value::Text(kind)));
            conn.load::<Few, R>(&values)
        }
        Some(types) => {
            text = serde_json::json!(types).to_string();
            values.push(Value::Text(&text));
            conn.load::<Many, R>(&values)
        }
    }
}
