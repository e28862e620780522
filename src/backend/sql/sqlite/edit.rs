//! Changes to stored tasks that somebody asked for.

use std::collections::{BTreeSet, HashSet};

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::errors::Abort;
use super::{prune, unique};
use crate::backend::sql::filter::{matching, page, path};
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::schema::task_queue::{self, dsl};
use crate::backend::sql::statement::{Value, bind, statements};
use crate::backend::sql::text::read_rule;
use crate::backend::{Edit, EditAction, EditReport, Selection, TaskFilter};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{TaskId, TaskState};

statements! {
    AskCancel -> (): "UPDATE task_queue SET cancel_reason = ?2 WHERE seq = ?1";
    Cancel -> (): "UPDATE task_queue SET state = 'cancelled', last_error = ?2, updated_at = ?3, finished_at = ?3
        WHERE seq = ?1";
    RetryNow -> (): "UPDATE task_queue SET state = 'pending', run_at = ?2, updated_at = ?2 WHERE seq = ?1";
    /// A reason that no run gave goes; the error of the last run that failed stays.
    RetryAnew -> (): "UPDATE task_queue SET state = 'pending', run_at = ?2, updated_at = ?2, finished_at = NULL,
        attempt = 0, crash_count = 0, expires_at = NULL, unique_key = ?3, last_error = (SELECT e.error_message FROM task_execution AS e
            WHERE e.task_id = task_queue.task_id AND e.error_message IS NOT NULL ORDER BY e.finished_at DESC LIMIT 1)
        WHERE seq = ?1";
    Reprioritise -> (): "UPDATE task_queue SET priority = ?2 WHERE seq = ?1";
    Reschedule -> (): "UPDATE task_queue SET run_at = ?2, state = ?3,
        updated_at = CASE WHEN state = ?3 THEN updated_at ELSE ?4 END WHERE seq = ?1";
}

/// Rows read at a time while looking for those that an action can change.
const PAGE: i64 = 500;

/// What an edit has to know of a task.
#[derive(Queryable, Selectable)]
#[diesel(table_name = task_queue)]
struct Row {
    seq: i64,
    task_id: StoredText,
    queue: StoredText,
    state: StoredText,
    priority: i64,
    run_at: i64,
    unique_rule: Option<StoredText>,
    cancel_reason: Option<StoredText>,
}

impl Row {
    fn state(&self) -> TaskState {
        shown_state(&self.state)
    }

    fn key(&self) -> Option<&str> {
        self.unique_rule.as_deref().and_then(read_rule).map(|rule| rule.key)
    }

    /// Whether the action may change the task.
    fn can(&self, conn: &mut SqliteConnection, edit: &Edit) -> QueryResult<bool> {
        let state = self.state();
        Ok(match edit.action {
            EditAction::Cancel(_) => !state.is_terminal(),
            EditAction::Retry if state.is_terminal() => unique::is_free_for(conn, self.seq, self.key(), edit.now)?,
            EditAction::Retry => matches!(state, TaskState::Scheduled | TaskState::Retrying),
            EditAction::Delete => state != TaskState::Running,
            EditAction::Reprioritise(_) | EditAction::Reschedule(_) => {
                state != TaskState::Running && !state.is_terminal()
            }
        })
    }

    /// False when the action would leave the row as it is: a filter passes by such rows, so that repeating an
    /// edit while there is more comes to an end.
    fn would_change(&self, action: &EditAction) -> bool {
        match action {
            EditAction::Cancel(_) => self.state() != TaskState::Running || self.cancel_reason.is_none(),
            EditAction::Reprioritise(priority) => self.priority != i64::from(*priority),
            EditAction::Reschedule(run_at) => self.run_at != run_at.as_micros(),
            EditAction::Retry | EditAction::Delete => true,
        }
    }
}

pub(super) fn edit(conn: &mut SqliteConnection, edit: &Edit) -> Result<EditReport, Abort> {
    let mut report = EditReport::default();
    let mut woken = BTreeSet::new();
    let rows = match &edit.selection {
        Selection::Ids(ids) => by_ids(conn, ids)?,
        Selection::Filter(filter) => by_filter(conn, filter, edit, &mut report.more)?,
    };
    for row in rows {
        // The one before may have taken the key that this one needs.
        if !row.can(conn, edit)? {
            continue;
        }
        act(conn, &row, edit, &mut woken)?;
        let changed = if row.state() == TaskState::Running { &mut report.cancelling } else { &mut report.changed };
        changed.extend(row.task_id.parse::<TaskId>().ok());
    }
    report.queues = woken.into_iter().collect();
    Ok(report)
}

fn by_ids(conn: &mut SqliteConnection, ids: &[TaskId]) -> QueryResult<Vec<Row>> {
    let mut seen = HashSet::new();
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids.iter().filter(|id| seen.insert(**id)) {
        let tasks = task_queue::table.filter(dsl::task_id.eq(id.to_string()));
        rows.extend(tasks.select(Row::as_select()).first(conn).optional()?);
    }
    Ok(rows)
}

fn by_filter(
    conn: &mut SqliteConnection,
    filter: &TaskFilter,
    edit: &Edit,
    more: &mut bool,
) -> QueryResult<Vec<Row>> {
    let path = path(conn, filter)?;
    let mut found = Vec::new();
    let mut after = i64::MIN;
    loop {
        let tasks = page(matching(filter, path), false, Some(after), PAGE);
        let rows: Vec<Row> = tasks.select(Row::as_select()).load(conn)?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = last.seq;
        for row in rows {
            if !row.would_change(&edit.action) || !row.can(conn, edit)? {
                continue;
            }
            if found.len() == edit.limit {
                *more = true;
                return Ok(found);
            }
            found.push(row);
        }
    }
}

fn act(conn: &mut SqliteConnection, row: &Row, edit: &Edit, woken: &mut BTreeSet<Name>) -> Result<(), Abort> {
    let (seq, now) = (Value::Int(row.seq), Value::Int(edit.now.as_micros()));
    match &edit.action {
        EditAction::Cancel(reason) if row.state() == TaskState::Running => {
            bind::<AskCancel>(&[seq, Value::Text(reason)]).execute(conn)?;
        }
        EditAction::Cancel(reason) => {
            bind::<Cancel>(&[seq, Value::Text(reason), now]).execute(conn)?;
            unique::free(conn, &row.task_id, edit.now, woken)?;
        }
        EditAction::Retry => retry(conn, row, edit.now, woken)?,
        EditAction::Delete => {
            unique::free(conn, &row.task_id, edit.now, woken)?;
            prune::delete(conn, &[(row.seq, row.task_id.to_string())])?;
        }
        EditAction::Reprioritise(priority) => {
            bind::<Reprioritise>(&[seq, Value::Int((*priority).into())]).execute(conn)?;
        }
        EditAction::Reschedule(run_at) => reschedule(conn, row, *run_at, edit.now, woken)?,
    }
    Ok(())
}

fn retry(conn: &mut SqliteConnection, row: &Row, now: Timestamp, woken: &mut BTreeSet<Name>) -> Result<(), Abort> {
    let (seq, time) = (Value::Int(row.seq), Value::Int(now.as_micros()));
    if row.state().is_terminal() {
        unique::take(conn, row.seq, row.key(), now)?;
        bind::<RetryAnew>(&[seq, time, Value::MaybeText(row.key())]).execute(conn)?;
    } else {
        bind::<RetryNow>(&[seq, time]).execute(conn)?;
    }
    woken.insert(row.queue.clone().into());
    Ok(())
}

fn reschedule(
    conn: &mut SqliteConnection,
    row: &Row,
    run_at: Timestamp,
    now: Timestamp,
    woken: &mut BTreeSet<Name>,
) -> Result<(), Abort> {
    let before = row.state();
    let state = match before {
        TaskState::Waiting => TaskState::Waiting,
        _ if run_at <= now => TaskState::Pending,
        TaskState::Pending => TaskState::Scheduled,
        other => other,
    };
    let values = [
        Value::Int(row.seq),
        Value::Int(run_at.as_micros()),
        Value::Text(state.as_str()),
        Value::Int(now.as_micros()),
    ];
    bind::<Reschedule>(&values).execute(conn)?;
    if state == TaskState::Pending && before != state {
        woken.insert(row.queue.clone().into());
    }
    Ok(())
}
