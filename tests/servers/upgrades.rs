//! Two versions of the program on the same schema. Nodes of this version go on after a later version has extended the
//! schema.

use std::time::Duration;

use callboard::{Board, NewTask, NodeId, Schedule, Timestamp, Trigger};
use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::load::Load;
use crate::place::{Place, on_both};
use crate::waiting::{eventually, soon};

on_both!(nodes_go_on_while_a_later_version_migrates);

/// The steps of the first node of a later version, in SQL that all databases know. It adds a column to the tables that
/// a node writes, adds a table, and records its migration.
const LATER: [&str; 6] = [
    "ALTER TABLE task_queue ADD COLUMN colour TEXT",
    "ALTER TABLE task_execution ADD COLUMN colour TEXT",
    "ALTER TABLE scheduler_task ADD COLUMN colour TEXT",
    "ALTER TABLE node ADD COLUMN colour TEXT",
    "CREATE TABLE colour (name VARCHAR(40) PRIMARY KEY NOT NULL)",
    "INSERT INTO callboard_migration (version, name) VALUES ('99991231000000', 'colours')",
];
const FORGOTTEN: &str = "DELETE FROM callboard_migration WHERE version = '99991231000000'";

async fn nodes_go_on_while_a_later_version_migrates<P: Place>() {
    let place = P::new();
    under_load(&place.url(), place.by_hand()).await;
}

#[actix_rt::test]
async fn nodes_go_on_on_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tasks.db").display().to_string();
    let mut conn = SqliteConnection::establish(&file).unwrap();
    conn.batch_execute("PRAGMA busy_timeout = 30000").unwrap();
    under_load(&format!("sqlite:{file}"), conn).await;
}

/// The later version migrates on the connection `by_hand`.
async fn under_load<C: Connection + Send + 'static>(url: &str, mut by_hand: C) {
    let load = Load::start(url).await;
    // The lease of the load outlasts the test, but the lease of this board does not.
    let other = Board::builder().url(url).lease(Duration::from_secs(3)).start().await.unwrap();
    let often = Trigger::every(Duration::from_millis(50)).unwrap();
    let tick = Schedule::new("tick", often, NewTask::new("work", &json!({})));
    load.board.schedules().create(tick.keep_firings(10_000)).await.unwrap();
    fires(&load.board).await;
    load.goes_on().await;

    // On a different thread, so that the producers push meanwhile.
    let migrate = move || {
        LATER.iter().for_each(|sql| by_hand.batch_execute(sql).expect(sql));
        by_hand
    };
    let mut by_hand = actix_rt::task::spawn_blocking(migrate).await.unwrap();
    for _ in 0..5 {
        load.goes_on().await;
    }
    fires(&load.board).await;
    let beat = last_beat(&other).await;
    eventually("a heartbeat", async || (last_beat(&other).await > beat).then_some(())).await;

    // A node of this version that has stopped cannot start again.
    let refused = Board::builder().url(url).start().await.expect_err("it is older than the schema").to_string();
    assert!(refused.contains("the schema 99991231000000 is newer than this program"), "{refused}");
    // The row that the first node of the later version writes about itself.
    by_hand.batch_execute(&node_of_later_version(other.clock().now())).unwrap();
    let nodes = load.board.nodes().await.unwrap();
    let has = |version: &str, queues| nodes.iter().any(|node| node.version == version && node.queues.len() == queues);
    assert!(has(env!("CARGO_PKG_VERSION"), 1) && has("99.0.0", 2), "{nodes:?}");

    load.board.schedules().pause("tick").await.unwrap();
    let firings = load.board.schedules().firings("tick", None, 10_000).await.unwrap();
    load.expect(firings.iter().filter_map(|firing| firing.task_id));
    soon("the stop", other.stop()).await;
    // Otherwise this program could not open the storage to check the tasks.
    by_hand.batch_execute(FORGOTTEN).unwrap();
    load.end(url).await;
}

async fn fires(board: &Board) {
    let run_count = async || board.schedules().get("tick").await.unwrap().schedule.run_count;
    let before = run_count().await;
    eventually("the schedule fires", async || (run_count().await > before + 2).then_some(())).await;
}

async fn last_beat(board: &Board) -> Option<Timestamp> {
    let nodes = board.nodes().await.unwrap();
    nodes.iter().find(|node| node.node_id == board.node()).map(|node| node.heartbeat_at)
}

fn node_of_later_version(now: Timestamp) -> String {
    let (node_id, until) = (NodeId::from(Uuid::now_v7()), now + Duration::from_secs(3_600));
    format!(
        "INSERT INTO node (node_id, name, started_at, heartbeat_at, lease_until, version, queues, types, pulls, colour) VALUES
        ('{node_id}', 'the first', {0}, {0}, {1}, '99.0.0', '[[\"default\",4],[\"other\",2]]', '[]', '[]', 'red')",
        now.as_micros(),
        until.as_micros()
    )
}
