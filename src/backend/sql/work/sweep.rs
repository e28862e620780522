//! Upkeep: due tasks, expired tasks, and tasks of dead nodes.

use std::collections::{BTreeSet, HashSet};

use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::{limits, nodes, rescue, unique};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::dialect::placeholders;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{Sweep, SweepReport};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{NodeId, TaskId};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
macro_rules! expired {
    () => {
        "SELECT seq, task_id, expires_at FROM task_queue INDEXED BY task_queue_expires
        WHERE expires_at IS NOT NULL AND started_at IS NULL
        AND state IN ('waiting', 'scheduled', 'pending', 'retrying')
        AND expires_at <= ?1 ORDER BY expires_at, seq LIMIT ?2 {skip}"
    };
}

// MySQL has generated columns where the other databases have partial indexes.
statements! {
    Expired -> (BigInt, Text, BigInt): {
        sqlite expired!();
        postgres expired!();
        mysql "SELECT seq, task_id, expires_at FROM task_queue WHERE expiring_at <= ?1 ORDER BY expiring_at, seq LIMIT ?2
            {skip}";
    };
    Cancel -> (): "UPDATE task_queue SET state = 'cancelled', last_error = ?2, updated_at = ?3, finished_at = ?3
        WHERE seq = ?1";
    /// Tasks whose parent is gone or has ended. A task that ends releases them itself, except when an administrator
    /// ended it by hand.
    Abandoned -> (Text,): "SELECT DISTINCT w.parent_id FROM task_queue AS w INDEXED BY task_queue_waiting
        WHERE w.state = 'waiting'
        AND w.parent_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM task_queue AS p WHERE p.task_id = w.parent_id
            AND p.state IN ('waiting', 'scheduled', 'pending', 'running', 'retrying'))
        LIMIT ?1";
    CancelAsked -> (Text,): "SELECT task_id FROM task_queue INDEXED BY task_queue_running
        WHERE state = 'running' AND cancel_reason IS NOT NULL AND node = ?1 ORDER BY seq";
}

fn expired<C: Conn>(conn: &mut C, now: Timestamp, limit: i64) -> QueryResult<Vec<(i64, String, i64)>> {
    conn.load::<Expired, _>(&[Value::Int(now.as_micros()), Value::Int(limit)])
}

fn abandoned<C: Conn>(conn: &mut C, limit: i64) -> QueryResult<Vec<(String,)>> {
    if !unique::any_waiting(conn)? {
        return Ok(Vec::new());
    }
    conn.load::<Abandoned, _>(&[Value::Int(limit)])
}

/// A summary of the stored work, as a read of storage shows it.
#[derive(Clone, Copy, Debug, Default, diesel::Queryable)]
pub(in crate::backend::sql) struct Glance {
    /// Whether any task is pending, or may be.
    pending: i64,
    /// When the first scheduled or retrying task is due, and when the first after now is due.
    first_due: Option<i64>,
    due_ahead: Option<i64>,
    /// The same for tasks that expire.
    first_expiry: Option<i64>,
    expiry_ahead: Option<i64>,
    /// Above 0 when a different node is dead, or a task runs on an unknown node.
    dead: i64,
    /// Whether any task waits for a parent.
    waiting: i64,
    /// Running tasks of this node whose cancel was requested.
    cancels: i64,
}

/// The SQL types of a [`Glance`].
#[cfg(any(feature = "postgres", feature = "mysql"))]
type GlanceTypes =
    (BigInt, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, BigInt, BigInt, BigInt);

#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! glance {
    ($pending:literal, $due:literal, $is_due:literal, $expires:literal, $may_expire:literal) => {
        concat!(
            "SELECT ", $pending, ", (SELECT min(", $due, ") FROM task_queue WHERE ", $is_due, "),
            (SELECT min(", $due, ") FROM task_queue WHERE ", $is_due, " AND ", $due, " > ?1),
            (SELECT min(", $expires, ") FROM task_queue WHERE ", $may_expire, "),
            (SELECT min(", $expires, ") FROM task_queue WHERE ", $may_expire, " AND ", $expires, " > ?1),
            (SELECT count(*) FROM node WHERE lease_until < ?1 AND node_id <> ?2)
                + (SELECT count(*) FROM (SELECT t.seq FROM task_queue AS t
                    WHERE t.state = 'running' AND (t.node IS NULL OR t.node <> ?2)
                    AND NOT EXISTS (SELECT 1 FROM node WHERE node_id = t.node) LIMIT 1) AS orphan),
            (SELECT count(*) FROM (SELECT seq FROM task_queue WHERE state = 'waiting' LIMIT 1) AS follower),
            (SELECT count(*) FROM task_queue WHERE state = 'running' AND cancel_reason IS NOT NULL AND node = ?2)"
        )
    };
}

#[cfg(feature = "sqlite")]
statements! {
    NextExpiry -> (Nullable<BigInt>,): "SELECT min(expires_at) FROM task_queue INDEXED BY task_queue_expires
        WHERE expires_at IS NOT NULL AND started_at IS NULL
        AND state IN ('waiting', 'scheduled', 'pending', 'retrying')
        AND expires_at > ?1";
}

// A single statement needs a single round trip. Nodes look often, and find nothing most of the time.
#[cfg(any(feature = "postgres", feature = "mysql"))]
statements! {
    Look -> GlanceTypes: {
        sqlite glance!("1", "run_at", "state IN ('scheduled', 'retrying')", "expires_at",
            "expires_at IS NOT NULL AND started_at IS NULL AND state IN ('waiting', 'scheduled', 'pending', 'retrying')");
        // Ordered like the index, so that PostgreSQL uses the index whatever the statistics say after a flood.
        // Otherwise it might read all tasks.
        postgres glance!("(SELECT count(*) FROM (SELECT seq FROM task_queue WHERE state = 'pending'
                ORDER BY queue, priority, run_at, seq LIMIT 1) AS open)",
            "run_at", "state IN ('scheduled', 'retrying')", "expires_at",
            "expires_at IS NOT NULL AND started_at IS NULL AND state IN ('waiting', 'scheduled', 'pending', 'retrying')");
        // No `IS NOT NULL` here: it would keep MariaDB from taking the minimum from the end of the index, and MariaDB
        // would read the whole index.
        mysql glance!("CAST(1 AS SIGNED)", "due_at", "1 = 1", "expiring_at", "1 = 1");
    };
}

impl Glance {
    /// Looks with a single statement.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(in crate::backend::sql) fn at_once<C: Conn>(conn: &mut C, sweep: &Sweep) -> QueryResult<Self> {
        let node = sweep.node.to_string();
        let values = [Value::Int(sweep.now.as_micros()), Value::Text(&node)];
        Ok(conn.first::<Look, Self>(&values)?.unwrap_or_default())
    }

    /// Looks with a statement for each part. The caller gives the first due time and the next due time after now.
    #[cfg(feature = "sqlite")]
    pub(in crate::backend::sql) fn by_parts<C: Conn>(
        conn: &mut C,
        sweep: &Sweep,
        (first_due, due_ahead): (Option<i64>, Option<i64>),
    ) -> QueryResult<Self> {
        let now = sweep.now;
        let first_expiry = expired(conn, now, 1)?.first().map(|(.., at)| *at);
        let next = conn.first::<NextExpiry, (Option<i64>,)>(&[Value::Int(now.as_micros())])?;
        Ok(Self {
            // Not needed here: changes by other processes are found by a separate check.
            pending: 1,
            first_due,
            due_ahead,
            first_expiry,
            expiry_ahead: next.and_then(|(next,)| next),
            dead: i64::from(sweep.rescue && rescue::any_dead(conn, sweep.node, now)?),
            waiting: i64::from(unique::any_waiting(conn)?),
            // Cancel requests are read in any case.
            cancels: 1,
        })
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.first_due.is_some_and(|due| due <= now.as_micros())
    }

    /// True when there is work that must be written.
    fn is_work<C: Conn>(&self, conn: &mut C, sweep: &Sweep) -> QueryResult<bool> {
        let now = sweep.now.as_micros();
        Ok(self.is_due(sweep.now)
            || self.first_expiry.is_some_and(|expiry| expiry <= now)
            || (sweep.rescue && (self.dead > 0 || (self.waiting > 0 && !abandoned(conn, 1)?.is_empty()))))
    }
}

/// Finds out whether there is work to write, and when the next work is due.
pub(in crate::backend::sql) fn glance<C: Conn>(conn: &mut C, sweep: &Sweep) -> QueryResult<(Glance, bool)> {
    let glance = conn.glance(sweep)?;
    Ok((glance, glance.is_work(conn, sweep)?))
}

/// The part of a sweep that writes.
pub(in crate::backend::sql) fn work<C: Conn>(conn: &mut C, sweep: &Sweep) -> Result<SweepReport, Abort> {
    let mut report = SweepReport::default();
    let mut woken = BTreeSet::new();
    // Before promotion, because a task that is both due and expired must not run.
    expire(conn, sweep, &mut report, &mut woken)?;
    let (promoted, queues) = conn.promote(sweep.now, sweep.limit)?;
    woken.extend(queues);
    report.more |= promoted >= sweep.limit && conn.glance(sweep)?.is_due(sweep.now);
    if sweep.rescue {
        rescue::rescue(conn, sweep, &mut report, &mut woken)?;
        let limit = i64::try_from(sweep.limit).unwrap_or(i64::MAX);
        for (parent,) in abandoned(conn, limit)? {
            unique::free(conn, &parent, sweep.now, &mut woken)?;
        }
    }
    report.promoted = woken.into_iter().collect();
    if !report.promoted.is_empty() {
        // A task that has become pending keeps its old `seq`, where other nodes do not look for new tasks. The mark
        // makes them look.
        conn.mark_change()?;
    }
    Ok(report)
}

fn expire<C: Conn>(
    conn: &mut C,
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
        conn.run::<Cancel>(&[Value::Int(seq), Value::Text(&reason), Value::Int(sweep.now.as_micros())])?;
        unique::free(conn, &task_id, sweep.now, woken)?;
        report.expired.extend(task_id.parse::<TaskId>().ok());
    }
    Ok(())
}

/// The part of a sweep that reads: the next due time, and news for this node.
pub(in crate::backend::sql) fn look<C: Conn>(
    conn: &mut C,
    sweep: &Sweep,
    glance: &Glance,
    report: &mut SweepReport,
) -> QueryResult<()> {
    report.next_due = glance.due_ahead.into_iter().chain(glance.expiry_ahead).min().map(Timestamp::from_micros);
    report.cancel = if glance.cancels > 0 { cancels(conn, sweep.node)? } else { Vec::new() };
    report.queues = nodes::queues(conn)?;
    report.limits = limits::limits(conn)?;
    report.ended = ended(conn, &sweep.awaited)?;
    report.nothing_pending = glance.pending == 0;
    Ok(())
}

/// The tasks of `awaited` that have ended or are gone.
fn ended<C: Conn>(conn: &mut C, awaited: &[TaskId]) -> QueryResult<Vec<TaskId>> {
    let mut ended = Vec::new();
    for awaited in awaited.chunks(C::MOST_ROWS) {
        let ids: Vec<String> = awaited.iter().map(ToString::to_string).collect();
        let values: Vec<Value<'_>> = ids.iter().map(|id| Value::Text(id)).collect();
        let sql = format!(
            "SELECT task_id FROM task_queue WHERE task_id IN ({})
            AND state IN ('waiting', 'scheduled', 'pending', 'running', 'retrying')",
            placeholders(1, ids.len())
        );
        let live: Vec<(StoredText,)> = conn.load_once::<(Text,), _>(&sql, &values)?;
        let live: HashSet<TaskId> = live.iter().filter_map(|(id,)| id.parse().ok()).collect();
        ended.extend(awaited.iter().filter(|id| !live.contains(id)));
    }
    Ok(ended)
}

fn cancels<C: Conn>(conn: &mut C, node: NodeId) -> QueryResult<Vec<TaskId>> {
    let node = node.to_string();
    let asked: Vec<(StoredText,)> = conn.load::<CancelAsked, _>(&[Value::Text(&node)])?;
    Ok(asked.into_iter().filter_map(|(id,)| id.parse().ok()).collect())
}
