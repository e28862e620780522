//! A connection to SQLite.

use std::fmt::Write;

use diesel::QueryResult;
use diesel::sql_types::BigInt;
use diesel::sqlite::SqliteConnection;

use super::{due, error_map};
use crate::backend::sql::conn::{Conn, statements_by_diesel};
use crate::backend::sql::dialect::{Dialect, placeholders};
use crate::backend::sql::errors::Abort;
use crate::backend::sql::statement::{Value, run_sized, sized_statements, statements};
use crate::backend::sql::work::{Batch, Glance, NewRow, bulk};
use crate::backend::{BackendError, Sweep};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::TaskState;

statements! {
    /// The highest place in push order that was ever given out.
    LastSeq -> (BigInt,): "SELECT max(coalesce((SELECT max(seq) FROM task_queue), 0),
        coalesce((SELECT last FROM task_sequence WHERE name = 'task_queue'), 0))";
    /// Run before the newest row is deleted, so that its place in push order is never given out again.
    Mark -> (): "UPDATE task_sequence SET last = ?1 WHERE name = 'task_queue' AND last < ?1
        AND NOT EXISTS (SELECT 1 FROM task_queue WHERE seq > ?1)";
}

sized_statements! {
    /// Tasks without extras. A task with a known id is not inserted, and the number of inserted rows shows it.
    InsertPlain: |rows: usize| {
        let mut sql = String::from("INSERT OR IGNORE INTO task_queue (state, node, claim_token, started_at,
            crash_count, updated_at, seq, task_id, queue, type, params, priority, run_at, max_attempts, timeout,
            retry, created_at) VALUES ");
        for row in 0..rows {
            let comma = if row > 0 { "," } else { "" };
            write!(sql, "{comma}(?1,?2,?3,?4,?5,?6,{})", placeholders(row * 11 + 7, 11))
                .expect("writing to a string does not fail");
        }
        sql
    };
}

impl Conn for SqliteConnection {
    const DIALECT: Dialect = Dialect::Sqlite;
    const MOST_ROWS: usize = 64;

    statements_by_diesel!(SqliteReads, SqliteReadsOnce);

    fn meaning(operation: &'static str, error: &diesel::result::Error, sent: bool) -> BackendError {
        error_map::meaning(operation, error, sent)
    }

    fn settle(batch: &mut Batch<'_, Self>) -> Result<(), Abort> {
        bulk::settle(batch)
    }

    fn insert(batch: &mut Batch<'_, Self>, rows: &[NewRow<'_>]) -> Result<Vec<i64>, Abort> {
        let first = last_seq(batch.conn)? + 1;
        let mut next = first..;
        bulk::insert(
            batch,
            rows,
            || next.next(),
            |conn, rows, _, values| {
                if run_sized!(conn, InsertPlain, rows, values)? == rows { Ok(()) } else { Err(Abort::Surprise) }
            },
        )?;
        let running = (first..next.start).zip(rows).filter(|(_, row)| row.state == TaskState::Running);
        Ok(running.map(|(seq, _)| seq).collect())
    }

    fn next_seq(&mut self) -> QueryResult<Option<i64>> {
        Ok(Some(last_seq(self)? + 1))
    }

    fn last_seq(&mut self) -> QueryResult<i64> {
        last_seq(self)
    }

    fn start(batch: &mut Batch<'_, Self>, seqs: &[i64]) -> Result<(), Abort> {
        bulk::start(batch, seqs)
    }

    fn promote(&mut self, now: Timestamp, limit: usize) -> QueryResult<(usize, Vec<Name>)> {
        due::promote(self, now, limit)
    }

    fn glance(&mut self, sweep: &Sweep) -> QueryResult<Glance> {
        let due = due::due(self, sweep.now)?;
        Glance::by_parts(self, sweep, due)
    }

    fn oldest_finished(&mut self, state: TaskState, before: i64, limit: usize) -> QueryResult<Vec<(i64, i64)>> {
        due::oldest_finished(self, state, before, limit)
    }

    /// Does nothing, because the data version of the file changes with every write.
    fn mark_change(&mut self) -> QueryResult<()> {
        Ok(())
    }

    fn before_delete(&mut self, last: i64) -> QueryResult<()> {
        self.run::<Mark>(&[Value::Int(last)]).map(drop)
    }
}

fn last_seq(conn: &mut SqliteConnection) -> QueryResult<i64> {
    Ok(conn.first::<LastSeq, (i64,)>(&[])?.map_or(0, |(last,)| last))
}
