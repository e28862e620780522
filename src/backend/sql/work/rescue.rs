//! Claims that are taken back: from dead nodes, and from a node that gives its claims back.

use std::collections::{BTreeSet, HashSet};

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryResult, Queryable};

use super::unique;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::{StoredText, count};
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{Released, Rescued, Sweep, SweepReport};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{ClaimToken, NodeId, TaskId, TaskState};

const LOST: &str = "its node died or lost its lease while it ran";

/// The running tasks of a single holder. All conditions are on the row itself. PostgreSQL checks a row again if it
/// changed between the snapshot and the lock, but without the other tables of the statement. With conditions on other
/// tables it could take a claim that is new. The index is named because SQLite would otherwise read the whole table, to
/// get the order by `seq`.
macro_rules! orphans {
    ($whose:literal, $limit:literal) => {
        concat!(
            "SELECT seq, task_id, type, queue, node, attempt, crash_count, cancel_reason, claim_token, started_at
            FROM task_queue INDEXED BY task_queue_running WHERE state = 'running' AND ",
            $whose,
            " ORDER BY seq LIMIT ",
            $limit,
            " {skip}"
        )
    };
}

/// The SQL types of an [`Orphan`].
type OrphanTypes =
    (BigInt, Text, Text, Text, Nullable<Text>, BigInt, BigInt, Nullable<Text>, Nullable<BigInt>, Nullable<BigInt>);

statements! {
    /// Holders that have running tasks and no lease. Locks nothing.
    DeadHolders -> (Nullable<Text>,): "SELECT DISTINCT t.node FROM task_queue AS t INDEXED BY task_queue_running
        WHERE t.state = 'running' AND (t.node IS NULL OR t.node <> ?2)
        AND NOT EXISTS (SELECT 1 FROM node WHERE node_id = t.node AND lease_until >= ?1)";
    OrphansOf -> OrphanTypes: (orphans!("node = ?1", "?2"));
    OrphansOfNone -> OrphanTypes: (orphans!("node IS NULL", "?1"));
    Lease -> (BigInt,): "SELECT lease_until FROM node WHERE node_id = ?1 AND lease_until >= ?2";
    /// A dead node stays known until the last of its tasks is rescued.
    Forgettable -> (Text,): "SELECT node_id FROM node WHERE lease_until < ?1 AND node_id <> ?2 AND NOT EXISTS (
        SELECT 1 FROM task_queue AS t INDEXED BY task_queue_running WHERE t.state = 'running' AND t.node = node.node_id)
        ORDER BY node_id";
    /// Deletes the node, unless it has renewed its lease meanwhile.
    ForgetDead -> (): "DELETE FROM node WHERE node_id = ?1 AND lease_until < ?2";
    AddLost -> (): "INSERT OR IGNORE INTO task_execution
        (task_id, execution_id, attempt, status, node, started_at, finished_at, error_message)
        VALUES (?1, ?2, ?3, 'lost', ?4, ?5, ?6, ?7)";
    TakeBack -> (): "UPDATE task_queue SET state = ?2, last_error = coalesce(?3, last_error), crash_count = ?4,
        node = NULL, claim_token = NULL, cancel_reason = NULL, updated_at = ?5, finished_at = ?6 WHERE seq = ?1";
    // Reads without a lock. MySQL scans the running tasks of all nodes, and would wait for rows that concurrent
    // transactions have locked.
    HeldBy -> (BigInt,): "SELECT seq FROM task_queue INDEXED BY task_queue_running
        WHERE state = 'running' AND node = ?1 ORDER BY seq";
    Held -> (Text, BigInt, BigInt, Nullable<Text>): "SELECT task_id, claim_token, crash_count, cancel_reason
        FROM task_queue WHERE seq = ?1 AND state = 'running' AND node = ?2 {lock}";
    Retire -> (): "DELETE FROM node WHERE node_id = ?1";
}

#[cfg(feature = "sqlite")]
statements! {
    // Two counts instead of EXISTS, because the databases differ in its type: truth value or number.
    AnyDead -> (BigInt,): "SELECT (SELECT count(*) FROM node WHERE lease_until < ?1 AND node_id <> ?2)
        + (SELECT count(*) FROM (SELECT t.seq FROM task_queue AS t INDEXED BY task_queue_running
        WHERE t.state = 'running' AND (t.node IS NULL OR t.node <> ?2)
        AND NOT EXISTS (SELECT 1 FROM node WHERE node_id = t.node) LIMIT 1) AS orphan)";
}

/// True when a node other than `node` is dead, or a task runs on an unknown node.
#[cfg(feature = "sqlite")]
pub(super) fn any_dead<C: Conn>(conn: &mut C, node: NodeId, now: Timestamp) -> QueryResult<bool> {
    let node = node.to_string();
    let found = conn.first::<AnyDead, (i64,)>(&[Value::Int(now.as_micros()), Value::Text(&node)])?;
    Ok(found.is_some_and(|(found,)| found != 0))
}

/// A running task whose node is dead.
#[derive(Queryable)]
struct Orphan {
    seq: i64,
    task_id: StoredText,
    kind: StoredText,
    queue: StoredText,
    node: Option<StoredText>,
    attempt: i64,
    crash_count: i64,
    cancel_reason: Option<StoredText>,
    claim_token: Option<i64>,
    started_at: Option<i64>,
}

pub(super) fn rescue<C: Conn>(
    conn: &mut C,
    sweep: &Sweep,
    report: &mut SweepReport,
    woken: &mut BTreeSet<Name>,
) -> Result<(), Abort> {
    let own = sweep.node.to_string();
    let now = Value::Int(sweep.now.as_micros());
    let dead: Vec<(Option<StoredText>,)> = conn.load::<DeadHolders, _>(&[now, Value::Text(&own)])?;
    for (holder,) in dead {
        let room = sweep.limit - report.rescued.len();
        let mut orphans = orphans_of(conn, holder.as_deref(), room.saturating_add(1), sweep.now)?;
        report.more |= orphans.len() > room;
        orphans.truncate(room);
        for orphan in orphans {
            let rescued = rescue_one(conn, &orphan, sweep, woken)?;
            if rescued.state == TaskState::Pending {
                woken.insert(rescued.queue.clone());
            }
            report.rescued.push(rescued);
        }
        if report.more {
            break;
        }
    }
    let forgettable: Vec<(StoredText,)> = conn.load::<Forgettable, _>(&[now, Value::Text(&own)])?;
    for (node,) in forgettable {
        conn.run::<ForgetDead>(&[Value::Text(&node), now])?;
    }
    Ok(())
}

/// Locks up to `most` tasks that `holder` runs. Empty when the holder is alive.
fn orphans_of<C: Conn>(conn: &mut C, holder: Option<&str>, most: usize, now: Timestamp) -> QueryResult<Vec<Orphan>> {
    let most = Value::Int(i64::try_from(most).unwrap_or(i64::MAX));
    let Some(holder) = holder.map(Value::Text) else { return conn.load::<OrphansOfNone, _>(&[most]) };
    let orphans = conn.load::<OrphansOf, _>(&[holder, most])?;
    // A node renews its lease before it claims. So this second check, made after the lock, sees the lease behind every
    // locked claim, however new the claim is.
    let lives = !orphans.is_empty() && conn.first::<Lease, (i64,)>(&[holder, Value::Int(now.as_micros())])?.is_some();
    Ok(if lives { Vec::new() } else { orphans })
}

fn rescue_one<C: Conn>(
    conn: &mut C,
    orphan: &Orphan,
    sweep: &Sweep,
    woken: &mut BTreeSet<Name>,
) -> Result<Rescued, Abort> {
    let crashes = count(orphan.crash_count);
    let (state, reason) = match &orphan.cancel_reason {
        Some(reason) => (TaskState::Cancelled, reason.0.clone()),
        None if crashes >= sweep.crash_limit => {
            (TaskState::Dead, format!("crash loop: its node died {crashes} times while it ran"))
        }
        None => (TaskState::Pending, LOST.into()),
    };
    let now = Value::Int(sweep.now.as_micros());
    let values = [
        Value::Text(&orphan.task_id),
        Value::Int(orphan.claim_token.unwrap_or(0)),
        Value::Int(orphan.attempt.saturating_add(1)),
        Value::Text(orphan.node.as_deref().unwrap_or_default()),
        Value::Int(orphan.started_at.unwrap_or(sweep.now.as_micros())),
        now,
        Value::Text(LOST),
    ];
    conn.run::<AddLost>(&values)?;
    take_back(conn, orphan.seq, state, Some(&reason), orphan.crash_count, sweep.now)?;
    if state.is_terminal() {
        unique::free(conn, &orphan.task_id, sweep.now, woken)?;
    }
    let nil = uuid::Uuid::nil();
    Ok(Rescued {
        task_id: orphan.task_id.parse().unwrap_or_else(|_| nil.into()),
        kind: orphan.kind.clone().into(),
        queue: orphan.queue.clone().into(),
        node: orphan.node.as_deref().and_then(|node| node.parse().ok()).unwrap_or_else(|| nil.into()),
        state,
    })
}

fn take_back<C: Conn>(
    conn: &mut C,
    seq: i64,
    state: TaskState,
    reason: Option<&str>,
    crashes: i64,
    now: Timestamp,
) -> Result<(), Abort> {
    let values = [
        Value::Int(seq),
        Value::Text(state.as_str()),
        Value::MaybeText(reason),
        Value::Int(crashes),
        Value::Int(now.as_micros()),
        Value::MaybeInt(state.is_terminal().then_some(now.as_micros())),
    ];
    conn.run::<TakeBack>(&values)?;
    Ok(())
}

/// Gives back the claims that `node` holds, except the claims in `keep`.
pub(in crate::backend::sql) fn release<C: Conn>(
    conn: &mut C,
    node: NodeId,
    keep: &[(TaskId, ClaimToken)],
    retire: bool,
    now: Timestamp,
) -> Result<Released, Abort> {
    let node = node.to_string();
    let keep: HashSet<(TaskId, ClaimToken)> = keep.iter().copied().collect();
    let places: Vec<(i64,)> = conn.load::<HeldBy, _>(&[Value::Text(&node)])?;
    let mut released = Released::default();
    for (seq,) in places {
        let held: Option<(StoredText, i64, i64, Option<StoredText>)> =
            conn.first::<Held, _>(&[Value::Int(seq), Value::Text(&node)])?;
        let Some((task_id, token, crashes, cancel)) = held else { continue };
        let kept = task_id.parse().is_ok_and(|id| keep.contains(&(id, ClaimToken::from_i64(token))));
        if kept {
            continue;
        }
        let state = if cancel.is_some() { TaskState::Cancelled } else { TaskState::Pending };
        // The claim added 1 to the count, but the task did not crash.
        let crashes = crashes.saturating_sub(1).max(0);
        take_back(conn, seq, state, cancel.as_deref(), crashes, now)?;
        if state.is_terminal() {
            unique::free_followers(conn, &task_id, now, unique::Look::Try)?;
        }
        released.tasks += 1;
    }
    if retire {
        conn.run::<Retire>(&[Value::Text(&node)])?;
    }
    Ok(released)
}
