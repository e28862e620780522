//! The ends of runs.

use std::fmt::Write;

use diesel::RunQueryDsl;

use super::commit::Batch;
use super::errors::Abort;
use super::unique;
use crate::backend::sql::statement::{Value, bind, chunks, execute_sized, sized_statements, statements};
use crate::backend::sql::text::EMPTY_ID;
use crate::backend::{ExecutionEnd, Settled, Settlement};
use crate::task::{ClaimToken, TaskState};

statements! {
    /// What was said stays when this run says nothing: its result, its error, and the reason of its cancel. A task
    /// that would run again although its cancel was asked for is cancelled.
    SettleOne -> (): "UPDATE task_queue SET
        state = CASE WHEN ?8 IS NULL AND cancel_reason IS NOT NULL THEN 'cancelled' ELSE ?1 END,
        run_at = coalesce(?2, run_at), attempt = ?3,
        crash_count = CASE WHEN ?4 THEN 0 ELSE max(crash_count - 1, 0) END,
        result = coalesce(?5, result),
        last_error = coalesce(CASE WHEN ?8 IS NULL THEN cancel_reason END, ?6,
            CASE WHEN ?1 = 'cancelled' THEN cancel_reason END, last_error),
        node = NULL, claim_token = NULL, cancel_reason = NULL, updated_at = ?7,
        finished_at = CASE WHEN cancel_reason IS NOT NULL THEN ?7 ELSE ?8 END
        WHERE seq = ?9 AND claim_token = ?10 AND task_id = ?11 AND state = 'running'";
}

sized_statements! {
    /// Tasks of one claim that were completed at the same attempt and left nothing to keep: the usual case.
    Complete: |rows: usize| {
        let mut sql = String::from("UPDATE task_queue SET state = 'completed', attempt = ?1, crash_count = 0,
            node = NULL, claim_token = NULL, cancel_reason = NULL, updated_at = ?2, finished_at = ?2
            WHERE claim_token = ?3 AND state = 'running' AND seq IN (");
        for row in 0..rows {
            let comma = if row > 0 { "," } else { "" };
            write!(sql, "{comma}?{}", row + 4).expect("writing to a string does not fail");
        }
        sql + ")"
    };
    /// The same with results. A search through the CASE for each row costs less than a statement for each row.
    CompleteWith: |rows: usize| {
        let seqs = |between: &str| -> String {
            (0..rows).map(|row| format!("{}?{}", if row > 0 { between } else { "" }, row * 2 + 4)).collect()
        };
        let cases: String = (0..rows).map(|row| format!(" WHEN ?{} THEN ?{}", row * 2 + 4, row * 2 + 5)).collect();
        format!("UPDATE task_queue SET state = 'completed', result = CASE seq{cases} END, attempt = ?1,
            crash_count = 0, node = NULL, claim_token = NULL, cancel_reason = NULL, updated_at = ?2, finished_at = ?2
            WHERE claim_token = ?3 AND state = 'running' AND seq IN ({})", seqs(","))
    };
    /// Nothing is there under a token that was just cleared, so a conflict is no error but a repetition. It also
    /// spares the copy of all pages that a statement which may fail in its middle makes.
    AddExecutions: |rows: usize| {
        let mut sql = String::from("INSERT OR IGNORE INTO task_execution (node, task_id, execution_id, attempt, status,
            started_at, finished_at, result, error_message) VALUES ");
        for row in 0..rows {
            let (comma, first) = (if row > 0 { "," } else { "" }, row * 8 + 2);
            write!(
                sql,
                "{comma}(?1,?{},?{},?{},?{},?{},?{},?{},?{})",
                first, first + 1, first + 2, first + 3, first + 4, first + 5, first + 6, first + 7
            )
            .expect("writing to a string does not fail");
        }
        sql
    };
}

/// Settlements that one statement can write.
struct Group<'a> {
    token: ClaimToken,
    attempt: u32,
    /// Whether the runs left results. Runs of one type either do or do not.
    results: bool,
    rows: Vec<(i64, Option<&'a str>)>,
}

impl<'a> Group<'a> {
    /// The group that a settlement would be in, when it is of the usual kind: completed without an error.
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

impl Batch<'_> {
    pub(super) fn settle(&mut self) -> Result<(), Abort> {
        let commit = self.commit;
        if commit.settle.is_empty() {
            return Ok(());
        }
        self.receipt.settled.reserve(commit.settle.len());
        let mut groups: Vec<Group<'_>> = Vec::new();
        for settlement in &commit.settle {
            let settled = match Group::of(settlement) {
                Some(group) if !self.careful => {
                    gather(&mut groups, group);
                    Settled::Accepted
                }
                _ => self.settle_one(settlement)?,
            };
            self.receipt.settled.push(settled);
        }
        for group in &groups {
            self.complete(group)?;
        }
        self.add_executions()?;
        self.free_waiting()
    }

    fn complete(&mut self, group: &Group<'_>) -> Result<(), Abort> {
        for rows in chunks(&group.rows) {
            let mut values = Vec::with_capacity(3 + 2 * rows.len());
            values.extend([Value::Int(group.attempt.into()), self.now(), Value::Int(group.token.as_i64())]);
            let changed = if group.results {
                values.extend(rows.iter().flat_map(|(seq, result)| [Value::Int(*seq), Value::MaybeText(*result)]));
                execute_sized!(CompleteWith, rows.len(), &values, self.conn)?
            } else {
                values.extend(rows.iter().map(|(seq, _)| Value::Int(*seq)));
                execute_sized!(Complete, rows.len(), &values, self.conn)?
            };
            if changed != rows.len() {
                return Err(Abort::Surprise);
            }
        }
        Ok(())
    }

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
        let rows = bind::<SettleOne>(&values).execute(self.conn)?;
        Ok(if rows > 0 { Settled::Accepted } else { Settled::Fenced })
    }

    /// Writes the history of the runs that were settled.
    fn add_executions(&mut self) -> Result<(), Abort> {
        let commit = self.commit;
        let accepted = commit.settle.iter().zip(&self.receipt.settled).filter(|(_, s)| **s == Settled::Accepted);
        let ends: Vec<(&Settlement, &ExecutionEnd)> =
            accepted.filter_map(|(settlement, _)| Some((settlement, settlement.execution.as_ref()?))).collect();
        for ends in chunks(&ends) {
            let mut ids = [EMPTY_ID; 64];
            let mut values = Vec::with_capacity(1 + 8 * ends.len());
            values.push(Value::Text(&self.node));
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
            execute_sized!(AddExecutions, ends.len(), &values, self.conn)?;
        }
        Ok(())
    }

    /// Lets the tasks go on that waited for one which came to its end.
    fn free_waiting(&mut self) -> Result<(), Abort> {
        let commit = self.commit;
        let accepted = commit.settle.iter().zip(&self.receipt.settled).filter(|(_, s)| **s == Settled::Accepted);
        let mut ended = accepted.filter(|(settlement, _)| settlement.state.is_terminal()).peekable();
        if ended.peek().is_none() || !unique::any_waiting(self.conn)? {
            return Ok(());
        }
        for (settlement, _) in ended {
            let freed = unique::free_followers(self.conn, &settlement.task_id.to_string(), commit.now)?;
            self.receipt.freed_waiting |= !freed.is_empty();
        }
        Ok(())
    }
}

fn gather<'a>(groups: &mut Vec<Group<'a>>, new: Group<'a>) {
    // The latest group first: runs of one claim end close together.
    match groups.iter_mut().rev().find(|group| group.takes(&new)) {
        Some(group) => group.rows.extend(new.rows),
        None => groups.push(new),
    }
}
