//! Statements for many rows with a placeholder for each value, for databases that have no arrays.

use std::borrow::Cow;
use std::fmt::Write;

use diesel::QueryResult;
use diesel::sql_types::BigInt;

use super::commit::Batch;
use super::insert::{NewRow, begin, columns};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::dialect::placeholders;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::statement::{Value, chunks, chunks_within, run_sized, sized_statements, statements};
use crate::backend::sql::text::{EMPTY_ID, retry_text};
use crate::backend::{ExecutionEnd, Settled, Settlement};
use crate::task::{ClaimToken, TaskState};

/// The most rows of [`chunks`].
const MOST: usize = 256;
/// Bytes of a row in a statement besides its long texts, a generous estimate.
const ROW_BYTES: usize = 1_024;

statements! {
    /// If this run gives no result, error or cancel reason, the stored values stay. A task that would run again
    /// although its cancel was requested becomes cancelled. Assignments that read a column stand before the assignment
    /// that writes it, because MySQL sets the columns in order.
    SettleOne -> (): "UPDATE task_queue SET
        run_at = coalesce(?2, run_at), attempt = ?3,
        crash_count = CASE WHEN ?4 = 1 THEN 0 WHEN crash_count > 0 THEN crash_count - 1 ELSE 0 END,
        result = coalesce(?5, result),
        last_error = coalesce(CASE WHEN ?8 IS NULL THEN cancel_reason END, ?6,
            CASE WHEN ?1 = 'cancelled' THEN cancel_reason END, last_error),
        finished_at = CASE WHEN cancel_reason IS NOT NULL THEN ?7 ELSE ?8 END,
        state = CASE WHEN ?8 IS NULL AND cancel_reason IS NOT NULL THEN 'cancelled' ELSE ?1 END,
        node = NULL, claim_token = NULL, cancel_reason = NULL, updated_at = ?7
        WHERE seq = ?9 AND claim_token = ?10 AND task_id = ?11 AND state = 'running'";
}

sized_statements! {
    /// Completed tasks of a single claim at the same attempt, without results: the usual case.
    Complete: |rows: usize| {
        format!("UPDATE task_queue SET state = 'completed', attempt = ?1, crash_count = 0,
            node = NULL, claim_token = NULL, cancel_reason = NULL, updated_at = ?2, finished_at = ?2
            WHERE claim_token = ?3 AND state = 'running' AND seq IN ({})", placeholders(4, rows))
    };
    /// The same with results. Evaluating the CASE for each row costs less than a statement for each row.
    CompleteWith: |rows: usize| {
        let seqs = |between: &str| -> String {
            (0..rows).map(|row| format!("{}?{}", if row > 0 { between } else { "" }, row * 2 + 4)).collect()
        };
        let cases: String = (0..rows).map(|row| format!(" WHEN ?{} THEN ?{}", row * 2 + 4, row * 2 + 5)).collect();
        format!("UPDATE task_queue SET state = 'completed', result = CASE seq{cases} END, attempt = ?1,
            crash_count = 0, node = NULL, claim_token = NULL, cancel_reason = NULL, updated_at = ?2, finished_at = ?2
            WHERE claim_token = ?3 AND state = 'running' AND seq IN ({})", seqs(","))
    };
    /// The token was cleared just now, so the history has no row under it yet. A conflict is therefore a repeated
    /// write, not an error. In SQLite, `OR IGNORE` also saves the copy of all pages that a statement makes when it may
    /// fail midway.
    AddExecutions: |rows: usize| {
        let mut sql = String::from("INSERT OR IGNORE INTO task_execution (node, task_id, execution_id, attempt, status,
            started_at, finished_at, result, error_message) VALUES ");
        for row in 0..rows {
            let comma = if row > 0 { "," } else { "" };
            write!(sql, "{comma}(?1,{})", placeholders(row * 8 + 2, 8)).expect("writing to a string does not fail");
        }
        sql
    };
    Start: |rows: usize| {
        format!("UPDATE task_queue SET state = 'running', node = ?1, claim_token = ?2, started_at = ?3, updated_at = ?3,
            crash_count = crash_count + 1 WHERE seq IN ({})", placeholders(4, rows))
    };
}

/// Settlements that a single statement can write.
struct Group<'a> {
    token: ClaimToken,
    attempt: u32,
    /// Whether the runs returned results. Runs of the same type either all do or all do not.
    results: bool,
    rows: Vec<(i64, Option<&'a str>)>,
}

impl<'a> Group<'a> {
    /// The group for a settlement of the usual kind: completed without an error. Otherwise `None`.
    fn of(settlement: &'a Settlement) -> Option<Self> {
        let end = settlement.execution.as_ref()?;
        if settlement.state != TaskState::Completed || end.error.is_some() {
            return None;
        }
        let (token, attempt, result) = (settlement.token, settlement.attempt, end.result.as_deref());
        Some(Self { token, attempt, results: result.is_some(), rows: vec![(settlement.seq, result)] })
    }

    fn takes(&self, other: &Self) -> bool {
        (self.token, self.attempt, self.results) == (other.token, other.attempt, other.results)
    }
}

fn gather<'a>(groups: &mut Vec<Group<'a>>, new: Group<'a>) {
    // The latest group first, because runs of the same claim end close together.
    match groups.iter_mut().rev().find(|group| group.takes(&new)) {
        Some(group) => group.rows.extend(new.rows),
        None => groups.push(new),
    }
}

pub(in crate::backend::sql) fn settle<C: Conn>(batch: &mut Batch<'_, C>) -> Result<(), Abort> {
    let commit = batch.commit;
    batch.receipt.settled.reserve(commit.settle.len());
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (settlement, busy) in commit.settle.iter().zip(batch.busy_ends()?) {
        let settled = match Group::of(settlement) {
            _ if busy => Settled::Busy,
            Some(group) if !batch.careful => {
                gather(&mut groups, group);
                Settled::Accepted
            }
            _ => batch.settle_one(settlement)?,
        };
        batch.receipt.settled.push(settled);
    }
    for group in &mut groups {
        // Sorted by `seq`, so that two commits which share rows lock them in the same order.
        group.rows.sort_unstable();
        complete(batch, group)?;
    }
    add_executions(batch)?;
    batch.find_called_off()?;
    batch.free_waiting()
}

fn complete<C: Conn>(batch: &mut Batch<'_, C>, group: &Group<'_>) -> Result<(), Abort> {
    let size_of = |row: &(i64, Option<&str>)| ROW_BYTES + row.1.map_or(0, str::len);
    for rows in chunks_within(&group.rows, C::MOST_ROWS, batch.most_bytes(), size_of) {
        let mut values = Vec::with_capacity(3 + 2 * rows.len());
        values.extend([Value::Int(group.attempt.into()), batch.now(), Value::Int(group.token.as_i64())]);
        let changed = if group.results {
            values.extend(rows.iter().flat_map(|(seq, result)| [Value::Int(*seq), Value::MaybeText(*result)]));
            run_sized!(batch.conn, CompleteWith, rows.len(), &values)?
        } else {
            values.extend(rows.iter().map(|(seq, _)| Value::Int(*seq)));
            run_sized!(batch.conn, Complete, rows.len(), &values)?
        };
        if changed != rows.len() {
            return Err(Abort::Surprise);
        }
    }
    Ok(())
}

/// Writes the history of the settled runs.
fn add_executions<C: Conn>(batch: &mut Batch<'_, C>) -> Result<(), Abort> {
    let size_of = |(_, end): &(&Settlement, &ExecutionEnd)| {
        ROW_BYTES + [&end.result, &end.error].into_iter().flatten().map(|text| text.len()).sum::<usize>()
    };
    for ends in chunks_within(&batch.ends(), C::MOST_ROWS, batch.most_bytes(), size_of) {
        let mut ids = [EMPTY_ID; MOST];
        let mut values = Vec::with_capacity(1 + 8 * ends.len());
        values.push(Value::Text(&batch.node));
        for ((settlement, end), id) in ends.iter().zip(&mut ids) {
            values.extend([
                Value::Text(settlement.task_id.as_uuid().as_hyphenated().encode_lower(id)),
                Value::Int(settlement.token.as_i64()),
                Value::Int(end.attempt.into()),
                Value::Text(end.status.as_str()),
                Value::Int(end.started_at.as_micros()),
                Value::Int(end.finished_at.as_micros()),
                Value::MaybeText(end.result.as_deref()),
                Value::MaybeText(end.error.as_deref()),
            ]);
        }
        run_sized!(batch.conn, AddExecutions, ends.len(), &values)?;
    }
    Ok(())
}

impl<'a, C: Conn> Batch<'a, C> {
    fn settle_one(&mut self, settlement: &Settlement) -> Result<Settled, Abort> {
        if !TaskState::Running.may_become(settlement.state) {
            return Ok(Settled::Fenced);
        }
        let terminal = settlement.state.is_terminal();
        let end = settlement.execution.as_ref();
        let mut id = EMPTY_ID;
        let values = [
            Value::Text(settlement.state.as_str()),
            Value::MaybeInt((!terminal).then(|| settlement.run_at.as_micros())),
            Value::Int(settlement.attempt.into()),
            Value::Int(end.is_some().into()),
            Value::MaybeText(end.and_then(|end| end.result.as_deref())),
            Value::MaybeText(end.and_then(|end| end.error.as_deref())),
            self.now(),
            Value::MaybeInt(terminal.then(|| self.commit.now.as_micros())),
            Value::Int(settlement.seq),
            Value::Int(settlement.token.as_i64()),
            Value::Text(settlement.task_id.as_uuid().as_hyphenated().encode_lower(&mut id)),
        ];
        let rows = self.conn.run::<SettleOne>(&values)?;
        Ok(if rows > 0 { Settled::Accepted } else { Settled::Fenced })
    }

    /// Reports `Cancelled` for tasks that were to run again and were cancelled instead.
    fn find_called_off(&mut self) -> QueryResult<()> {
        // The program made these numbers itself, so they are safe in the SQL text.
        let again = self.accepted().filter(|settlement| !settlement.state.is_terminal());
        let again: Vec<String> = again.map(|settlement| settlement.seq.to_string()).collect();
        if again.is_empty() {
            return Ok(());
        }
        let sql = format!("SELECT seq FROM task_queue WHERE seq IN ({}) AND state = 'cancelled'", again.join(","));
        let called_off: Vec<(i64,)> = self.conn.load_once::<(BigInt,), _>(&sql, &[])?;
        for (settlement, settled) in self.commit.settle.iter().zip(&mut self.receipt.settled) {
            let again = *settled == Settled::Accepted && !settlement.state.is_terminal();
            if again && called_off.contains(&(settlement.seq,)) {
                *settled = Settled::Cancelled;
            }
        }
        Ok(())
    }

    /// The accepted settlements, with their history entries.
    fn ends(&self) -> Vec<(&'a Settlement, &'a ExecutionEnd)> {
        let accepted = self.accepted();
        accepted.filter_map(|settlement| Some((settlement, settlement.execution.as_ref()?))).collect()
    }
}

/// Writes the claim to the tasks with these `seq`.
pub(in crate::backend::sql) fn start<C: Conn>(batch: &mut Batch<'_, C>, seqs: &[i64]) -> Result<(), Abort> {
    for seqs in chunks(seqs, C::MOST_ROWS) {
        let mut values = Vec::with_capacity(3 + seqs.len());
        values.extend([Value::Text(&batch.node), Value::Int(batch.commit.token.as_i64()), batch.starts_at()]);
        values.extend(seqs.iter().map(|seq| Value::Int(*seq)));
        run_sized!(batch.conn, Start, seqs.len(), &values)?;
    }
    Ok(())
}

/// Passes rows to `write` in chunks that fit into a statement; all rows of a chunk have the same state. The values
/// begin with the six that all rows share. Then, for each row, follow the value that `first` gives and its ten own
/// values.
pub(in crate::backend::sql) fn insert<C: Conn>(
    batch: &mut Batch<'_, C>,
    rows: &[NewRow<'_>],
    mut first: impl FnMut() -> Option<i64>,
    mut write: impl FnMut(&mut C, usize, TaskState, &[Value<'_>]) -> Result<(), Abort>,
) -> Result<(), Abort> {
    for rows in rows.chunk_by(|a, b| a.state == b.state) {
        let size_of = |row: &NewRow<'_>| ROW_BYTES + row.spec.params.len();
        for rows in chunks_within(rows, C::MOST_ROWS, batch.most_bytes(), size_of) {
            let mut ids = [EMPTY_ID; MOST];
            let retries: Vec<Cow<'_, str>> = rows.iter().map(|row| retry_text(&row.spec.retry)).collect();
            let mut values = Vec::with_capacity(6 + 11 * rows.len());
            values.extend(begin(batch.commit, &batch.node, rows[0].state));
            for ((row, id), retry) in rows.iter().zip(&mut ids).zip(&retries) {
                values.extend(first().map(Value::Int));
                values.extend(columns(row.spec, row.spec.task_id.as_uuid().as_hyphenated().encode_lower(id), retry));
            }
            write(batch.conn, rows.len(), rows[0].state, &values)?;
        }
    }
    Ok(())
}
