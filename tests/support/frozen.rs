//! A process that is frozen for longer than its lease.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::time::Duration;

use callboard::{Board, ExecutionStatus, Outcome, TaskState};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::node::Node;
use super::waiting::soon;

/// Asserts that the task of a frozen process is rescued and runs on a different node, and that its own late result is
/// rejected. `gate` is a file that does not exist yet.
pub(crate) async fn is_rescued_and_refused(url: &str, gate: &Path) {
    let mut frozen = Node::ready(&json!({"url": url, "lease_ms": 1_000, "tell": true}));
    let task_id = frozen.push(&json!({"type": "gate", "params": {"path": gate}, "max_attempts": 3}));
    frozen.hear_event("running", task_id);
    frozen.freeze(url);

    let board = Board::builder()
        .url(url)
        .lease(Duration::from_secs(1))
        .handler("gate", |_, _| async { Ok(Outcome::from(json!("by the other"))) })
        .start()
        .await
        .unwrap();
    let task = soon("the rescue", board.wait(task_id)).await.unwrap();
    assert_eq!((task.state, task.crash_count), (TaskState::Completed, 0));
    assert_eq!(board.health().await.rescued, 1);

    std::fs::write(gate, "").unwrap();
    frozen.signal(Signal::SIGCONT);
    frozen.hear_event("fenced", task_id);
    let health = frozen.health();
    assert_eq!(health["fenced"], 1, "{health}");
    let own_end = |line: &Value| line["event"] == "completed" && line["task_id"] == json!(task_id);
    assert_eq!(frozen.count(own_end), 0, "it told of an end that was refused");
    let task = board.get(task_id).await.unwrap().unwrap();
    assert_eq!(task.result, Some(json!("by the other")));
    let runs: Vec<_> = board.executions(task_id).await.unwrap().iter().map(|run| run.status).collect();
    assert_eq!(runs, [ExecutionStatus::Lost, ExecutionStatus::Success]);
    soon("the stop", board.stop()).await;

    // Afterwards the process is an ordinary node again.
    let next = frozen.push(&json!({"type": "plain"}));
    frozen.hear_event("completed", next);
    println!("frozen, rescued, fenced once, and at work again: {}", frozen.health()["healthy"]);
}
