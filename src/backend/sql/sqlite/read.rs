//! Reading: one task, its history, lists and counts.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::SqliteConnection;

use crate::backend::sql::filter::{matching, page, path};
use crate::backend::sql::rows::{ExecutionRow, StoredText, TaskRow, shown_state, under_way};
use crate::backend::sql::schema::{task_execution, task_queue};
use crate::backend::sql::statement::{bind, statements};
use crate::backend::{Cursor, Execution, StateCount, TaskFilter, TaskOrder, TaskPage};
use crate::task::{TaskId, TaskRecord, TaskState};

statements! {
    /// Each part counts from an index that has all it needs, in the index's order.
    Counts -> (Text, Text, BigInt):
        "SELECT 'pending', queue, count(*) FROM task_queue WHERE state = 'pending' GROUP BY queue
         UNION ALL
         SELECT 'running', queue, count(*) FROM task_queue WHERE state = 'running' GROUP BY queue
         UNION ALL
         SELECT state, queue, count(*) FROM task_queue WHERE state IN ('scheduled', 'retrying') GROUP BY state, queue
         UNION ALL
         SELECT state, queue, count(*) FROM task_queue WHERE finished_at IS NOT NULL GROUP BY state, queue
         UNION ALL
         SELECT 'waiting', queue, count(*) FROM task_queue WHERE state = 'waiting' GROUP BY queue";
    Health -> (BigInt,): "SELECT count(*) FROM task_sequence";
}

pub(super) fn health(conn: &mut SqliteConnection) -> QueryResult<()> {
    bind::<Health>(&[]).get_result::<(i64,)>(conn).map(drop)
}

fn row(conn: &mut SqliteConnection, task_id: TaskId) -> QueryResult<Option<TaskRow>> {
    task_queue::table
        .select(TaskRow::as_select())
        .filter(task_queue::task_id.eq(task_id.to_string()))
        .first(conn)
        .optional()
}

pub(super) fn get(conn: &mut SqliteConnection, task_id: TaskId) -> QueryResult<Option<TaskRecord>> {
    Ok(row(conn, task_id)?.map(TaskRecord::from))
}

pub(super) fn executions(conn: &mut SqliteConnection, task_id: TaskId) -> QueryResult<Vec<Execution>> {
    let Some(task) = row(conn, task_id)? else { return Ok(Vec::new()) };
    let ended: Vec<ExecutionRow> = task_execution::table
        .select(ExecutionRow::as_select())
        .filter(task_execution::task_id.eq(task_id.to_string()))
        .order((task_execution::started_at, task_execution::finished_at))
        .load(conn)?;
    let mut executions: Vec<Execution> = ended.into_iter().map(Execution::from).collect();
    let token = task.claim_token;
    executions.extend(token.and_then(|token| under_way(&TaskRecord::from(task), token)));
    Ok(executions)
}

pub(super) fn list(
    conn: &mut SqliteConnection,
    filter: &TaskFilter,
    order: TaskOrder,
    after: Option<Cursor>,
    limit: usize,
) -> QueryResult<TaskPage> {
    let rows = i64::try_from(limit).unwrap_or(i64::MAX);
    let (path, newest_first) = (path(conn, filter)?, order == TaskOrder::NewestFirst);
    let tasks = page(matching(filter, path), newest_first, after.map(Cursor::seq), rows.saturating_add(1));
    let found: Vec<TaskRow> = tasks.select(TaskRow::as_select()).load(conn)?;
    let more = found.len() > limit;
    let tasks: Vec<TaskRecord> = found.into_iter().take(limit).map(TaskRecord::from).collect();
    let next = tasks.last().filter(|_| more).map(|task| Cursor::after(task.seq));
    Ok(TaskPage { tasks, next })
}

pub(super) fn counts(conn: &mut SqliteConnection) -> QueryResult<Vec<StateCount>> {
    let counted: Vec<(StoredText, StoredText, i64)> = bind::<Counts>(&[]).load(conn)?;
    let mut sorted: BTreeMap<(String, TaskState), u64> = BTreeMap::new();
    for (state, queue, tasks) in counted {
        *sorted.entry((queue.0, shown_state(&state))).or_default() += tasks.max(0).unsigned_abs();
    }
    let count =
        |((queue, state), tasks): ((String, TaskState), u64)| StateCount { queue: queue.into(), state, tasks };
    Ok(sorted.into_iter().map(count).collect())
}
