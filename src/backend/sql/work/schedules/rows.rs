//! Rows of schedules and firings, and how to read them.
//!
//! Reading never fails because of the text in a column: the value is shown as well as possible, and the fault is named.
//! So a row with invalid edits stops no other row.

use std::fmt::Display;
use std::time::Duration;

use diesel::Queryable;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::backend::sql::rows::{StoredText, count, shown_state, small, span};
use crate::backend::sql::text::read_retry;
use crate::clock::Timestamp;
use crate::name::Name;
use crate::schedule::trigger::TriggerText;
use crate::schedule::{
    Coalesce, Firing, FiringCause, FiringStatus, Overlap, Policy, ScheduleRecord, ScheduleStatus, TaskTemplate,
};
use crate::task::NodeId;
use crate::task::ScheduleId;

/// The columns of a [`ScheduleRow`], in the order of the schema.
macro_rules! schedule_columns {
    () => {
        "schedule_id, name, type, params, trigger_kind, trigger_expr, timezone, queue, priority, timeout, max_attempts,
        retry, options, misfire_grace, coalesce, max_instances, overlap_policy, run_limit, status, status_reason,
        paused_until, code, description, cursor_at, last_run_at, next_run_at, run_count, failures_from, forgotten_to,
        turn,
        created_at, updated_at"
    };
}
pub(super) use schedule_columns;

/// Rarely set fields, stored in the column `options`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_in_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pause_after: Option<u32>,
    pub(super) keep_firings: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit_key: Option<String>,
    /// Why the schedule has a new id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost_id: Option<String>,
}

/// A row of `scheduler_task`.
#[derive(Queryable)]
pub(super) struct ScheduleRow {
    pub(super) schedule_id: StoredText,
    name: StoredText,
    kind: StoredText,
    params: StoredText,
    trigger_kind: StoredText,
    trigger_expr: StoredText,
    timezone: StoredText,
    queue: StoredText,
    priority: i64,
    timeout: Option<i64>,
    max_attempts: i64,
    retry: StoredText,
    options: StoredText,
    misfire_grace: Option<i64>,
    coalesce: StoredText,
    max_instances: i64,
    overlap_policy: StoredText,
    run_limit: Option<i64>,
    status: StoredText,
    status_reason: Option<StoredText>,
    paused_until: Option<i64>,
    code: Option<StoredText>,
    description: Option<StoredText>,
    cursor_at: i64,
    last_run_at: Option<i64>,
    next_run_at: Option<i64>,
    run_count: i64,
    failures_from: i64,
    forgotten_to: Option<i64>,
    turn: i64,
    created_at: i64,
    updated_at: i64,
}

/// Records the first fault, and continues with a substitute value.
#[derive(Default)]
struct Faults(Option<String>);

impl Faults {
    fn or<T, E: Display>(&mut self, column: &str, read: Result<T, E>, otherwise: T) -> T {
        read.unwrap_or_else(|error| {
            self.0.get_or_insert_with(|| format!("{column}: {error}"));
            otherwise
        })
    }
}

fn time(micros: Option<i64>) -> Option<Timestamp> {
    micros.map(Timestamp::from_micros)
}

fn text(text: Option<StoredText>) -> Option<String> {
    text.map(|text| text.0)
}

impl ScheduleRow {
    /// The schedule, and the fault if its row is invalid. An active schedule with a fault is shown as paused.
    pub(super) fn read(self) -> (ScheduleRecord, Option<String>) {
        let mut faults = Faults::default();
        let nil = ScheduleId::from(uuid::Uuid::nil());
        let schedule_id = faults.or("schedule_id", self.schedule_id.parse(), nil);
        let options: Options = faults.or("options", serde_json::from_str(&self.options), Options::default());
        faults.or("schedule_id", options.lost_id.map_or(Ok(()), Err), ());
        let retry = read_retry(&self.retry).ok_or_else(|| format!("{:?} is no retry policy", &*self.retry));
        let usual = Policy::default();
        let policy = Policy {
            misfire_grace: self.misfire_grace.map(span),
            coalesce: faults.or("coalesce", self.coalesce.parse(), Coalesce::Latest),
            overlap: faults.or("overlap_policy", self.overlap_policy.parse(), Overlap::Skip),
            max_instances: count(self.max_instances),
            pause_after: options.pause_after,
            run_limit: self.run_limit.map(|limit| limit.max(0).unsigned_abs()),
            keep_firings: options.keep_firings.unwrap_or(usual.keep_firings),
        };
        faults.or("policy", policy.fault().map_or(Ok(()), Err), ());
        let task = TaskTemplate {
            kind: self.kind.into(),
            params: self.params.0.into(),
            queue: self.queue.into(),
            priority: small(self.priority),
            max_attempts: count(self.max_attempts).max(1),
            timeout: self.timeout.map(span),
            retry: faults.or("retry", retry, Default::default()),
            tags: options.tags,
            meta: options.meta,
            expires_in: options.expires_in_us.map(Duration::from_micros),
            limit_key: options.limit_key,
        };
        let status = faults.or("status", self.status.parse(), ScheduleStatus::Paused);
        let fault = faults.0;
        let shown = if fault.is_some() && status == ScheduleStatus::Active { ScheduleStatus::Paused } else { status };
        let record = ScheduleRecord {
            schedule_id,
            name: Name::from(self.name),
            task,
            trigger: TriggerText { kind: self.trigger_kind.0, expr: self.trigger_expr.0, zone: self.timezone.0 },
            policy,
            description: text(self.description),
            status: shown,
            status_reason: fault.clone().or(text(self.status_reason)),
            paused_until: time(self.paused_until),
            code: text(self.code),
            cursor: Timestamp::from_micros(self.cursor_at),
            last_run_at: time(self.last_run_at),
            next_run_at: time(self.next_run_at),
            run_count: self.run_count.max(0).unsigned_abs(),
            failures_from: Timestamp::from_micros(self.failures_from),
            forgotten_to: time(self.forgotten_to),
            turn: self.turn,
            created_at: Timestamp::from_micros(self.created_at),
            updated_at: Timestamp::from_micros(self.updated_at),
        };
        (record, fault)
    }
}

/// The SQL types of a [`FiringRow`].
pub(super) type FiringTypes = (
    BigInt,
    Text,
    Text,
    BigInt,
    Nullable<Text>,
    Nullable<Text>,
    Text,
    BigInt,
    Nullable<Text>,
    Nullable<BigInt>,
    Nullable<Text>,
);

/// A row of `schedule_firing` with its task.
#[derive(Queryable)]
pub(super) struct FiringRow {
    nominal_at: i64,
    status: StoredText,
    cause: StoredText,
    times: i64,
    reason: Option<StoredText>,
    task_id: Option<StoredText>,
    node: StoredText,
    fired_at: i64,
    state: Option<StoredText>,
    finished_at: Option<i64>,
    error: Option<StoredText>,
}

impl From<FiringRow> for Firing {
    fn from(row: FiringRow) -> Self {
        Self {
            nominal_at: Timestamp::from_micros(row.nominal_at),
            status: row.status.parse().unwrap_or(FiringStatus::Skipped),
            cause: row.cause.parse().unwrap_or(FiringCause::Schedule),
            times: row.times.max(0).unsigned_abs(),
            reason: text(row.reason),
            task_id: row.task_id.and_then(|id| id.parse().ok()),
            node: row.node.parse().unwrap_or_else(|_| NodeId::from(uuid::Uuid::nil())),
            at: Timestamp::from_micros(row.fired_at),
            state: row.state.map(|state| shown_state(&state)),
            finished_at: time(row.finished_at),
            error: text(row.error),
        }
    }
}
