//! Nodes and queue settings.

use diesel::QueryResult;

use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::{NodeRow, QueueRow};
use crate::backend::sql::schema::{node, queue_setting};
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{NodeBeat, NodeRecord, QueueChange, QueueSettings};

/// The heartbeat of a node. The values are repeated because an existing row takes them as well, and the databases have
/// different names for "the row that was to be inserted".
macro_rules! beat {
    ($when_there:literal) => {
        concat!(
            "INSERT INTO node (node_id, name, started_at, heartbeat_at, lease_until, version, queues, types, pulls)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ",
            $when_there,
            " name = ?2, started_at = ?3, heartbeat_at = ?4, lease_until = ?5, version = ?6, queues = ?7,
            types = ?8, pulls = ?9"
        )
    };
}

/// A setting that is not given stays. `?4` tells whether a concurrency is given, because NULL is a valid concurrency.
macro_rules! change_queue {
    ($when_there:literal) => {
        concat!(
            "INSERT INTO queue (queue, paused, concurrency) VALUES (?1, coalesce(?2, 0), ?3) ",
            $when_there,
            " paused = coalesce(?2, queue.paused), concurrency = CASE WHEN ?4 = 1 THEN ?3 ELSE queue.concurrency END"
        )
    };
}

statements! {
    Beat -> (): {
        sqlite beat!("ON CONFLICT (node_id) DO UPDATE SET");
        postgres beat!("ON CONFLICT (node_id) DO UPDATE SET");
        mysql beat!("ON DUPLICATE KEY UPDATE");
    };
    Nodes -> node::SqlType: "SELECT node_id, name, started_at, heartbeat_at, lease_until, version, queues, types, pulls
        FROM node
        ORDER BY name, node_id";
    ChangeQueue -> (): {
        sqlite change_queue!("ON CONFLICT (queue) DO UPDATE SET");
        postgres change_queue!("ON CONFLICT (queue) DO UPDATE SET");
        mysql change_queue!("ON DUPLICATE KEY UPDATE");
    };
    Queues -> queue_setting::SqlType: "SELECT queue, paused, concurrency FROM queue ORDER BY queue";
}

pub(in crate::backend::sql) fn beat<C: Conn>(conn: &mut C, beat: &NodeBeat) -> Result<(), Abort> {
    let (node_id, queues) = (beat.node_id.to_string(), serde_json::json!(beat.queues).to_string());
    let (types, pulls) = (serde_json::json!(beat.types).to_string(), serde_json::json!(beat.pulls).to_string());
    let values = [
        Value::Text(&node_id),
        Value::Text(&beat.name),
        Value::Int(beat.started_at.as_micros()),
        Value::Int(beat.now.as_micros()),
        Value::Int((beat.now + beat.lease).as_micros()),
        Value::Text(&beat.version),
        Value::Text(&queues),
        Value::Text(&types),
        Value::Text(&pulls),
    ];
    conn.run::<Beat>(&values)?;
    Ok(())
}

pub(in crate::backend::sql) fn nodes<C: Conn>(conn: &mut C) -> QueryResult<Vec<NodeRecord>> {
    let rows: Vec<NodeRow> = conn.load::<Nodes, _>(&[])?;
    Ok(rows.into_iter().map(NodeRecord::from).collect())
}

pub(in crate::backend::sql) fn change_queue<C: Conn>(conn: &mut C, change: &QueueChange) -> Result<(), Abort> {
    let concurrency = change.concurrency.flatten().map(|tasks| i64::try_from(tasks).unwrap_or(i64::MAX));
    let values = [
        Value::Text(&change.queue),
        Value::MaybeInt(change.paused.map(i64::from)),
        Value::MaybeInt(concurrency),
        Value::Int(change.concurrency.is_some().into()),
    ];
    conn.run::<ChangeQueue>(&values)?;
    Ok(())
}

pub(in crate::backend::sql) fn queues<C: Conn>(conn: &mut C) -> QueryResult<Vec<QueueSettings>> {
    let rows: Vec<QueueRow> = conn.load::<Queues, _>(&[])?;
    Ok(rows.into_iter().map(QueueSettings::from).collect())
}
