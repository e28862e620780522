//! Processes that die in the middle of their work.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::time::Duration;

use callboard::{Board, ExecutionStatus, NodeId, TaskState, Timestamp};
use serde_json::json;

use super::node::Node;
use super::waiting::{eventually, soon};

/// Longer than any moment in which a busy machine lets a heartbeat wait.
const LEASE: Duration = Duration::from_secs(5);
/// How long after its lease is over, at most, others find that a node is dead.
const NOTICED: Duration = Duration::from_secs(5);
const PROCESSES: usize = 3;

/// What they were running is rescued within their lease and 5 s. `gate` is a file that is not there.
pub(crate) async fn comes_in_time(url: &str, gate: &Path) {
    let board = Board::builder().url(url).lease(LEASE).start().await.unwrap();
    // A queue for each, so that what one has held runs on none of the others.
    let queue = |number: usize| format!("of {number}");
    let plan = |number| json!({"url": url, "lease_ms": LEASE.as_millis() as u64, "queues": [[queue(number), 1]], "tell": true});
    let mut nodes: Vec<Node> = (0..PROCESSES).map(|number| Node::ready(&plan(number))).collect();
    let mut killed = Vec::new();
    for (number, node) in nodes.iter_mut().enumerate() {
        let task_id = node.push(&json!({"type": "gate", "queue": queue(number), "params": {"path": gate}}));
        node.hear_event("running", task_id);
        let id = node.id();
        let before = last_beat(&board, id).await;
        // The worst moment: its whole lease lies ahead.
        eventually("its next heartbeat", async || (last_beat(&board, id).await > before).then_some(())).await;
        killed.push((task_id, board.clock().now()));
        node.kill();
    }
    // By this board, or by one that was killed later: on a busy machine the first may be missed before the last is killed.
    let mut spans = Vec::new();
    for (task_id, died) in &killed {
        let rescued = async || board.get(*task_id).await.unwrap().filter(|task| task.state == TaskState::Pending);
        let task = eventually("a rescue", rescued).await;
        spans.push(task.updated_at.since(*died));
    }
    for (task_id, _) in &killed {
        assert_eq!(board.get(*task_id).await.unwrap().unwrap().state, TaskState::Pending);
        let runs: Vec<_> = board.executions(*task_id).await.unwrap().iter().map(|run| run.status).collect();
        assert_eq!(runs, [ExecutionStatus::Lost]);
    }
    soon("the stop", board.stop()).await;
    spans.sort_unstable();
    println!("rescued {spans:.1?} after they were killed, their lease was {LEASE:?}");
    // The median, for a machine that does other things as well has moments when it is slow.
    assert!(spans[PROCESSES / 2] < LEASE + NOTICED, "{spans:?}");
}

async fn last_beat(board: &Board, id: NodeId) -> Option<Timestamp> {
    let nodes = board.nodes().await.unwrap();
    nodes.iter().find(|node| node.node_id == id).map(|node| node.heartbeat_at)
}
