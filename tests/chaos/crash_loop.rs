//! A task that kills its process.

use std::os::unix::process::ExitStatusExt;

use callboard::{Board, ExecutionStatus, NewTask, TaskState};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::node::Node;
use crate::support::{Place, soon};

const NEIGHBOURS: usize = 40;

#[actix_rt::test]
async fn a_task_that_kills_its_process_is_found_and_its_neighbours_complete() {
    let place = Place::new();
    let notes = place.folder().join("ledger");
    let board = Board::builder().url(place.url()).start().await.unwrap();
    // Long enough for the killer to start while they run.
    let neighbour = |_| NewTask::new("plain", &json!({"ms": 100})).max_attempts(1);
    let before = board.push_many((0..NEIGHBOURS / 2).map(neighbour)).await.unwrap();
    let killer = board.push(NewTask::new("abort", &()).max_attempts(20)).await.unwrap().task_id;
    let after = board.push_many((0..NEIGHBOURS / 2).map(neighbour)).await.unwrap();

    let plan = json!({"url": place.url(), "ledger": notes, "lease_ms": 500, "queues": [["default", 8]],
        "leave_when_empty": true});
    let mut deaths = 0;
    // Restart the process after each crash, like a service manager.
    loop {
        let status = Node::start(&plan).end();
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
        deaths += 1;
        assert!(deaths <= 3, "it was given another chance");
    }
    assert_eq!(deaths, 3);
    let task = soon("the end", board.wait(killer)).await.unwrap();
    assert_eq!(task.state, TaskState::Dead);
    assert!(task.last_error.as_deref().unwrap_or_default().starts_with("crash loop"), "{task:?}");
    let runs: Vec<_> = board.executions(killer).await.unwrap().iter().map(|run| run.status).collect();
    assert_eq!(runs, [ExecutionStatus::Lost; 3]);
    let mut hit = 0;
    for neighbour in before.iter().chain(&after) {
        let task = soon("a neighbour", board.wait(neighbour.task_id)).await.unwrap();
        assert_eq!((task.state, task.crash_count), (TaskState::Completed, 0), "{task:?}");
        hit += usize::from(board.executions(task.task_id).await.unwrap().len() > 1);
    }
    println!("dead after {deaths} crashes; {NEIGHBOURS} neighbours completed, {hit} of them hit by a crash");
    assert!(hit > 0, "no neighbour ran beside it, so nothing was shown");
    soon("the stop", board.stop()).await;
}
