//! Rows as they are read, and their conversion to records.
//!
//! An invalid value in a column never makes reading fail. A list shows as much of the row as it can.

use std::time::Duration;

use diesel::Queryable;
use diesel::sql_types::{Nullable, Text};

use super::schema::task_queue;
use super::text::{plain_key, read_retry};
use crate::backend::{NodeRecord, QueueSettings};
use crate::clock::Timestamp;
use crate::json::shown;
use crate::name::Name;
use crate::task::{Execution, ExecutionStatus, FiringKey, NodeId, TaskId, TaskRecord, TaskState};

pub(super) fn count(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

pub(super) fn small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

pub(super) fn span(micros: i64) -> Duration {
    Duration::from_micros(micros.max(0).unsigned_abs())
}

/// Text as it is stored. An edit by hand may have stored bytes that are not valid text, and these bytes are replaced:
/// an unreadable row must not make the rest of the rows unreadable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, diesel::deserialize::FromSqlRow)]
pub(super) struct StoredText(pub(super) String);

impl std::ops::Deref for StoredText {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<StoredText> for Name {
    fn from(text: StoredText) -> Self {
        text.0.into()
    }
}

fn nil() -> uuid::Uuid {
    uuid::Uuid::nil()
}

fn task_id(text: &str) -> TaskId {
    text.parse().unwrap_or_else(|_| nil().into())
}

fn node_id(text: &str) -> NodeId {
    text.parse().unwrap_or_else(|_| nil().into())
}

/// All columns of `task_queue`, in the order of [`FullRow`]: first the columns of [`TaskRow`], which are also those in
/// `schema.rs`, then the limit key.
macro_rules! task_columns {
    () => {
        "seq, task_id, queue, type, params, state, priority, run_at, attempt, max_attempts, crash_count, timeout, retry,
        unique_key, unique_rule, unique_until, parent_id, schedule_id, nominal_at, tags, meta, progress, result,
        last_error, node, claim_token, cancel_reason, expires_at, created_at, updated_at, started_at, finished_at, limit_key"
    };
}
pub(super) use task_columns;

/// The SQL types of a [`FullRow`]. The limit key is separate because Diesel's tuples have at most 32 columns. Larger
/// tuples would need a Diesel feature that makes compiling much slower.
pub(super) type FullTypes = (task_queue::SqlType, Nullable<Text>);

/// A row of `task_queue`, and its limit key.
pub(super) type FullRow = (TaskRow, Option<StoredText>);

/// Converts a full row to a record.
pub(super) fn record((row, limit_key): FullRow) -> TaskRecord {
    TaskRecord { limit_key: limit_key.map(|key| key.0), ..row.into() }
}

/// A row of `task_queue`.
#[derive(Queryable)]
pub(super) struct TaskRow {
    seq: i64,
    task_id: StoredText,
    queue: StoredText,
    kind: StoredText,
    params: StoredText,
    state: StoredText,
    priority: i64,
    run_at: i64,
    attempt: i64,
    max_attempts: i64,
    crash_count: i64,
    timeout: Option<i64>,
    retry: StoredText,
    unique_key: Option<StoredText>,
    _unique_rule: Option<StoredText>,
    _unique_until: Option<i64>,
    parent_id: Option<StoredText>,
    schedule_id: Option<StoredText>,
    nominal_at: Option<i64>,
    tags: Option<StoredText>,
    meta: Option<StoredText>,
    progress: Option<StoredText>,
    result: Option<StoredText>,
    last_error: Option<StoredText>,
    node: Option<StoredText>,
    pub(super) claim_token: Option<i64>,
    cancel_reason: Option<StoredText>,
    expires_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

/// The state with this name. An unknown name is shown as `dead`, because such a task will not run.
pub(super) fn shown_state(text: &str) -> TaskState {
    text.parse().unwrap_or(TaskState::Dead)
}

impl From<TaskRow> for TaskRecord {
    fn from(row: TaskRow) -> Self {
        let state = shown_state(&row.state);
        let time = Timestamp::from_micros;
        let running = state == TaskState::Running;
        Self {
            seq: row.seq,
            task_id: task_id(&row.task_id),
            kind: row.kind.into(),
            queue: row.queue.into(),
            params: row.params.0,
            state,
            priority: small(row.priority),
            run_at: time(row.run_at),
            attempt: count(row.attempt),
            max_attempts: count(row.max_attempts),
            crash_count: count(row.crash_count),
            timeout: row.timeout.map(span),
            retry: read_retry(&row.retry).unwrap_or_default(),
            limit_key: None,
            unique_key: row.unique_key.map(|key| plain_key(&key).to_owned()),
            parent_id: row.parent_id.as_deref().and_then(|id| id.parse().ok()),
            firing: firing(row.schedule_id.as_deref(), row.nominal_at),
            tags: row.tags.as_deref().and_then(|tags| serde_json::from_str(tags).ok()).unwrap_or_default(),
            meta: row.meta.as_deref().map(shown),
            progress: row.progress.as_deref().and_then(|progress| serde_json::from_str(progress).ok()),
            result: row.result.as_deref().map(shown),
            last_error: row.last_error.map(|error| error.0),
            node: row.node.filter(|_| running).map(|node| node_id(&node)),
            cancel_requested: row.cancel_reason.is_some() && running,
            expires_at: row.expires_at.map(time),
            created_at: time(row.created_at),
            updated_at: time(row.updated_at),
            started_at: row.started_at.map(time),
            finished_at: row.finished_at.map(time),
        }
    }
}

/// The firing that created a task.
pub(super) fn firing(schedule_id: Option<&str>, nominal_at: Option<i64>) -> Option<FiringKey> {
    Some(FiringKey { schedule_id: schedule_id?.parse().ok()?, nominal_at: Timestamp::from_micros(nominal_at?) })
}

/// The execution of the attempt in progress, which has no row in `task_execution` yet.
pub(super) fn under_way(task: &TaskRecord, token: i64) -> Option<Execution> {
    Some(Execution {
        execution_id: token,
        task_id: task.task_id,
        attempt: task.attempt.saturating_add(1),
        status: ExecutionStatus::Running,
        node: task.node?,
        started_at: task.started_at?,
        finished_at: None,
        result: None,
        error_message: None,
    })
}

#[derive(Queryable)]
pub(super) struct ExecutionRow {
    task_id: StoredText,
    execution_id: i64,
    attempt: i64,
    status: StoredText,
    node: StoredText,
    started_at: i64,
    finished_at: i64,
    result: Option<StoredText>,
    error_message: Option<StoredText>,
}

impl From<ExecutionRow> for Execution {
    fn from(row: ExecutionRow) -> Self {
        Self {
            execution_id: row.execution_id,
            task_id: task_id(&row.task_id),
            attempt: count(row.attempt),
            status: row.status.parse().unwrap_or(ExecutionStatus::Failed),
            node: node_id(&row.node),
            started_at: Timestamp::from_micros(row.started_at),
            finished_at: Some(Timestamp::from_micros(row.finished_at)),
            result: row.result.as_deref().map(shown),
            error_message: row.error_message.map(|error| error.0),
        }
    }
}

#[derive(Queryable)]
pub(super) struct NodeRow {
    node_id: StoredText,
    name: StoredText,
    started_at: i64,
    heartbeat_at: i64,
    lease_until: i64,
    version: StoredText,
    queues: StoredText,
    types: StoredText,
    pulls: StoredText,
}

impl From<NodeRow> for NodeRecord {
    fn from(row: NodeRow) -> Self {
        let queues: Vec<(Name, usize)> = serde_json::from_str(&row.queues).unwrap_or_default();
        Self {
            node_id: node_id(&row.node_id),
            name: row.name.0,
            started_at: Timestamp::from_micros(row.started_at),
            heartbeat_at: Timestamp::from_micros(row.heartbeat_at),
            lease_until: Timestamp::from_micros(row.lease_until),
            version: row.version.0,
            queues,
            types: serde_json::from_str(&row.types).unwrap_or_default(),
            pulls: serde_json::from_str(&row.pulls).unwrap_or_default(),
        }
    }
}

#[derive(Queryable)]
pub(super) struct QueueRow {
    queue: StoredText,
    paused: i64,
    concurrency: Option<i64>,
}

impl From<QueueRow> for QueueSettings {
    fn from(row: QueueRow) -> Self {
        Self {
            queue: row.queue.into(),
            paused: row.paused != 0,
            concurrency: row.concurrency.and_then(|tasks| usize::try_from(tasks).ok()),
        }
    }
}

/// The servers return valid text only, so no bytes need to be replaced.
#[cfg(feature = "postgres")]
impl diesel::deserialize::FromSql<diesel::sql_types::Text, diesel::pg::Pg> for StoredText {
    fn from_sql(value: diesel::pg::PgValue<'_>) -> diesel::deserialize::Result<Self> {
        <String as diesel::deserialize::FromSql<diesel::sql_types::Text, diesel::pg::Pg>>::from_sql(value).map(Self)
    }
}

#[cfg(feature = "mysql")]
impl diesel::deserialize::FromSql<diesel::sql_types::Text, diesel::mysql::Mysql> for StoredText {
    fn from_sql(value: diesel::mysql::MysqlValue<'_>) -> diesel::deserialize::Result<Self> {
        <String as diesel::deserialize::FromSql<diesel::sql_types::Text, diesel::mysql::Mysql>>::from_sql(value)
            .map(Self)
    }
}
