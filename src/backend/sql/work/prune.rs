//! Deletes finished tasks that retention does not keep, and tasks on request.

use std::collections::HashSet;

use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text};

use crate::backend::sql::conn::Conn;
use crate::backend::sql::dialect::placeholders;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, chunks, run_sized, sized_statements, statements};
use crate::backend::{Outdated, Retention};
use crate::clock::Timestamp;
use crate::task::{TaskId, TaskState};

statements! {
    CountFinished -> (BigInt,): {
        sqlite "SELECT count(*) FROM task_queue INDEXED BY task_queue_finished
            WHERE finished_at IS NOT NULL AND state = ?1";
        postgres "SELECT count(*) FROM task_queue WHERE finished_at IS NOT NULL AND state = ?1";
        mysql "SELECT count(*) FROM task_queue WHERE ended = ?1";
    };
}

sized_statements! {
    /// The facts that a schedule needs about its tasks outlive them.
    KeepRuns: |rows: usize| format!("INSERT OR IGNORE INTO schedule_run (schedule_id, nominal_at, status)
        SELECT schedule_id, nominal_at, state FROM task_queue WHERE schedule_id IS NOT NULL AND seq IN ({})",
        placeholders(1, rows));
    DeleteTasks: |rows: usize| format!("DELETE FROM task_queue WHERE seq IN ({})", placeholders(1, rows));
    DeleteExecutions: |rows: usize| format!("DELETE FROM task_execution WHERE task_id IN ({})", placeholders(1, rows));
}

/// Deletes tasks, given by `seq` and id, with their executions.
pub(super) fn delete<C: Conn>(conn: &mut C, tasks: &[(i64, String)]) -> Result<(), Abort> {
    let Some(last) = tasks.iter().map(|(seq, _)| *seq).max() else { return Ok(()) };
    conn.before_delete(last)?;
    for tasks in chunks(tasks, C::MOST_ROWS) {
        let seqs: Vec<Value<'_>> = tasks.iter().map(|(seq, _)| Value::Int(*seq)).collect();
        run_sized!(conn, KeepRuns, tasks.len(), &seqs)?;
        run_sized!(conn, DeleteTasks, tasks.len(), &seqs)?;
        let ids: Vec<Value<'_>> = tasks.iter().map(|(_, id)| Value::Text(id)).collect();
        run_sized!(conn, DeleteExecutions, tasks.len(), &ids)?;
    }
    Ok(())
}

/// The tasks that the retention rules do not keep. This only reads, because counting a long history takes a while.
pub(in crate::backend::sql) fn outdated<C: Conn>(
    conn: &mut C,
    rules: &[Retention],
    now: Timestamp,
    limit: usize,
) -> QueryResult<Vec<Outdated>> {
    let mut outdated = Vec::new();
    for rule in rules.iter().filter(|rule| rule.state.is_terminal()) {
        let room = limit.saturating_sub(outdated.len());
        if room == 0 {
            break;
        }
        let found = of_rule(conn, rule, now, room)?;
        let tasks = found.into_iter().map(|(at, seq)| Outdated { seq, finished_at: Timestamp::from_micros(at) });
        outdated.extend(tasks);
    }
    Ok(outdated)
}

/// The finish time and `seq` of tasks that a rule does not keep: the earliest finished, at most `room`.
fn of_rule<C: Conn>(conn: &mut C, rule: &Retention, now: Timestamp, room: usize) -> QueryResult<Vec<(i64, i64)>> {
    let excess = match rule.keep {
        Some(keep) => excess(conn, rule.state, keep)?,
        None => 0,
    };
    let mut most = room;
    loop {
        let found = oldest(conn, rule, excess, most)?;
        let all = found.len() < most;
        let mut free = without_held(conn, found, now)?;
        if all || free.len() >= room {
            free.truncate(room);
            return Ok(free);
        }
        // Many of the earliest finished tasks are kept because they hold unique keys.
        most = most.saturating_mul(2);
    }
}

/// The first `most` tasks that a rule does not keep, without regard to unique keys.
fn oldest<C: Conn>(conn: &mut C, rule: &Retention, excess: usize, most: usize) -> QueryResult<Vec<(i64, i64)>> {
    let excess = excess.min(most);
    let too_many = if excess > 0 { conn.oldest_finished(rule.state, i64::MAX, excess)? } else { Vec::new() };
    let too_old = match rule.finished_before {
        Some(before) if too_many.len() < most => conn.oldest_finished(rule.state, before.as_micros(), most)?,
        _ => Vec::new(),
    };
    // Both lists begin with the task that finished first, so the longer list includes the shorter.
    Ok(if too_old.len() > too_many.len() { too_old } else { too_many })
}

/// The tasks that hold no unique key for a period.
fn without_held<C: Conn>(conn: &mut C, mut found: Vec<(i64, i64)>, now: Timestamp) -> QueryResult<Vec<(i64, i64)>> {
    let mut held: HashSet<i64> = HashSet::new();
    for tasks in found.chunks(C::MOST_ROWS) {
        let sql = format!(
            "SELECT seq FROM task_queue WHERE seq IN ({}) AND unique_key IS NOT NULL AND unique_until > {}",
            placeholders(1, tasks.len()),
            now.as_micros()
        );
        let seqs: Vec<Value<'_>> = tasks.iter().map(|(_, seq)| Value::Int(*seq)).collect();
        let holders: Vec<(i64,)> = conn.load_once::<(BigInt,), _>(&sql, &seqs)?;
        held.extend(holders.into_iter().map(|(seq,)| seq));
    }
    found.retain(|(_, seq)| !held.contains(seq));
    Ok(found)
}

fn excess<C: Conn>(conn: &mut C, state: TaskState, keep: u64) -> QueryResult<usize> {
    let counted = conn.first::<CountFinished, (i64,)>(&[Value::Text(state.as_str())])?;
    let tasks = counted.map_or(0, |(tasks,)| tasks.max(0).unsigned_abs());
    Ok(usize::try_from(tasks.saturating_sub(keep)).unwrap_or(usize::MAX))
}

/// Deletes the tasks that have not changed since they were found.
pub(in crate::backend::sql) fn run<C: Conn>(conn: &mut C, tasks: &[Outdated]) -> Result<Vec<TaskId>, Abort> {
    let mut gone = Vec::with_capacity(tasks.len());
    for tasks in tasks.chunks(C::MOST_ROWS) {
        let found = unchanged(conn, tasks)?;
        delete(conn, &found)?;
        gone.extend(found.iter().filter_map(|(_, id)| id.parse::<TaskId>().ok()));
    }
    Ok(gone)
}

/// Skips tasks that a different node has locked: it prunes them as well, or has retried them.
fn unchanged<C: Conn>(conn: &mut C, tasks: &[Outdated]) -> QueryResult<Vec<(i64, String)>> {
    let sql = format!(
        "SELECT seq, task_id, finished_at FROM task_queue
        WHERE seq IN ({}) AND state IN ('completed', 'dead', 'cancelled') {{skip}}",
        placeholders(1, tasks.len())
    );
    let seqs: Vec<Value<'_>> = tasks.iter().map(|task| Value::Int(task.seq)).collect();
    let stored: Vec<(i64, StoredText, Option<i64>)> =
        conn.load_once::<(BigInt, Text, Nullable<BigInt>), _>(&sql, &seqs)?;
    let is_same = |seq: i64, finished_at: Option<i64>| {
        tasks.iter().any(|task| task.seq == seq && finished_at == Some(task.finished_at.as_micros()))
    };
    let same = stored.into_iter().filter(|(seq, _, finished_at)| is_same(*seq, *finished_at));
    Ok(same.map(|(seq, id, _)| (seq, id.0)).collect())
}
