//! Upkeep in time: due work is noticed when it is due, even while there is other work to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use callboard::backend::memory::Memory;
use callboard::testing::{Faulty, TestBoard};
use callboard::{Board, BoardBuilder, Context, NewTask, Outcome, Retry, TaskError, TaskState, Unique, UniqueMode};
use serde_json::json;

/// Awaits `work`, and fails the test at a time limit. The limit is generous: work that exceeds it would never end.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("no answer in time")
}

/// Describes a board with a very long check interval. It looks by itself so rarely that no test would wait for it.
fn sleepy() -> BoardBuilder {
    let done = |_, _| async { Ok(Outcome::done()) };
    Board::builder().configure(|c| c.check_interval = Duration::from_secs(3_600)).handler("n", done)
}

/// Starts a board, and waits until the rounds of upkeep that belong to the start are over.
async fn start(builder: BoardBuilder) -> Board {
    let board = builder.start().await.unwrap();
    let task = board.push(NewTask::new("n", &()).delay(Duration::from_millis(20))).await.unwrap().task_id;
    assert_eq!(soon(board.wait(task)).await.unwrap().state, TaskState::Completed);
    board
}

/// Returns while a commit is in flight, so that the run ends during it. So the search for due tasks reaches storage
/// before the end of the run.
async fn behind_a_commit(storage: Arc<Faulty>, cx: Context) {
    let before = storage.begun();
    actix_rt::spawn(async move { cx.push(NewTask::new("n", &())).await });
    while storage.begun() == before {
        tokio::task::yield_now().await;
    }
}

#[actix_rt::test]
async fn a_snooze_or_a_retry_of_no_time_is_not_overlooked() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    storage.slow_down(Duration::from_millis(30));
    let snoozed = AtomicU32::new(0);
    let (of_snoozes, of_fails) = (Arc::clone(&storage), Arc::clone(&storage));
    let builder = sleepy()
        .backend(storage)
        .handler("snoozes", move |_, cx| {
            let first = snoozed.fetch_add(1, Ordering::SeqCst) == 0;
            let storage = Arc::clone(&of_snoozes);
            async move {
                behind_a_commit(storage, cx).await;
                Ok(if first { Outcome::Snooze(Duration::ZERO) } else { Outcome::done() })
            }
        })
        .handler("fails", move |_, cx: Context| {
            let (first, storage) = (cx.attempt() == 1, Arc::clone(&of_fails));
            async move {
                behind_a_commit(storage, cx).await;
                if first { Err(TaskError::new("once").into()) } else { Ok(Outcome::done()) }
            }
        });
    let board = start(builder).await;
    for kind in ["snoozes", "fails"] {
        let task = NewTask::new(kind, &()).retry(Retry::fixed(Duration::ZERO));
        let task = board.push(task).await.unwrap().task_id;
        assert_eq!(soon(board.wait(task)).await.unwrap().state, TaskState::Completed, "{kind}");
    }
    soon(board.stop()).await;
}

#[actix_rt::test]
async fn a_task_that_is_replaced_by_an_earlier_one_runs_in_time() {
    let board = start(sleepy()).await;
    let task = || NewTask::new("n", &()).unique(Unique::key("k").mode(UniqueMode::Replace));
    let later = board.push(task().delay(Duration::from_secs(3_000))).await.unwrap();
    let sooner = board.push(task().delay(Duration::from_millis(100))).await.unwrap();
    assert_eq!(later.task_id, sooner.task_id);
    assert_eq!(soon(board.wait(later.task_id)).await.unwrap().state, TaskState::Completed);
    soon(board.stop()).await;
}

#[actix_rt::test]
async fn a_pushed_task_expires_in_time() {
    let board = start(sleepy()).await;
    let nobody = NewTask::new("of nobody", &()).expires_in(Duration::from_millis(200));
    let task = board.push(nobody).await.unwrap().task_id;
    assert_eq!(soon(board.wait(task)).await.unwrap().state, TaskState::Cancelled);
    soon(board.stop()).await;
}

#[actix_rt::test]
async fn a_delivery_runs_out_in_time() {
    let board = start(sleepy()).await;
    let task = NewTask::new("pulled", &()).queue("pulled").max_attempts(3).timeout(Duration::from_millis(300));
    board.push(task).await.unwrap();
    let first = soon(board.pop("pulled", None)).await.unwrap().unwrap();
    // A round of upkeep in between must not make the board forget the timeout of the delivery.
    let between = board.push(NewTask::new("n", &()).delay(Duration::from_millis(50))).await.unwrap();
    assert_eq!(soon(board.wait(between.task_id)).await.unwrap().state, TaskState::Completed);
    let second = soon(board.pop("pulled", None)).await.unwrap().unwrap();
    assert_eq!((second.task_id(), second.attempt()), (first.task_id(), 2));
    second.extend(Duration::from_millis(50)).unwrap();
    let third = soon(board.pop("pulled", None)).await.unwrap().unwrap();
    assert_eq!(third.attempt(), 3);
    third.ack().await.unwrap();
    drop((first, second));
    soon(board.stop()).await;
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
    // The search that was held is not enough, because it may have counted before the tasks were done. So a new board is
    // started: each start begins with a search.
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
