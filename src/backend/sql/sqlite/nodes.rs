//! Nodes and queue settings.

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use diesel::upsert::excluded;

use super::errors::Abort;
use crate::backend::sql::rows::{NodeRow, QueueRow};
use crate::backend::sql::schema::{node, queue_setting};
use crate::backend::{NodeBeat, NodeRecord, QueueSettings};

pub(super) fn beat(conn: &mut SqliteConnection, beat: &NodeBeat) -> Result<(), Abort> {
    diesel::insert_into(node::table)
        .values((
            node::node_id.eq(beat.node_id.to_string()),
            node::name.eq(&beat.name),
            node::started_at.eq(beat.started_at.as_micros()),
            node::heartbeat_at.eq(beat.now.as_micros()),
            node::lease_until.eq((beat.now + beat.lease).as_micros()),
            node::version.eq(&beat.version),
            node::queues.eq(serde_json::json!(beat.queues).to_string()),
        ))
        .on_conflict(node::node_id)
        .do_update()
        .set((
            node::name.eq(excluded(node::name)),
            node::started_at.eq(excluded(node::started_at)),
            node::heartbeat_at.eq(excluded(node::heartbeat_at)),
            node::lease_until.eq(excluded(node::lease_until)),
            node::version.eq(excluded(node::version)),
            node::queues.eq(excluded(node::queues)),
        ))
        .execute(conn)?;
    Ok(())
}

pub(super) fn nodes(conn: &mut SqliteConnection) -> QueryResult<Vec<NodeRecord>> {
    let rows: Vec<NodeRow> =
        node::table.select(NodeRow::as_select()).order((node::name, node::node_id)).load(conn)?;
    Ok(rows.into_iter().map(NodeRecord::from).collect())
}

pub(super) fn save_queue(conn: &mut SqliteConnection, settings: &QueueSettings) -> Result<(), Abort> {
    let concurrency = settings.concurrency.map(|tasks| i64::try_from(tasks).unwrap_or(i64::MAX));
    diesel::insert_into(queue_setting::table)
        .values((
            queue_setting::queue.eq(settings.queue.as_str()),
            queue_setting::paused.eq(i64::from(settings.paused)),
            queue_setting::concurrency.eq(concurrency),
        ))
        .on_conflict(queue_setting::queue)
        .do_update()
        .set((
            queue_setting::paused.eq(excluded(queue_setting::paused)),
            queue_setting::concurrency.eq(excluded(queue_setting::concurrency)),
        ))
        .execute(conn)?;
    Ok(())
}

pub(super) fn queues(conn: &mut SqliteConnection) -> QueryResult<Vec<QueueSettings>> {
    let rows: Vec<QueueRow> =
        queue_setting::table.select(QueueRow::as_select()).order(queue_setting::queue).load(conn)?;
    Ok(rows.into_iter().map(QueueSettings::from).collect())
}
