//! A connection to PostgreSQL. Values for many rows are passed as arrays, so that a single statement serves any number
//! of rows.

use std::collections::HashSet;

use diesel::QueryResult;
use diesel::pg::PgConnection;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Bool, Text};

use super::connect::LOCK_TIMEOUT;
use super::error_map::MESSAGES;
use crate::backend::sql::conn::{Conn, statements_by_diesel};
use crate::backend::sql::dialect::Dialect;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::poll;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::sql::text::{EMPTY_ID, retry_text};
use crate::backend::sql::work::{Batch, Glance, Kept, NewRow, begin, columns};
use crate::backend::{BackendError, Settled, Settlement, Sweep};

use crate::clock::{Timestamp, micros};
use crate::name::Name;
use crate::task::TaskState;

statements! {
    ServerTime -> (BigInt,): "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    /// Settles runs of every kind and writes their history, by the same rules as `SettleOne` for a single run. `state`
    /// is wrapped in `coalesce` so that rows are found by `seq`. The planner could otherwise choose the index of
    /// running tasks, if statistics call it smaller. Each end would then be compared with all running tasks.
    Settle -> (BigInt, Bool): "WITH r AS (
            SELECT * FROM unnest(?1::bigint[], ?2::bigint[], ?3::text[], ?4::text[], ?5::bigint[], ?6::bigint[],
                ?7::text[], ?8::text[], ?9::bigint[], ?10::text[], ?11::bigint[], ?12::bigint[]) WITH ORDINALITY
            AS r(seq, token, task_id, state, run_at, attempt, result, error, run, status, began, ended, place)
        ), done AS (
            UPDATE task_queue AS t SET
                state = CASE WHEN r.run_at IS NOT NULL AND t.cancel_reason IS NOT NULL THEN 'cancelled'
                    ELSE r.state END,
                run_at = coalesce(r.run_at, t.run_at), attempt = r.attempt,
                crash_count = CASE WHEN r.status IS NOT NULL THEN 0 ELSE greatest(t.crash_count - 1, 0) END,
                result = coalesce(r.result, t.result),
                last_error = coalesce(CASE WHEN r.run_at IS NOT NULL THEN t.cancel_reason END, r.error,
                    CASE WHEN r.state = 'cancelled' THEN t.cancel_reason END, t.last_error),
                finished_at = CASE WHEN t.cancel_reason IS NOT NULL OR r.run_at IS NULL THEN ?13::bigint END,
                node = NULL, claim_token = NULL, cancel_reason = NULL, updated_at = ?13
            FROM r WHERE t.seq = r.seq AND t.claim_token = r.token AND t.task_id = r.task_id
                AND coalesce(t.state, '') = 'running'
            RETURNING r.place, r.run_at IS NOT NULL AND t.state = 'cancelled' AS called_off
        ), history AS (
            INSERT INTO task_execution (task_id, execution_id, attempt, status, node, started_at, finished_at, result,
                error_message)
            SELECT r.task_id, r.token, r.run, r.status, ?14, r.began, r.ended, r.result, r.error
            FROM r JOIN done ON done.place = r.place WHERE r.status IS NOT NULL ON CONFLICT DO NOTHING
        ) SELECT place, called_off FROM done";
    Insert -> (BigInt,): "INSERT INTO task_queue (state, node, claim_token, started_at, crash_count, updated_at,
            task_id, queue, type, params, priority, run_at, max_attempts, timeout, retry, created_at)
        SELECT r.state, CASE WHEN r.state = 'running' THEN ?1 END, CASE WHEN r.state = 'running' THEN ?2::bigint END,
            CASE WHEN r.state = 'running' THEN ?3::bigint END, CASE WHEN r.state = 'running' THEN 1 ELSE 0 END, ?3,
            r.task_id, r.queue, r.type, r.params, r.priority, r.run_at, r.max_attempts, r.timeout, r.retry,
            r.created_at
        FROM unnest(?4::text[], ?5::text[], ?6::text[], ?7::text[], ?8::text[], ?9::bigint[], ?10::bigint[],
            ?11::bigint[], ?12::bigint[], ?13::text[], ?14::bigint[])
        AS r(state, task_id, queue, type, params, priority, run_at, max_attempts, timeout, retry, created_at)
        ON CONFLICT DO NOTHING RETURNING seq";
    /// The same for a single row, without the cost to unpack eleven arrays. On a queue at rest, most inserts have a
    /// single row.
    InsertOne -> (BigInt,): "INSERT INTO task_queue (state, node, claim_token, started_at, crash_count, updated_at,
            task_id, queue, type, params, priority, run_at, max_attempts, timeout, retry, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
        ON CONFLICT DO NOTHING RETURNING seq";
    /// Inserts a task with all its columns, unless a row has its key or its id. If an open transaction stores the same
    /// key or id, this statement waits 5 ms only. Most such transactions have ended by then. It does not wait longer,
    /// because all locks of this transaction are held during the wait.
    InsertFresh -> (Text,): "WITH brief AS MATERIALIZED (SELECT set_config('lock_timeout', '5', true) AS said)
        INSERT INTO task_queue (state, node, claim_token, started_at, crash_count, updated_at,
            task_id, queue, type, params, priority, run_at, max_attempts, timeout, retry, created_at,
            unique_key, unique_rule, unique_until, tags, meta, expires_at, limit_key, parent_id, schedule_id, nominal_at)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
            ?24, ?25, ?26 FROM brief WHERE said IS NOT NULL
        ON CONFLICT DO NOTHING RETURNING set_config('lock_timeout', ?27, true)";
    LockTimeout -> (Text,): "SELECT set_config('lock_timeout', ?1, true)";
    Start -> (): "UPDATE task_queue SET state = 'running', node = ?1, claim_token = ?2, started_at = ?3,
        updated_at = ?3, crash_count = crash_count + 1 WHERE seq = ANY (?4)";
    LastSeq -> (BigInt,): "SELECT currval('task_queue_seq_seq')";
    Promote -> (Text, BigInt): "WITH due AS (
            SELECT seq FROM task_queue WHERE state IN ('scheduled', 'retrying') AND run_at <= ?1
            ORDER BY run_at LIMIT ?2 FOR UPDATE SKIP LOCKED
        ), promoted AS (
            UPDATE task_queue AS t SET state = 'pending', updated_at = ?1 FROM due WHERE t.seq = due.seq
            RETURNING t.queue
        ) SELECT queue, count(*) FROM promoted GROUP BY queue";
    Finished -> (BigInt, BigInt): "SELECT finished_at, seq FROM task_queue
        WHERE finished_at IS NOT NULL AND state = ?1 AND finished_at < ?2 ORDER BY finished_at, seq LIMIT ?3";
}

impl Conn for PgConnection {
    const DIALECT: Dialect = Dialect::Postgres;
    const MOST_ROWS: usize = 256;

    statements_by_diesel!(PostgresReads, PostgresReadsOnce);

    fn time(&mut self) -> QueryResult<Option<Timestamp>> {
        let time = self.first::<ServerTime, (i64,)>(&[])?;
        Ok(time.map(|(micros,)| Timestamp::from_micros(micros)))
    }

    fn meaning(operation: &'static str, error: &Error, sent: bool) -> BackendError {
        MESSAGES.meaning(operation, error, sent)
    }

    fn settle(batch: &mut Batch<'_, Self>) -> Result<(), Abort> {
        let commit = batch.commit;
        let busy = batch.busy_ends()?;
        // Sorted by `seq`, so that two commits which share rows lock them in the same order. A claim that is listed
        // twice is settled once.
        let mut order: Vec<usize> = (0..commit.settle.len()).collect();
        order.sort_by_key(|place| commit.settle[*place].seq);
        let mut seen = HashSet::with_capacity(order.len());
        order.retain(|place| {
            let settlement = &commit.settle[*place];
            !busy[*place]
                && TaskState::Running.may_become(settlement.state)
                && seen.insert((settlement.seq, settlement.token, settlement.task_id))
        });
        let rows: Vec<&Settlement> = order.iter().map(|place| &commit.settle[*place]).collect();
        let done = settle_rows(batch, &rows)?;
        batch.receipt.settled = busy.iter().map(|busy| if *busy { Settled::Busy } else { Settled::Fenced }).collect();
        for (place, settled) in done {
            batch.receipt.settled[order[place]] = settled;
        }
        batch.free_waiting()
    }

    fn insert(batch: &mut Batch<'_, Self>, rows: &[NewRow<'_>]) -> Result<Vec<i64>, Abort> {
        let stored = match rows {
            [row] => insert_one(batch, row)?,
            rows => insert_rows(batch, rows)?,
        };
        if stored.len() < rows.len() {
            return Err(Abort::Surprise);
        }
        let running = stored.into_iter().zip(rows).filter(|(_, row)| row.state == TaskState::Running);
        Ok(running.map(|((seq,), _)| seq).collect())
    }

    fn gave_up_waiting(error: &Error) -> bool {
        MESSAGES.gave_up_waiting(error)
    }

    fn insert_fresh(&mut self, _: &str, values: &[Value<'_>]) -> Result<Kept<()>, Abort> {
        let usual = LOCK_TIMEOUT.as_millis().to_string();
        let values = [values, &[Value::Text(&usual)]].concat();
        match self.first::<InsertFresh, (String,)>(&values) {
            Ok(Some(_)) => Ok(Kept::Stored(())),
            Ok(None) => {
                self.first::<LockTimeout, (String,)>(&[Value::Text(&usual)])?;
                Ok(Kept::Taken)
            }
            Err(error) if MESSAGES.gave_up_waiting(&error) => Ok(Kept::Undone),
            Err(error) => Err(error.into()),
        }
    }

    fn last_seq(&mut self) -> QueryResult<i64> {
        Ok(self.first::<LastSeq, (i64,)>(&[])?.map_or(0, |(seq,)| seq))
    }

    fn start(batch: &mut Batch<'_, Self>, seqs: &[i64]) -> Result<(), Abort> {
        let token = Value::Int(batch.commit.token.as_i64());
        let values = [Value::Text(&batch.node), token, batch.starts_at(), Value::Ints(seqs)];
        batch.conn.run::<Start>(&values)?;
        Ok(())
    }

    fn promote(&mut self, now: Timestamp, limit: usize) -> QueryResult<(usize, Vec<Name>)> {
        let limit = Value::Int(i64::try_from(limit).unwrap_or(i64::MAX));
        let lanes: Vec<(StoredText, i64)> = self.load::<Promote, _>(&[Value::Int(now.as_micros()), limit])?;
        let promoted: i64 = lanes.iter().map(|(_, tasks)| tasks).sum();
        Ok((usize::try_from(promoted).unwrap_or(0), lanes.into_iter().map(|(queue, _)| queue.into()).collect()))
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

/// Settles the rows whose claim still holds. Returns the index in `rows` of each settled row, and its result.
fn settle_rows(batch: &mut Batch<'_, PgConnection>, rows: &[&Settlement]) -> QueryResult<Vec<(usize, Settled)>> {
    let ids: Vec<String> = rows.iter().map(|row| row.task_id.to_string()).collect();
    let ends = || rows.iter().map(|row| row.execution.as_ref());
    let text = |text: &Option<Box<str>>| text.as_deref().map(without_zero);
    let results: Vec<Option<String>> = ends().map(|end| text(&end?.result)).collect();
    let errors: Vec<Option<String>> = ends().map(|end| text(&end?.error)).collect();
    let (results, errors): (Vec<_>, Vec<_>) =
        (results.iter().map(Option::as_deref).collect(), errors.iter().map(Option::as_deref).collect());
    let values = [
        Value::Ints(&rows.iter().map(|row| row.seq).collect::<Vec<_>>()),
        Value::Ints(&rows.iter().map(|row| row.token.as_i64()).collect::<Vec<_>>()),
        Value::Texts(&ids.iter().map(String::as_str).collect::<Vec<_>>()),
        Value::Texts(&rows.iter().map(|row| row.state.as_str()).collect::<Vec<_>>()),
        Value::MaybeInts(
            &rows.iter().map(|row| (!row.state.is_terminal()).then(|| row.run_at.as_micros())).collect::<Vec<_>>(),
        ),
        Value::Ints(&rows.iter().map(|row| row.attempt.into()).collect::<Vec<_>>()),
        Value::MaybeTexts(&results),
        Value::MaybeTexts(&errors),
        Value::MaybeInts(&ends().map(|end| Some(end?.attempt.into())).collect::<Vec<_>>()),
        Value::MaybeTexts(&ends().map(|end| Some(end?.status.as_str())).collect::<Vec<_>>()),
        Value::MaybeInts(&ends().map(|end| Some(end?.started_at.as_micros())).collect::<Vec<_>>()),
        Value::MaybeInts(&ends().map(|end| Some(end?.finished_at.as_micros())).collect::<Vec<_>>()),
        batch.now(),
        Value::Text(&batch.node),
    ];
    let done: Vec<(i64, bool)> = batch.conn.load::<Settle, _>(&values)?;
    let settled = |called_off| if called_off { Settled::Cancelled } else { Settled::Accepted };
    // PostgreSQL counts the places from 1.
    let of_row = |(place, called_off)| Some((usize::try_from(place - 1).ok()?, settled(called_off)));
    Ok(done.into_iter().filter_map(of_row).collect())
}

fn insert_one(batch: &mut Batch<'_, PgConnection>, row: &NewRow<'_>) -> QueryResult<Vec<(i64,)>> {
    let (retry, mut id) = (retry_text(&row.spec.retry), EMPTY_ID);
    let id = row.spec.task_id.as_uuid().as_hyphenated().encode_lower(&mut id);
    let mut values = Vec::with_capacity(16);
    values.extend(begin(batch.commit, &batch.node, row.state));
    values.extend(columns(row.spec, id, &retry));
    batch.conn.load::<InsertOne, _>(&values)
}

fn insert_rows(batch: &mut Batch<'_, PgConnection>, rows: &[NewRow<'_>]) -> QueryResult<Vec<(i64,)>> {
    let specs = || rows.iter().map(|row| row.spec);
    let ids: Vec<String> = specs().map(|spec| spec.task_id.to_string()).collect();
    let retries: Vec<_> = specs().map(|spec| retry_text(&spec.retry)).collect();
    let values = [
        Value::Text(&batch.node),
        Value::Int(batch.commit.token.as_i64()),
        batch.now(),
        Value::Texts(&rows.iter().map(|row| row.state.as_str()).collect::<Vec<_>>()),
        Value::Texts(&ids.iter().map(String::as_str).collect::<Vec<_>>()),
        Value::Texts(&specs().map(|spec| spec.queue.as_str()).collect::<Vec<_>>()),
        Value::Texts(&specs().map(|spec| spec.kind.as_str()).collect::<Vec<_>>()),
        Value::Texts(&specs().map(|spec| &*spec.params).collect::<Vec<_>>()),
        Value::Ints(&specs().map(|spec| spec.priority.into()).collect::<Vec<_>>()),
        Value::Ints(&specs().map(|spec| spec.run_at.as_micros()).collect::<Vec<_>>()),
        Value::Ints(&specs().map(|spec| spec.max_attempts.into()).collect::<Vec<_>>()),
        Value::MaybeInts(&specs().map(|spec| spec.timeout.map(micros)).collect::<Vec<_>>()),
        Value::Texts(&retries.iter().map(|retry| &**retry).collect::<Vec<_>>()),
        Value::Ints(&specs().map(|spec| spec.created_at.as_micros()).collect::<Vec<_>>()),
    ];
    batch.conn.load::<Insert, _>(&values)
}

/// Replaces U+0000, the only character that a text in PostgreSQL cannot hold.
fn without_zero(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
