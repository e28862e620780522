//! Progress that handlers report.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::memory::Memory;
use callboard::testing::{Faulty, at};
use callboard::{Board, BoxError, Clock, Context, Outcome, TaskId, TaskState};
use serde_json::json;
use tokio::sync::mpsc;

use crate::soon;

/// The message of a task's progress in storage.
async fn stored(board: &Board, task: TaskId) -> Option<String> {
    board.get(task).await.unwrap().unwrap().progress.map(|progress| progress.message)
}

async fn wait_until_stored(board: &Board, task: TaskId, message: &str) {
    soon(async {
        while stored(board, task).await.as_deref() != Some(message) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[actix_rt::test]
async fn reports_that_come_too_soon_make_no_commits_and_the_last_one_is_stored() {
    // This storage runs on threads of its own, as a database does. So reports gather while a commit is in flight.
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let clock = Clock::manual(at(0));
    let (tell, mut begun) = mpsc::unbounded_channel();
    let builder = Board::builder().handler("works", move |_, cx: Context| {
        tell.send(cx.clone()).ok();
        async move {
            cx.cancelled().await;
            cx.progress(0.75, "ending");
            Ok::<_, BoxError>(Outcome::Cancel("asked to".into()))
        }
    });
    let board = builder.backend(storage.clone()).clock(clock.clone()).start().await.unwrap();
    let task = board.push(json!({"type": "works"})).await.unwrap().task_id;
    let cx = soon(begun.recv()).await.unwrap();
    let before = storage.begun();
    for _ in 0..50_000 {
        cx.progress(0.25, "on and on");
        tokio::task::yield_now().await;
    }
    wait_until_stored(&board, task, "on and on").await;
    cx.progress(0.5, "last for now");
    // The clock stands still, so all of these reports except the first came too soon.
    assert!(storage.begun() - before <= 2, "{} commits", storage.begun() - before);

    clock.advance(Duration::from_millis(499));
    board.push(json!({"type": "another"})).await.unwrap();
    assert_eq!(stored(&board, task).await.as_deref(), Some("on and on"), "it is no part of another's commit");
    clock.advance(Duration::from_millis(1));
    wait_until_stored(&board, task, "last for now").await;

    board.cancel(task, "enough").await.unwrap();
    let ended = soon(board.wait(task)).await.unwrap();
    assert_eq!((ended.state, ended.progress.unwrap().message.as_str()), (TaskState::Cancelled, "ending"));
    board.stop().await;
}
