//! Deleting: history that nobody wants to keep, and tasks that somebody wants gone.

use std::fmt::Write;

use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::SqliteConnection;
use diesel::{QueryResult, RunQueryDsl};

use super::Sqlite;
use super::errors::Abort;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, bind, chunks, execute_sized, sized_statements, statements};
use crate::backend::{BackendError, Prune, Pruned, Retention};
use crate::task::TaskId;

statements! {
    /// The queues that have tasks in a state, found by seeking from one to the next.
    FinishedLanes -> (Text,): "WITH RECURSIVE lane(queue) AS (
        SELECT (SELECT min(queue) FROM task_queue INDEXED BY task_queue_finished
            WHERE finished_at IS NOT NULL AND state = ?1)
        UNION ALL
        SELECT (SELECT min(t.queue) FROM task_queue AS t INDEXED BY task_queue_finished
            WHERE t.finished_at IS NOT NULL AND t.state = ?1 AND t.queue > lane.queue)
            FROM lane WHERE lane.queue IS NOT NULL)
        SELECT queue FROM lane WHERE queue IS NOT NULL";
    Finished -> (BigInt, BigInt, Text): "SELECT finished_at, seq, task_id FROM task_queue
        INDEXED BY task_queue_finished WHERE finished_at IS NOT NULL AND state = ?1 AND queue = ?2
        ORDER BY finished_at, seq LIMIT ?3";
    CountFinished -> (BigInt,): "SELECT count(*) FROM task_queue INDEXED BY task_queue_finished
        WHERE finished_at IS NOT NULL AND state = ?1";
    /// Before the newest row goes: its place must not be given out again.
    Mark -> (): "UPDATE task_sequence SET last = ?1 WHERE name = 'task_queue' AND last < ?1
        AND NOT EXISTS (SELECT 1 FROM task_queue WHERE seq > ?1)";
}

fn delete_from(table: &str, column: &str, rows: usize) -> String {
    let mut sql = format!("DELETE FROM {table} WHERE {column} IN (");
    for row in 0..rows {
        let comma = if row > 0 { "," } else { "" };
        write!(sql, "{comma}?{}", row + 1).expect("writing to a string does not fail");
    }
    sql + ")"
}

sized_statements! {
    DeleteTasks: |rows: usize| delete_from("task_queue", "seq", rows);
    DeleteExecutions: |rows: usize| delete_from("task_execution", "task_id", rows);
}

/// Deletes tasks, by place and id, with their executions.
pub(super) fn delete(conn: &mut SqliteConnection, tasks: &[(i64, String)]) -> Result<(), Abort> {
    let Some(last) = tasks.iter().map(|(seq, _)| *seq).max() else { return Ok(()) };
    bind::<Mark>(&[Value::Int(last)]).execute(conn)?;
    for tasks in chunks(tasks) {
        let seqs: Vec<Value<'_>> = tasks.iter().map(|(seq, _)| Value::Int(*seq)).collect();
        execute_sized!(DeleteTasks, tasks.len(), &seqs, conn)?;
        let ids: Vec<Value<'_>> = tasks.iter().map(|(_, id)| Value::Text(id)).collect();
        execute_sized!(DeleteExecutions, tasks.len(), &ids, conn)?;
    }
    Ok(())
}

impl Sqlite {
    pub(super) fn prune_once(&self, prune: &Prune) -> Result<Pruned, BackendError> {
        // Looking first: most of the time there is nothing to delete, and nobody has to wait for the lock.
        let nothing = self.read("prune", |conn| {
            for rule in prune.rules.iter().filter(|rule| rule.state.is_terminal()) {
                if !victims(conn, rule, 1)?.is_empty() {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        if nothing {
            return Ok(Pruned::default());
        }
        self.write("prune", |conn| run(conn, prune)).map_err(Abort::into_error)
    }
}

fn run(conn: &mut SqliteConnection, prune: &Prune) -> Result<Pruned, Abort> {
    let mut pruned = Pruned::default();
    for rule in prune.rules.iter().filter(|rule| rule.state.is_terminal()) {
        let room = prune.limit.saturating_sub(pruned.tasks.len());
        let mut found = victims(conn, rule, room.saturating_add(1))?;
        pruned.more |= found.len() > room;
        found.truncate(room);
        delete(conn, &found)?;
        pruned.tasks.extend(found.iter().filter_map(|(_, id)| id.parse::<TaskId>().ok()));
    }
    Ok(pruned)
}

/// The tasks that a rule does not keep, those that finished first, at most `limit`.
fn victims(conn: &mut SqliteConnection, rule: &Retention, limit: usize) -> QueryResult<Vec<(i64, String)>> {
    let state = Value::Text(rule.state.as_str());
    let excess = match rule.keep {
        Some(keep) => {
            let (tasks,) = bind::<CountFinished>(&[state]).get_result::<(i64,)>(conn)?;
            tasks.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX))
        }
        None => 0,
    };
    let excess = usize::try_from(excess).unwrap_or(0);
    if excess == 0 && rule.finished_before.is_none() {
        return Ok(Vec::new());
    }
    // The first of every queue, merged: the index is by queue, which is what counting wants.
    let mut oldest: Vec<(i64, i64, StoredText)> = Vec::new();
    let lanes: Vec<(StoredText,)> = bind::<FinishedLanes>(&[state]).load(conn)?;
    for (queue,) in lanes {
        let values = [state, Value::Text(&queue), Value::Int(i64::try_from(limit).unwrap_or(i64::MAX))];
        oldest.extend(bind::<Finished>(&values).load::<(i64, i64, StoredText)>(conn)?);
    }
    oldest.sort_unstable();
    let too_old = |finished_at: i64| rule.finished_before.is_some_and(|before| finished_at < before.as_micros());
    let gone = oldest.into_iter().enumerate().take(limit);
    let gone = gone.take_while(|(place, (finished_at, ..))| *place < excess || too_old(*finished_at));
    Ok(gone.map(|(_, (_, seq, id))| (seq, id.0)).collect())
}
