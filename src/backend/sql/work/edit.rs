//! Edits of stored tasks on request.

use std::collections::{BTreeSet, HashSet};

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryResult, Queryable};

use super::filter::{Query, Stretch};
use super::{prune, unique};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::statement::{Value, statements};
use crate::backend::sql::text::{held_key, read_rule};
use crate::backend::{Cursor, Edit, EditAction, EditReport, MOST_LOOKED_AT, Selection, TaskFilter, TaskOrder};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{TaskId, TaskState};

/// The SQL types of a [`Row`].
type RowTypes = (BigInt, Text, Text, Text, BigInt, BigInt, Nullable<Text>, Nullable<Text>);

const COLUMNS: &str = "seq, task_id, queue, state, priority, run_at, unique_rule, cancel_reason";

statements! {
    PlaceOf -> (BigInt,): "SELECT seq FROM task_queue WHERE task_id = ?1";
    /// Locked, so that the row found is the row changed.
    ByIdIfFree -> RowTypes: "SELECT seq, task_id, queue, state, priority, run_at, unique_rule, cancel_reason
        FROM task_queue WHERE task_id = ?1 {skip}";
    FirstBehind -> (Nullable<BigInt>,): "SELECT min(seq) FROM task_queue WHERE seq > ?1";
    AskCancel -> (): "UPDATE task_queue SET cancel_reason = ?2 WHERE seq = ?1";
    Cancel -> (): "UPDATE task_queue SET state = 'cancelled', last_error = ?2, updated_at = ?3, finished_at = ?3
        WHERE seq = ?1";
    RetryNow -> (): "UPDATE task_queue SET state = 'pending', run_at = ?2, updated_at = ?2 WHERE seq = ?1";
    /// A `last_error` that came from no run is removed; the error of the last failed run stays.
    RetryAnew -> (): "UPDATE task_queue SET state = 'pending', run_at = ?2, updated_at = ?2, finished_at = NULL,
        attempt = 0, crash_count = 0, expires_at = NULL, unique_key = ?3, last_error = (SELECT e.error_message FROM task_execution AS e
            WHERE e.task_id = task_queue.task_id AND e.error_message IS NOT NULL ORDER BY e.finished_at DESC LIMIT 1)
        WHERE seq = ?1";
    Reprioritise -> (): "UPDATE task_queue SET priority = ?2 WHERE seq = ?1";
    Reschedule -> (): "UPDATE task_queue SET updated_at = CASE WHEN state = ?3 THEN updated_at ELSE ?4 END,
        run_at = ?2, state = ?3 WHERE seq = ?1";
}

/// Rows read at a time in the search for tasks that an action can change.
const PAGE: i64 = 500;

/// The columns of a task that an edit needs.
#[derive(Queryable)]
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
    fn can<C: Conn>(&self, conn: &mut C, edit: &Edit) -> QueryResult<bool> {
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

    /// False when the action would leave the row as it is. An edit by filter skips such rows, so that they do not use
    /// up its limit.
    fn would_change(&self, action: &EditAction) -> bool {
        match action {
            EditAction::Cancel(_) => self.state() != TaskState::Running || self.cancel_reason.is_none(),
            EditAction::Reprioritise(priority) => self.priority != i64::from(*priority),
            EditAction::Reschedule(run_at) => self.run_at != run_at.as_micros(),
            EditAction::Retry | EditAction::Delete => true,
        }
    }
}

pub(in crate::backend::sql) fn edit<C: Conn>(conn: &mut C, edit: &Edit) -> Result<EditReport, Abort> {
    let mut report = EditReport::default();
    let mut woken = BTreeSet::new();
    let rows = match &edit.selection {
        Selection::Ids(ids) => by_ids(conn, ids)?,
        Selection::Filter(filter) => by_filter(conn, filter, edit, &mut report.next)?,
    };
    for row in rows {
        // The previous edit may have taken the key that this task needs.
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

/// The tasks with these ids, locked.
///
/// # Errors
/// [`Abort::Busy`] when a concurrent transaction changes any of them.
fn by_ids<C: Conn>(conn: &mut C, ids: &[TaskId]) -> Result<Vec<Row>, Abort> {
    let mut seen = HashSet::new();
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids.iter().filter(|id| seen.insert(**id)) {
        let id = id.to_string();
        match conn.first::<ByIdIfFree, Row>(&[Value::Text(&id)])? {
            Some(row) => rows.push(row),
            None if conn.first::<PlaceOf, (i64,)>(&[Value::Text(&id)])?.is_some() => return Err(Abort::Busy),
            None => {}
        }
    }
    Ok(rows)
}

/// The tasks to change among the next [`MOST_LOOKED_AT`] values of `seq`. The search ends before the first task that a
/// concurrent transaction changes.
///
/// # Errors
/// [`Abort::Busy`] when that is the very first task.
fn by_filter<C: Conn>(
    conn: &mut C,
    filter: &TaskFilter,
    edit: &Edit,
    next: &mut Option<Cursor>,
) -> Result<Vec<Row>, Abort> {
    let mut found: Vec<Row> = Vec::new();
    let Some(filter) = filter.narrowed(&edit.action) else { return Ok(found) };
    let begin = edit.after.map_or(i64::MIN, Cursor::seq);
    // Many values of `seq` may have no row.
    let Some(first) = first_behind(conn, begin)? else { return Ok(found) };
    let last = first.saturating_add(MOST_LOOKED_AT as i64 - 1);
    let query = Query::new(conn, &filter)?;
    let mut after = begin;
    while let Some(page) = Page::read(conn, &query, after, last)? {
        for row in page.rows {
            if !row.would_change(&edit.action) || !row.can(conn, edit)? {
                continue;
            }
            if found.len() == edit.limit {
                *next = found.last().map(|row| Cursor::after(row.seq)).or(edit.after);
                return Ok(found);
            }
            found.push(row);
        }
        if let Some(held) = page.held {
            if held == first {
                return Err(Abort::Busy);
            }
            *next = Some(Cursor::after(held - 1));
            return Ok(found);
        }
        after = page.end;
    }
    *next = first_behind(conn, last)?.map(|_| Cursor::after(last));
    Ok(found)
}

/// A page of the tasks that match a filter, in the order of `seq`.
struct Page {
    /// The rows, locked.
    rows: Vec<Row>,
    /// The `seq` of the first task that a concurrent transaction changes. `rows` has only the rows before it.
    held: Option<i64>,
    /// The last `seq` that was read.
    end: i64,
}

impl Page {
    /// The next page after a `seq`. `None` when no task is left.
    fn read<C: Conn>(conn: &mut C, query: &Query, after: i64, last: i64) -> QueryResult<Option<Self>> {
        let mut read = |last, lock| {
            let stretch =
                Stretch { order: TaskOrder::OldestFirst, after: Some(after), last: Some(last), limit: PAGE };
            query.page::<_, RowTypes, Row>(conn, COLUMNS, stretch, lock)
        };
        // The tasks are found without a lock first, because the locking read skips locked rows instead of waiting.
        let seen = read(last, "")?;
        let Some(end) = seen.last().map(|row| row.seq) else { return Ok(None) };
        if !C::DIALECT.skips_locked_rows() {
            return Ok(Some(Self { rows: seen, held: None, end }));
        }
        let mut rows = read(end, "{skip}")?;
        let locked: HashSet<i64> = rows.iter().map(|row| row.seq).collect();
        let is_missing = |row: &Row| !locked.contains(&row.seq);
        let mut held = None;
        if seen.iter().any(is_missing) {
            // A missing row may only have changed meanwhile, and no longer match.
            held = read(end, "")?.into_iter().find(is_missing).map(|row| row.seq);
        }
        if let Some(held) = held {
            rows.retain(|row| row.seq < held);
        }
        Ok(Some(Self { rows, held, end }))
    }
}

fn first_behind<C: Conn>(conn: &mut C, place: i64) -> QueryResult<Option<i64>> {
    Ok(conn.first::<FirstBehind, (Option<i64>,)>(&[Value::Int(place)])?.and_then(|(first,)| first))
}

fn act<C: Conn>(conn: &mut C, row: &Row, edit: &Edit, woken: &mut BTreeSet<Name>) -> Result<(), Abort> {
    let (seq, now) = (Value::Int(row.seq), Value::Int(edit.now.as_micros()));
    match &edit.action {
        EditAction::Cancel(reason) if row.state() == TaskState::Running => {
            conn.run::<AskCancel>(&[seq, Value::Text(reason)])?;
        }
        EditAction::Cancel(reason) => {
            conn.run::<Cancel>(&[seq, Value::Text(reason), now])?;
            unique::free(conn, &row.task_id, edit.now, woken)?;
        }
        EditAction::Retry => retry(conn, row, edit.now, woken)?,
        EditAction::Delete => {
            unique::free(conn, &row.task_id, edit.now, woken)?;
            prune::delete(conn, &[(row.seq, row.task_id.to_string())])?;
        }
        EditAction::Reprioritise(priority) => {
            conn.run::<Reprioritise>(&[seq, Value::Int((*priority).into())])?;
        }
        EditAction::Reschedule(run_at) => reschedule(conn, row, *run_at, edit.now, woken)?,
    }
    Ok(())
}

fn retry<C: Conn>(conn: &mut C, row: &Row, now: Timestamp, woken: &mut BTreeSet<Name>) -> Result<(), Abort> {
    let (seq, time) = (Value::Int(row.seq), Value::Int(now.as_micros()));
    if row.state().is_terminal() {
        unique::take(conn, row.seq, row.key(), now)?;
        let stored = row.key().map(held_key);
        conn.run::<RetryAnew>(&[seq, time, Value::MaybeText(stored.as_deref())])?;
    } else {
        conn.run::<RetryNow>(&[seq, time])?;
    }
    woken.insert(row.queue.clone().into());
    Ok(())
}

fn reschedule<C: Conn>(
    conn: &mut C,
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
    conn.run::<Reschedule>(&values)?;
    if state == TaskState::Pending && before != state {
        woken.insert(row.queue.clone().into());
    }
    Ok(())
}
