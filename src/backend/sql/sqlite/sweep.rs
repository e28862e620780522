//! Upkeep: what is due, what expired, whose node died.

use std::collections::BTreeSet;

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::SqliteConnection;
use diesel::{OptionalExtension, QueryResult, Queryable, RunQueryDsl};

use super::errors::Abort;
use super::{Sqlite, nodes, rescue, unique};
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::statement::{Value, bind, statements};
use crate::backend::{BackendError, Sweep, SweepReport};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{NodeId, TaskId};

statements! {
    /// Per state and queue the earliest `run_at`, and the earliest that lies ahead. The queues are found by
    /// seeking from one to the next, so the rows between them are not read.
    Lanes -> (Text, Text, BigInt, Nullable<BigInt>):
        "WITH RECURSIVE lane(state, queue) AS (
            SELECT 'scheduled', (SELECT min(queue) FROM task_queue INDEXED BY task_queue_due
                WHERE state IN ('scheduled', 'retrying') AND state = 'scheduled')
            UNION ALL
            SELECT 'retrying', (SELECT min(queue) FROM task_queue INDEXED BY task_queue_due
                WHERE state IN ('scheduled', 'retrying') AND state = 'retrying')
            UNION ALL
            SELECT lane.state, (SELECT min(t.queue) FROM task_queue AS t INDEXED BY task_queue_due
                WHERE t.state IN ('scheduled', 'retrying') AND t.state = lane.state AND t.queue > lane.queue)
                FROM lane WHERE lane.queue IS NOT NULL)
        SELECT state, queue,
            (SELECT min(t.run_at) FROM task_queue AS t INDEXED BY task_queue_due
                WHERE t.state IN ('scheduled', 'retrying') AND t.state = lane.state AND t.queue = lane.queue),
            (SELECT min(t.run_at) FROM task_queue AS t INDEXED BY task_queue_due
                WHERE t.state IN ('scheduled', 'retrying') AND t.state = lane.state AND t.queue = lane.queue
                AND t.run_at > ?1)
        FROM lane WHERE queue IS NOT NULL";
    Promote -> (): "UPDATE task_queue SET state = 'pending', updated_at = ?3 WHERE seq IN (
        SELECT seq FROM task_queue INDEXED BY task_queue_due
        WHERE state IN ('scheduled', 'retrying') AND state = ?1 AND queue = ?2 AND run_at <= ?3
        ORDER BY run_at LIMIT ?4)";
    Expired -> (BigInt, Text, BigInt): "SELECT seq, task_id, expires_at FROM task_queue INDEXED BY task_queue_expires
        WHERE expires_at IS NOT NULL AND state IN ('waiting', 'scheduled', 'pending', 'retrying')
        AND expires_at <= ?1 ORDER BY expires_at, seq LIMIT ?2";
    NextExpiry -> (Nullable<BigInt>,): "SELECT min(expires_at) FROM task_queue INDEXED BY task_queue_expires
        WHERE expires_at IS NOT NULL AND state IN ('waiting', 'scheduled', 'pending', 'retrying')
        AND expires_at > ?1";
    Cancel -> (): "UPDATE task_queue SET state = 'cancelled', last_error = ?2, updated_at = ?3, finished_at = ?3
        WHERE seq = ?1";
    /// Tasks whose parent is gone or at its end; a task that ends frees them itself, unless an administrator
    /// ended it by hand.
    Abandoned -> (Text,): "SELECT DISTINCT w.parent_id FROM task_queue AS w INDEXED BY task_queue_waiting
        WHERE w.state = 'waiting'
        AND w.parent_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM task_queue AS p WHERE p.task_id = w.parent_id
            AND p.state IN ('waiting', 'scheduled', 'pending', 'running', 'retrying'))
        LIMIT ?1";
    CancelAsked -> (Text,): "SELECT task_id FROM task_queue INDEXED BY task_queue_running
        WHERE state = 'running' AND cancel_reason IS NOT NULL AND node = ?1 ORDER BY seq";
    StateOf -> (Text,): "SELECT state FROM task_queue WHERE task_id = ?1";
}

/// The scheduled or the retrying tasks of a queue.
#[derive(Queryable)]
struct Lane {
    state: StoredText,
    queue: StoredText,
    first: i64,
    ahead: Option<i64>,
}

fn lanes(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<Vec<Lane>> {
    bind::<Lanes>(&[Value::Int(now.as_micros())]).load(conn)
}

fn expired(conn: &mut SqliteConnection, now: Timestamp, limit: i64) -> QueryResult<Vec<(i64, String, i64)>> {
    bind::<Expired>(&[Value::Int(now.as_micros()), Value::Int(limit)]).load(conn)
}

fn abandoned(conn: &mut SqliteConnection, limit: i64) -> QueryResult<Vec<(String,)>> {
    if !unique::any_waiting(conn)? {
        return Ok(Vec::new());
    }
    bind::<Abandoned>(&[Value::Int(limit)]).load(conn)
}

/// True when there is something to write.
fn any_work(conn: &mut SqliteConnection, sweep: &Sweep) -> QueryResult<bool> {
    let now = sweep.now.as_micros();
    Ok(lanes(conn, sweep.now)?.iter().any(|lane| lane.first <= now)
        || !expired(conn, sweep.now, 1)?.is_empty()
        || (sweep.rescue && (rescue::any_dead(conn, sweep.node, sweep.now)? || !abandoned(conn, 1)?.is_empty())))
}

impl Sqlite {
    pub(super) fn sweep_once(&self, sweep: &Sweep) -> Result<SweepReport, BackendError> {
        let mut report = SweepReport::default();
        if self.read("sweep", |conn| any_work(conn, sweep))? {
            report = self.write("sweep", |conn| work(conn, sweep)).map_err(Abort::into_error)?;
        }
        self.read("sweep", |conn| look(conn, sweep, &mut report))?;
        Ok(report)
    }
}

/// The part that writes.
fn work(conn: &mut SqliteConnection, sweep: &Sweep) -> Result<SweepReport, Abort> {
    let mut report = SweepReport::default();
    let mut woken = BTreeSet::new();
    // Before promotion: what is both due and expired must not run.
    expire(conn, sweep, &mut report, &mut woken)?;
    promote(conn, sweep, &mut report, &mut woken)?;
    if sweep.rescue {
        rescue::rescue(conn, sweep, &mut report, &mut woken)?;
        let limit = i64::try_from(sweep.limit).unwrap_or(i64::MAX);
        for (parent,) in abandoned(conn, limit)? {
            unique::free(conn, &parent, sweep.now, &mut woken)?;
        }
    }
    report.promoted = woken.into_iter().collect();
    Ok(report)
}

fn expire(
    conn: &mut SqliteConnection,
    sweep: &Sweep,
    report: &mut SweepReport,
    woken: &mut BTreeSet<Name>,
) -> Result<(), Abort> {
    let limit = i64::try_from(sweep.limit).unwrap_or(i64::MAX - 1);
    let mut rows = expired(conn, sweep.now, limit + 1)?;
    report.more |= rows.len() > sweep.limit;
    rows.truncate(sweep.limit);
    for (seq, task_id, by) in rows {
        let reason = format!("expired: not started by {}", Timestamp::from_micros(by));
        bind::<Cancel>(&[Value::Int(seq), Value::Text(&reason), Value::Int(sweep.now.as_micros())]).execute(conn)?;
        unique::free(conn, &task_id, sweep.now, woken)?;
        report.expired.extend(task_id.parse::<TaskId>().ok());
    }
    Ok(())
}

fn promote(
    conn: &mut SqliteConnection,
    sweep: &Sweep,
    report: &mut SweepReport,
    woken: &mut BTreeSet<Name>,
) -> Result<(), Abort> {
    let now = sweep.now.as_micros();
    let mut left = sweep.limit;
    for lane in lanes(conn, sweep.now)?.into_iter().filter(|lane| lane.first <= now) {
        let limit = Value::Int(i64::try_from(left).unwrap_or(i64::MAX));
        let values = [Value::Text(&lane.state), Value::Text(&lane.queue), Value::Int(now), limit];
        let promoted = bind::<Promote>(&values).execute(conn)?;
        left -= promoted;
        if promoted > 0 {
            woken.insert(lane.queue.into());
        }
    }
    report.more |= left == 0 && lanes(conn, sweep.now)?.iter().any(|lane| lane.first <= now);
    Ok(())
}

/// The part that reads: what lies ahead, and what this node should know.
fn look(conn: &mut SqliteConnection, sweep: &Sweep, report: &mut SweepReport) -> QueryResult<()> {
    let now = Value::Int(sweep.now.as_micros());
    let (expiry,) = bind::<NextExpiry>(&[now]).get_result::<(Option<i64>,)>(conn)?;
    let due = lanes(conn, sweep.now)?.into_iter().filter_map(|lane| lane.ahead);
    report.next_due = due.chain(expiry).min().map(Timestamp::from_micros);
    report.cancel = cancels(conn, sweep.node)?;
    report.queues = nodes::queues(conn)?;
    for task_id in &sweep.awaited {
        let id = task_id.to_string();
        let state = bind::<StateOf>(&[Value::Text(&id)]).get_result::<(StoredText,)>(conn).optional()?;
        if state.is_none_or(|(state,)| shown_state(&state).is_terminal()) {
            report.ended.push(*task_id);
        }
    }
    Ok(())
}

fn cancels(conn: &mut SqliteConnection, node: NodeId) -> QueryResult<Vec<TaskId>> {
    let node = node.to_string();
    let asked: Vec<(StoredText,)> = bind::<CancelAsked>(&[Value::Text(&node)]).load(conn)?;
    Ok(asked.into_iter().filter_map(|(id,)| id.parse().ok()).collect())
}
