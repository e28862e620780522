//! A connection to MySQL or MariaDB.

use std::fmt::Write;

use diesel::QueryResult;
use diesel::mysql::MysqlConnection;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Text};

use super::error_map::MESSAGES;
use crate::backend::sql::conn::{Conn, statements_by_diesel};
use crate::backend::sql::dialect::{Dialect, placeholders};
use crate::backend::sql::errors::Abort;
use crate::backend::sql::poll;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, run_sized, sized_statements, statements};
use crate::backend::sql::work::{Batch, Glance, InsertNext, Kept, NewRow, bulk};
use crate::backend::{BackendError, Sweep};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::TaskState;

statements! {
    ServerTime -> (BigInt,): "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
    /// The number of the first row that the last statement inserted, and the step from there to the next number.
    Numbers -> (BigInt, BigInt): "SELECT CAST(LAST_INSERT_ID() AS SIGNED),
        CAST(@@SESSION.auto_increment_increment AS SIGNED)";
    /// Also sees a row that is not committed yet. An insert would wait for that row, in the gap before its key. For the
    /// smallest of all keys, that is the gap into which all tasks without a key are inserted.
    KeyNow -> (BigInt,): "SELECT seq FROM task_queue WHERE unique_key = ?1 FOR UPDATE NOWAIT";
    Due -> (BigInt, Text): "SELECT seq, queue FROM task_queue WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2 {skip}";
    Finished -> (BigInt, BigInt): "SELECT finished_at, seq FROM task_queue WHERE ended = ?1 AND finished_at < ?2
        ORDER BY finished_at, seq LIMIT ?3";
}

sized_statements! {
    /// Tasks without extras. A known task id is an error, and the batch is then repeated row by row.
    InsertPlain: |rows: usize| {
        let mut sql = String::from("INSERT INTO task_queue (state, node, claim_token, started_at, crash_count,
            updated_at, task_id, queue, type, params, priority, run_at, max_attempts, timeout, retry, created_at)
            VALUES ");
        for row in 0..rows {
            let comma = if row > 0 { "," } else { "" };
            write!(sql, "{comma}(?1,?2,?3,?4,?5,?6,{})", placeholders(row * 10 + 7, 10))
                .expect("writing to a string does not fail");
        }
        sql
    };
    Promote: |rows: usize| format!("UPDATE task_queue SET state = 'pending', updated_at = ?1 WHERE seq IN ({})",
        placeholders(2, rows));
}

impl Conn for MysqlConnection {
    const DIALECT: Dialect = Dialect::Mysql;
    const MOST_ROWS: usize = 256;

    statements_by_diesel!(MysqlReads, MysqlReadsOnce);

    fn time(&mut self) -> QueryResult<Option<Timestamp>> {
        let time = self.first::<ServerTime, (i64,)>(&[])?;
        Ok(time.map(|(micros,)| Timestamp::from_micros(micros)))
    }

    fn meaning(operation: &'static str, error: &Error, sent: bool) -> BackendError {
        MESSAGES.meaning(operation, error, sent)
    }

    fn settle(batch: &mut Batch<'_, Self>) -> Result<(), Abort> {
        bulk::settle(batch)
    }

    fn insert(batch: &mut Batch<'_, Self>, rows: &[NewRow<'_>]) -> Result<Vec<i64>, Abort> {
        let mut seqs = Vec::new();
        let none = || None;
        let alone = batch.alone;
        bulk::insert(batch, rows, none, |conn, rows, state, values| {
            match run_sized!(conn, InsertPlain, rows, values) {
                Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => return Err(Abort::Surprise),
                outcome => outcome?,
            };
            // Reading the numbers is a round trip, so it is done only for running tasks, which need them.
            if state == TaskState::Running {
                let numbers = numbers(conn).map_err(|error| match alone {
                    // The task is stored already, and is running on this node according to storage.
                    true => Abort::Failed(BackendError::Unknown { operation: "commit", message: error.to_string() }),
                    false => Abort::Sql(error),
                });
                let (first, step) = numbers?;
                seqs.extend((0..rows as i64).map(|place| first + place * step));
            }
            Ok(())
        })?;
        Ok(seqs)
    }

    fn gave_up_waiting(error: &Error) -> bool {
        MESSAGES.gave_up_waiting(error)
    }

    fn insert_fresh(&mut self, key: &str, values: &[Value<'_>]) -> Result<Kept<()>, Abort> {
        match self.first::<KeyNow, (i64,)>(&[Value::Text(key)]) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(Kept::Taken),
            Err(error) if MESSAGES.gave_up_waiting(&error) => return Ok(Kept::Busy),
            Err(error) => return Err(error.into()),
        }
        match self.run::<InsertNext>(values) {
            Ok(_) => Ok(Kept::Stored(())),
            Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(Kept::Taken),
            Err(error) => Err(error.into()),
        }
    }

    fn last_seq(&mut self) -> QueryResult<i64> {
        Ok(numbers(self)?.0)
    }

    fn start(batch: &mut Batch<'_, Self>, seqs: &[i64]) -> Result<(), Abort> {
        bulk::start(batch, seqs)
    }

    fn promote(&mut self, now: Timestamp, limit: usize) -> QueryResult<(usize, Vec<Name>)> {
        let limit = Value::Int(i64::try_from(limit).unwrap_or(i64::MAX));
        let due: Vec<(i64, StoredText)> = self.load::<Due, _>(&[Value::Int(now.as_micros()), limit])?;
        for due in crate::backend::sql::statement::chunks(&due, Self::MOST_ROWS) {
            let mut values = vec![Value::Int(now.as_micros())];
            values.extend(due.iter().map(|(seq, _)| Value::Int(*seq)));
            run_sized!(self, Promote, due.len(), &values)?;
        }
        let promoted = due.len();
        let mut queues: Vec<StoredText> = due.into_iter().map(|(_, queue)| queue).collect();
        queues.sort_unstable();
        queues.dedup();
        Ok((promoted, queues.into_iter().map(Name::from).collect()))
    }

    fn glance(&mut self, sweep: &Sweep) -> QueryResult<Glance> {
        Glance::at_once(self, sweep)
    }

    fn oldest_finished(&mut self, state: TaskState, before: i64, limit: usize) -> QueryResult<Vec<(i64, i64)>> {
        let limit = Value::Int(i64::try_from(limit).unwrap_or(i64::MAX));
        self.load::<Finished, _>(&[Value::Text(state.as_str()), Value::Int(before), limit])
    }

    fn mark_change(&mut self) -> QueryResult<()> {
        poll::mark(self)
    }
}

fn numbers(conn: &mut MysqlConnection) -> QueryResult<(i64, i64)> {
    conn.first::<Numbers, (i64, i64)>(&[])?.ok_or(Error::NotFound)
}
