//! Reads tasks: a single task, its history, lists and counts.

use std::collections::BTreeMap;

use diesel::QueryResult;
use diesel::sql_types::{BigInt, Text};

use super::filter::{Query, Stretch};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::rows::{
    ExecutionRow, FullRow, FullTypes, StoredText, record, shown_state, task_columns, under_way,
};
use crate::backend::sql::schema::task_execution;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{Cursor, Execution, StateCount, TaskFilter, TaskOrder, TaskPage};
use crate::task::{TaskId, TaskRecord, TaskState};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
macro_rules! counts {
    () => {
        "SELECT 'pending', queue, count(*) FROM task_queue WHERE state = 'pending' GROUP BY queue
         UNION ALL
         SELECT 'running', queue, count(*) FROM task_queue WHERE state = 'running' GROUP BY queue
         UNION ALL
         SELECT state, queue, count(*) FROM task_queue WHERE state IN ('scheduled', 'retrying') GROUP BY state, queue
         UNION ALL
         SELECT state, queue, count(*) FROM task_queue WHERE finished_at IS NOT NULL GROUP BY state, queue
         UNION ALL
         SELECT 'waiting', queue, count(*) FROM task_queue WHERE state = 'waiting' GROUP BY queue"
    };
}

statements! {
    TaskById -> FullTypes: (concat!("SELECT ", task_columns!(), " FROM task_queue WHERE task_id = ?1"));
    Executions -> task_execution::SqlType: "SELECT task_id, execution_id, attempt, status, node, started_at,
        finished_at, result, error_message FROM task_execution WHERE task_id = ?1 ORDER BY started_at, finished_at";
    /// Each part counts from an index that has all columns it needs, in the order of the index.
    Counts -> (Text, Text, BigInt): {
        sqlite counts!();
        postgres counts!();
        mysql "SELECT state, queue, count(*) FROM task_queue GROUP BY state, queue";
    };
    Health -> (BigInt,): "SELECT count(*) FROM node";
}

pub(in crate::backend::sql) fn health<C: Conn>(conn: &mut C) -> QueryResult<()> {
    conn.load::<Health, (i64,)>(&[]).map(drop)
}

fn row<C: Conn>(conn: &mut C, task_id: TaskId) -> QueryResult<Option<FullRow>> {
    conn.first::<TaskById, FullRow>(&[Value::Text(&task_id.to_string())])
}

pub(in crate::backend::sql) fn get<C: Conn>(conn: &mut C, task_id: TaskId) -> QueryResult<Option<TaskRecord>> {
    Ok(row(conn, task_id)?.map(record))
}

pub(in crate::backend::sql) fn executions<C: Conn>(conn: &mut C, task_id: TaskId) -> QueryResult<Vec<Execution>> {
    let Some(task) = row(conn, task_id)? else { return Ok(Vec::new()) };
    let ended: Vec<ExecutionRow> = conn.load::<Executions, _>(&[Value::Text(&task_id.to_string())])?;
    let mut executions: Vec<Execution> = ended.into_iter().map(Execution::from).collect();
    let token = task.0.claim_token;
    executions.extend(token.and_then(|token| under_way(&record(task), token)));
    Ok(executions)
}

pub(in crate::backend::sql) fn list<C: Conn>(
    conn: &mut C,
    filter: &TaskFilter,
    order: TaskOrder,
    after: Option<Cursor>,
    limit: usize,
) -> QueryResult<TaskPage> {
    let rows = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let query = Query::new(conn, filter)?;
    let stretch = Stretch { order, after: after.map(Cursor::seq), last: None, limit: rows };
    let found: Vec<FullRow> = query.page::<_, FullTypes, _>(conn, task_columns!(), stretch, "")?;
    let more = found.len() > limit;
    let tasks: Vec<TaskRecord> = found.into_iter().take(limit).map(record).collect();
    let next = tasks.last().filter(|_| more).map(|task| Cursor::after(task.seq));
    Ok(TaskPage { tasks, next })
}

pub(in crate::backend::sql) fn counts<C: Conn>(conn: &mut C) -> QueryResult<Vec<StateCount>> {
    let counted: Vec<(StoredText, StoredText, i64)> = conn.load::<Counts, _>(&[])?;
    let mut sorted: BTreeMap<(String, TaskState), u64> = BTreeMap::new();
    for (state, queue, tasks) in counted {
        *sorted.entry((queue.0, shown_state(&state))).or_default() += tasks.max(0).unsigned_abs();
    }
    let count =
        |((queue, state), tasks): ((String, TaskState), u64)| StateCount { queue: queue.into(), state, tasks };
    Ok(sorted.into_iter().map(count).collect())
}
