//! Upkeep in time: what is due is noticed when it is due, whatever else there is to do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::memory::Memory;
use callboard::testing::{Faulty, TestBoard};
use callboard::{Board, NewTask, Outcome, TaskState};
use serde_json::json;

/// What does not come within a generous time will not come.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("no answer in time")
}

#[actix_rt::test]
async fn a_history_of_several_looks_is_pruned_to_its_end() {
    let builder = Board::builder()
        .retention(TaskState::Completed, None, Some(5))
        .handler("n", |_, _| async { Ok(Outcome::done()) });
    let board = TestBoard::start(builder).await.unwrap();
    for _ in 0..3 {
        board.push_many((0..7_000).map(|n| NewTask::new("n", &n))).await.unwrap();
    }
    board.settle().await;
    board.jump(Duration::from_secs(60)).await;
    soon(async {
        while board.counts().await.unwrap().iter().map(|count| count.tasks).sum::<u64>() > 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[actix_rt::test]
async fn what_is_due_runs_although_pruning_takes_its_time() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    storage.hold_outdated(true);
    let board = Board::builder()
        .backend(storage.clone())
        .retention(TaskState::Completed, None, Some(1))
        .configure(|c| c.check_interval = Duration::from_millis(100))
        .handler("n", |_, _| async { Ok(Outcome::done()) })
        .start()
        .await
        .unwrap();
    let mut done = Vec::new();
    for _ in 0..3 {
        let delayed = NewTask::new("n", &json!({})).delay(Duration::from_millis(20));
        done.push(board.push(delayed).await.unwrap().task_id);
        assert_eq!(soon(board.wait(done[done.len() - 1])).await.unwrap().state, TaskState::Completed);
    }
    // Not the look that was held, which may have counted before they were done: there is one at each start.
    storage.hold_outdated(false);
    soon(board.stop()).await;
    let board =
        Board::builder().backend(storage).retention(TaskState::Completed, None, Some(1)).start().await.unwrap();
    soon(async {
        while board.get(done[1]).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(board.get(done[2]).await.unwrap().is_some());
    soon(board.stop()).await;
}
