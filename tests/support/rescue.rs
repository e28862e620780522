//! Processes that die in the middle of their work.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::time::Duration;

use callboard::{Board, ExecutionStatus, NodeId, TaskState, Timestamp};
use serde_json::json;

use super::node::Node;
use super::waiting::{eventually, soon};

/// Longer than any delay of a heartbeat on a busy machine.
const LEASE: Duration = Duration::from_secs(5);
/// The longest time after the end of its lease until the surviving nodes notice a dead node.
const NOTICED: Duration = Duration::from_secs(5);
const PROCESSES: usize = 3;

/// Asserts that the tasks of killed processes are rescued within their lease and 5 s. `gate` is a file that does not
/// exist.
pub(crate) async fn comes_in_time(url: &str, gate: &Path) {
    let board = Board::builder().url(url).lease(LEASE).start().await.unwrap();
    // Each process has its own queue, so that its tasks run on no other process.
    let queue = |number: usize| format!("of {number}");
    let plan = |number| json!({"url": url, "lease_ms": LEASE.as_millis() as u64, "queues": [[queue(number), 1]], "tell": true});
    let mut nodes: Vec<Node> = (0..PROCESSES).map(|number| Node::ready(&plan(number))).collect();
    let mut killed = Vec::new();
    for (number, node) in nodes.iter_mut().enumerate() {
        let task_id = node.push(&json!({"type": "gate", "queue": queue(number), "params": {"path": gate}}));
        node.hear_event("running", task_id);
        let id = node.id();
        let before = last_beat(&board, id).await;
        // The worst moment for a kill, because the whole lease still lies ahead.
        eventually("its next heartbeat", async || (last_beat(&board, id).await > before).then_some(())).await;
        killed.push((task_id, board.clock().now()));
        node.kill();
    }
    // The rescue is done by this board, or by a process that was killed later. On a busy machine the first death may be
    // noticed before the last kill.
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
    // Use the median, because a machine with further load is slow at times.
    assert!(spans[PROCESSES / 2] < LEASE + NOTICED, "{spans:?}");
}

async fn last_beat(board: &Board, id: NodeId) -> Option<Timestamp> {
    let nodes = board.nodes().await.unwrap();
    nodes.iter().find(|node| node.node_id == id).map(|node| node.heartbeat_at)
}
