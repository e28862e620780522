//! Reads schedules and their history.

use diesel::QueryResult;
use diesel::sql_types::Text;

use super::rows::{FiringRow, FiringTypes, ScheduleRow, schedule_columns};
use super::tasks::{fired, live};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::dialect::placeholders;
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::schema::scheduler_task;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::sql::work::filter::{any_like, like_pattern};
use crate::backend::{ScheduleFilter, ScheduleState};
use crate::clock::Timestamp;
use crate::schedule::{Firing, ScheduleRecord};
use crate::task::ScheduleId;
use crate::task::TaskState;

/// Each half has its own limit, so that its index is read no further than needed.
macro_rules! failures {
    ($index:literal) => {
        concat!(
            "SELECT state FROM (SELECT state, nominal_at FROM (SELECT state, nominal_at FROM task_queue ",
            $index,
            "schedule_id = ?1 AND nominal_at > ?2 AND state IN ('completed', 'dead') ORDER BY nominal_at DESC LIMIT ?3)
                AS kept
            UNION ALL SELECT status, nominal_at FROM (SELECT status, nominal_at FROM schedule_run WHERE schedule_id = ?1
                AND nominal_at > ?2 AND status IN ('completed', 'dead') ORDER BY nominal_at DESC LIMIT ?3) AS gone)
            AS ended ORDER BY nominal_at DESC LIMIT ?3"
        )
    };
}

statements! {
    Failures -> (Text,): {
        sqlite failures!("INDEXED BY task_queue_firing WHERE schedule_id IS NOT NULL AND ");
        postgres failures!("INDEXED BY task_queue_firing WHERE schedule_id IS NOT NULL AND ");
        mysql failures!("WHERE ");
    };
    /// The number of rows read is bounded, because this check runs without a caller's request.
    Ahead -> (Text,): "SELECT schedule_id FROM (SELECT schedule_id, cursor_at FROM scheduler_task
        INDEXED BY scheduler_task_due WHERE status = 'active' AND next_run_at > ?1 ORDER BY next_run_at DESC LIMIT 1000)
        AS late WHERE cursor_at > ?1 LIMIT ?2";
    Firings -> FiringTypes: "SELECT f.nominal_at, f.status, f.cause, f.times, f.reason, f.task_id, f.node, f.fired_at,
        coalesce(t.state, CASE WHEN r.status IN ('completed', 'dead', 'cancelled') THEN r.status END), t.finished_at,
        t.last_error FROM schedule_firing AS f LEFT JOIN task_queue AS t ON t.task_id = f.task_id
        LEFT JOIN schedule_run AS r ON r.schedule_id = f.schedule_id AND r.nominal_at = f.nominal_at
        WHERE f.schedule_id = ?1 AND f.nominal_at < ?2 ORDER BY f.nominal_at DESC LIMIT ?3";
}

fn limit(rows: usize) -> Value<'static> {
    Value::Int(i64::try_from(rows).unwrap_or(i64::MAX))
}

pub(in crate::backend::sql) fn states<C: Conn>(conn: &mut C, ids: &[ScheduleId]) -> QueryResult<Vec<ScheduleState>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let values: Vec<Value<'_>> = texts.iter().map(|id| Value::Text(id)).collect();
    let places = placeholders(1, ids.len());
    let sql = format!("SELECT {} FROM scheduler_task WHERE schedule_id IN ({places})", schedule_columns!());
    let rows: Vec<ScheduleRow> = conn.load_once::<scheduler_task::SqlType, _>(&sql, &values)?;
    let mut live = live(conn, &places, &values)?;
    let mut fired = fired(conn, &places, &values)?;
    let mut states = Vec::with_capacity(rows.len());
    for row in rows {
        let live = live.remove(&*row.schedule_id).unwrap_or_default();
        let fired = fired.remove(&*row.schedule_id).unwrap_or_default();
        let (record, fault) = row.read();
        let failures = failures(conn, &record)?;
        states.push(ScheduleState { record, fault, live, fired, failures });
    }
    Ok(states)
}

pub(in crate::backend::sql) fn ahead<C: Conn>(
    conn: &mut C,
    now: Timestamp,
    most: usize,
) -> QueryResult<Vec<ScheduleId>> {
    let rows: Vec<(StoredText,)> = conn.load::<Ahead, _>(&[Value::Int(now.as_micros()), limit(most)])?;
    Ok(rows.into_iter().filter_map(|(id,)| id.parse().ok()).collect())
}

fn failures<C: Conn>(conn: &mut C, record: &ScheduleRecord) -> QueryResult<u32> {
    let Some(most) = record.policy.pause_after else { return Ok(0) };
    let id = record.schedule_id.to_string();
    let values = [Value::Text(&id), Value::Int(record.failures_from.as_micros()), Value::Int(most.into())];
    let states: Vec<(StoredText,)> = conn.load::<Failures, _>(&values)?;
    let dead = states.iter().take_while(|(state,)| shown_state(state) == TaskState::Dead).count();
    Ok(u32::try_from(dead).unwrap_or(u32::MAX))
}

pub(in crate::backend::sql) fn list<C: Conn>(
    conn: &mut C,
    filter: &ScheduleFilter,
    after: Option<&str>,
    most: usize,
) -> QueryResult<Vec<ScheduleRecord>> {
    let mut texts: Vec<String> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let mut any_of = |column: &str, wanted: Vec<String>| {
        if !wanted.is_empty() {
            conditions.push(format!("{column} IN ({})", placeholders(texts.len() + 1, wanted.len())));
            texts.extend(wanted);
        }
    };
    any_of("status", filter.statuses.iter().map(ToString::to_string).collect());
    any_of("type", filter.types.clone());
    if filter.statuses.is_empty() {
        conditions.push("status <> 'deleted'".into());
    }
    if let Some(part) = &filter.text {
        texts.push(like_pattern(part));
        conditions.push(any_like(C::DIALECT, ["name", "description"], &format!("?{}", texts.len())));
    }
    if let Some(after) = after {
        texts.push(after.into());
        conditions.push(format!("name > ?{}", texts.len()));
    }
    let sql = format!(
        "SELECT {} FROM scheduler_task WHERE {} ORDER BY name LIMIT {most}",
        schedule_columns!(),
        if conditions.is_empty() { "1 = 1".into() } else { conditions.join(" AND ") }
    );
    let values: Vec<Value<'_>> = texts.iter().map(|text| Value::Text(text)).collect();
    let rows: Vec<ScheduleRow> = conn.load_once::<scheduler_task::SqlType, _>(&sql, &values)?;
    Ok(rows.into_iter().map(|row| row.read().0).collect())
}

pub(in crate::backend::sql) fn firings<C: Conn>(
    conn: &mut C,
    schedule_id: ScheduleId,
    before: Option<Timestamp>,
    most: usize,
) -> QueryResult<Vec<Firing>> {
    let id = schedule_id.to_string();
    let before = before.map_or(i64::MAX, Timestamp::as_micros);
    let rows: Vec<FiringRow> = conn.load::<Firings, _>(&[Value::Text(&id), Value::Int(before), limit(most)])?;
    Ok(rows.into_iter().map(Firing::from).collect())
}
