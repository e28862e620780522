//! Deleting: history that nobody wants to keep, and tasks that somebody wants gone.

use diesel::QueryResult;
use diesel::sql_types::BigInt;

use crate::backend::sql::conn::Conn;
use crate::backend::sql::dialect::placeholders;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::statement::{Value, chunks, run_sized, sized_statements, statements};
use crate::backend::{Prune, Pruned, Retention};
use crate::task::TaskId;

statements! {
    CountFinished -> (BigInt,): {
        sqlite "SELECT count(*) FROM task_queue INDEXED BY task_queue_finished
            WHERE finished_at IS NOT NULL AND state = ?1";
        postgres "SELECT count(*) FROM task_queue WHERE finished_at IS NOT NULL AND state = ?1";
        mysql "SELECT count(*) FROM task_queue WHERE ended = ?1";
    };
}

sized_statements! {
    DeleteTasks: |rows: usize| format!("DELETE FROM task_queue WHERE seq IN ({})", placeholders(1, rows));
    DeleteExecutions: |rows: usize| format!("DELETE FROM task_execution WHERE task_id IN ({})", placeholders(1, rows));
}

/// Deletes tasks, by place and id, with their executions.
pub(super) fn delete<C: Conn>(conn: &mut C, tasks: &[(i64, String)]) -> Result<(), Abort> {
    let Some(last) = tasks.iter().map(|(seq, _)| *seq).max() else { return Ok(()) };
    conn.before_delete(last)?;
    for tasks in chunks(tasks, C::MOST_ROWS) {
        let seqs: Vec<Value<'_>> = tasks.iter().map(|(seq, _)| Value::Int(*seq)).collect();
        run_sized!(conn, DeleteTasks, tasks.len(), &seqs)?;
        let ids: Vec<Value<'_>> = tasks.iter().map(|(_, id)| Value::Text(id)).collect();
        run_sized!(conn, DeleteExecutions, tasks.len(), &ids)?;
    }
    Ok(())
}

/// True when there is something to delete.
pub(in crate::backend::sql) fn any<C: Conn>(conn: &mut C, prune: &Prune) -> QueryResult<bool> {
    for rule in rules(prune) {
        if !victims(conn, rule, 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(in crate::backend::sql) fn run<C: Conn>(conn: &mut C, prune: &Prune) -> Result<Pruned, Abort> {
    let mut pruned = Pruned::default();
    for rule in rules(prune) {
        let room = prune.limit.saturating_sub(pruned.tasks.len());
        let mut found = victims(conn, rule, room.saturating_add(1))?;
        pruned.more |= found.len() > room;
        found.truncate(room);
        delete(conn, &found)?;
        pruned.tasks.extend(found.iter().filter_map(|(_, id)| id.parse::<TaskId>().ok()));
    }
    Ok(pruned)
}

fn rules(prune: &Prune) -> impl Iterator<Item = &Retention> {
    prune.rules.iter().filter(|rule| rule.state.is_terminal())
}

/// The tasks that a rule does not keep, those that finished first, at most `limit`.
fn victims<C: Conn>(conn: &mut C, rule: &Retention, limit: usize) -> QueryResult<Vec<(i64, String)>> {
    let excess = match rule.keep {
        Some(keep) => {
            let counted = conn.first::<CountFinished, (i64,)>(&[Value::Text(rule.state.as_str())])?;
            let tasks = counted.map_or(0, |(tasks,)| tasks);
            tasks.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX))
        }
        None => 0,
    };
    let excess = usize::try_from(excess).unwrap_or(0);
    if excess == 0 && rule.finished_before.is_none() {
        return Ok(Vec::new());
    }
    let oldest = conn.oldest_finished(rule.state, limit)?;
    let too_old = |finished_at: i64| rule.finished_before.is_some_and(|before| finished_at < before.as_micros());
    let gone = oldest.into_iter().enumerate().take(limit);
    let gone = gone.take_while(|(place, (finished_at, ..))| *place < excess || too_old(*finished_at));
    Ok(gone.map(|(_, (_, seq, id))| (seq, id)).collect())
}
