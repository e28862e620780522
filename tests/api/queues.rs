//! Concurrency, draining, deliveries, and tasks that this board does not run.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use callboard::backend::memory::Memory;
use callboard::testing::Faulty;
use callboard::{Board, CancelReason, DeliveryError, Event, ExecutionStatus, NewTask, Outcome, TaskState};
use futures_util::future::{Either, join_all, select};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{HOUR, Held, count, ids, soon, start};

#[actix_rt::test]
async fn concurrency_is_changed_up_and_down_while_tasks_run() {
    let (mut held, builder) = Held::new();
    let (tell, mut completed) = mpsc::unbounded_channel();
    let builder = builder.queue("default", 2).on_completed("held", move |fact| tell.send(fact.task_id).unwrap_or(()));
    let board = start(builder).await;
    board.push_many((0..7).map(|_| json!({"type": "held"}))).await.unwrap();
    for _ in 0..2 {
        held.begun().await;
    }
    assert_eq!((count(&board, TaskState::Running).await, count(&board, TaskState::Pending).await), (2, 5));
    board.set_concurrency("default", Some(4)).await.unwrap();
    for _ in 0..2 {
        held.begun().await;
    }
    assert_eq!(count(&board, TaskState::Running).await, 4);
    board.set_concurrency("default", Some(1)).await.unwrap();
    held.let_go(3);
    for _ in 0..3 {
        soon(completed.recv()).await.unwrap();
    }
    // Runs in progress go on. A run that ends is not replaced.
    assert_eq!((count(&board, TaskState::Running).await, count(&board, TaskState::Pending).await), (1, 3));
    board.set_concurrency("default", None).await.unwrap();
    held.begun().await;
    assert_eq!(count(&board, TaskState::Running).await, 2);
    held.let_go(4);
    board.settle().await;
    assert_eq!(count(&board, TaskState::Completed).await, 7);
    assert!(board.set_concurrency("default", Some(100_001)).await.is_err());
}

#[actix_rt::test]
async fn settings_that_are_changed_at_once_are_all_kept() {
    // Storage runs on threads of its own, so that a change can come between the read and the write of a concurrent
    // change.
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let board = Board::builder().backend(storage).start().await.unwrap();
    for round in 1..50 {
        let (pause, resize) = (board.pause("default"), board.set_concurrency("default", Some(round)));
        let (paused, resized) = soon(async { tokio::join!(pause, resize) }).await;
        paused.and(resized).unwrap();
        let stored = board.queue_settings().await.unwrap().remove(0);
        assert_eq!((stored.paused, stored.concurrency), (true, Some(round)));
        soon(board.resume("default")).await.unwrap();
    }
    board.stop().await;
}

#[actix_rt::test]
async fn draining_a_queue_waits_for_what_runs_and_starts_nothing() {
    let (mut held, builder) = Held::new();
    let (tell, mut paused) = mpsc::unbounded_channel();
    let builder = builder.queue("default", 1).on_event(move |event| {
        if matches!(event, Event::QueuePaused { .. }) {
            tell.send(()).unwrap_or(());
        }
    });
    let board = start(builder).await;
    let pushed = board.push_many((0..2).map(|_| json!({"type": "held"}))).await.unwrap();
    let first = held.begun().await;
    let draining = board.board().clone();
    let drained = actix_rt::spawn(async move { draining.drain("default").await });
    soon(paused.recv()).await.unwrap();
    assert!(!drained.is_finished());
    held.let_go(2);
    soon(drained).await.unwrap().unwrap();
    assert_eq!(first, pushed[0].task_id);
    board.assert_state(first, TaskState::Completed);
    board.assert_state(pushed[1].task_id, TaskState::Pending);
    // A queue without runs is drained at once.
    soon(board.drain("default")).await.unwrap();
    board.resume("default").await.unwrap();
    board.settle().await;
    board.assert_state(pushed[1].task_id, TaskState::Completed);
}

/// A node under load always has a commit in flight. A drain of a queue must not wait for the commits of other queues.
#[actix_rt::test]
async fn draining_a_queue_does_not_wait_for_the_load_of_others() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let board = Board::builder().backend(Arc::clone(&storage) as _).start().await.unwrap();
    // Commits are slow, so that a commit is always in flight.
    storage.slow_down(Duration::from_millis(5));
    let producer = async || {
        for _ in 0..100 {
            soon(board.push(NewTask::new("never run", &()).delay(HOUR))).await.unwrap();
        }
    };
    let load = join_all((0..8).map(|_| producer()));
    let drained = soon(board.drain("other"));
    match select(pin!(drained), pin!(load)).await {
        Either::Left((drained, _)) => drained.unwrap(),
        Either::Right(_) => panic!("the load of another queue is over first"),
    }
    soon(board.stop()).await;
}

#[actix_rt::test]
async fn a_delivery_times_out_later_when_it_was_given_more_time() {
    let board = start(Board::builder()).await;
    let task = board.push(NewTask::new("x", &()).timeout(HOUR)).await.unwrap().task_id;
    let slow = soon(board.pop("default", None)).await.unwrap().unwrap();
    slow.extend(2 * HOUR).unwrap();
    board.advance(2 * HOUR - Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Running);
    board.advance(Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Pending);
    assert_eq!(board.executions(task).await.unwrap()[0].status, ExecutionStatus::Timeout);
    assert!(matches!(slow.extend(HOUR), Err(DeliveryError::Fenced(fenced)) if fenced == task));
    let again = soon(board.pop("default", None)).await.unwrap().unwrap();
    assert_eq!((again.task_id(), again.attempt()), (task, 2));
    // The late delivery is fenced. It decides nothing, and takes nothing away from its successor.
    assert!(matches!(slow.ack().await, Err(DeliveryError::Fenced(_))));
    again.ack_with(&"second").await.unwrap();
    assert_eq!(board.get(task).await.unwrap().unwrap().result, Some(json!("second")));
}

#[actix_rt::test]
async fn the_holder_of_a_delivery_is_asked_to_end_and_after_the_grace_it_is_taken_away() {
    let board = start(Board::builder().cancel_grace(HOUR)).await;
    let mut tasks = Vec::new();
    for _ in 0..2 {
        tasks.push(board.push(NewTask::new("x", &())).await.unwrap().task_id);
    }
    let first = soon(board.pop("default", None)).await.unwrap().unwrap();
    let second = soon(board.pop("default", None)).await.unwrap().unwrap();
    for task in &tasks {
        assert!(board.cancel(*task, "not wanted").await.unwrap());
    }
    soon(first.cancelled()).await;
    assert_eq!(second.cancel_reason(), Some(CancelReason::Requested("not wanted".into())));
    assert!(matches!(first.extend(2 * HOUR), Err(DeliveryError::Cancelled(_))));
    // A delivery that is acknowledged within the grace completes its task.
    first.ack().await.unwrap();
    board.assert_state(tasks[0], TaskState::Completed);
    board.advance(HOUR - Duration::from_secs(1)).await;
    board.assert_state(tasks[1], TaskState::Running);
    board.advance(Duration::from_secs(1)).await;
    board.assert_state(tasks[1], TaskState::Cancelled);
    assert_eq!(board.executions(tasks[1]).await.unwrap()[0].status, ExecutionStatus::Cancelled);
    assert_eq!(board.get(tasks[1]).await.unwrap().unwrap().last_error.as_deref(), Some("not wanted"));
    assert!(matches!(second.ack().await, Err(DeliveryError::Fenced(_))));
}

#[actix_rt::test]
async fn a_delivery_that_times_out_on_its_last_attempt_is_dead() {
    let board = start(Board::builder()).await;
    let task = board.push(NewTask::new("x", &()).timeout(HOUR).max_attempts(1)).await.unwrap().task_id;
    let delivery = soon(board.pop("default", None)).await.unwrap().unwrap();
    board.advance(HOUR).await;
    board.assert_state(task, TaskState::Dead);
    drop(delivery);
    board.assert_state(task, TaskState::Dead);
}

#[actix_rt::test]
async fn a_board_without_handlers_leaves_tasks_to_others() {
    let board = start(Board::builder()).await;
    let pushed = board.push(json!({"type": "x"})).await.unwrap();
    assert_eq!(pushed.state, TaskState::Pending);
    board.advance(HOUR).await;
    board.assert_state(pushed.task_id, TaskState::Pending);
    board.leave_rest();
}

#[actix_rt::test]
async fn a_type_that_is_unknown_here_is_left_alone_and_holds_nobody_up() {
    let builder = Board::builder().queue("default", 1).handler("known", |_, _| async { Ok(Outcome::done()) });
    let board = start(builder).await;
    let tasks = ["foreign", "known", "foreign", "known"].map(|kind| NewTask::new(kind, &()));
    let pushed = ids(&board.push_many(tasks).await.unwrap());
    board.advance(HOUR).await;
    for (task, state) in pushed.iter().zip([TaskState::Pending, TaskState::Completed].iter().cycle()) {
        board.assert_state(*task, *state);
    }
    assert_eq!(board.get(pushed[0]).await.unwrap().unwrap().attempt, 0);
    board.leave_rest();
}

#[cfg(feature = "sqlite")]
#[actix_rt::test]
async fn a_paused_queue_is_paused_when_the_board_starts_again_and_when_its_queue_dies() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasks.db").display());
    let pusher = Board::builder().url(&url).start().await.unwrap();
    pusher.pause("held").await.unwrap();
    let held = pusher.push(NewTask::new("x", &()).queue("held")).await.unwrap().task_id;
    pusher.stop().await;

    let builder = Board::builder().url(&url).queue("held", 4).queue("free", 1);
    let board = builder.handler("x", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
    let still_held = async |board: &Board| {
        // The commits for this task would also claim for the lane `held` if that lane were not paused.
        let free = board.push(NewTask::new("x", &()).queue("free")).await.unwrap();
        assert_eq!(board.wait(free.task_id).await.unwrap().state, TaskState::Completed);
        let direct = board.push(NewTask::new("x", &()).queue("held")).await.unwrap();
        assert_eq!(direct.state, TaskState::Pending);
        assert_eq!(board.get(held).await.unwrap().unwrap().state, TaskState::Pending);
    };
    still_held(&board).await;
    callboard::testing::crash(&board, callboard::Part::Queue);
    still_held(&board).await;
    board.resume("held").await.unwrap();
    assert_eq!(board.wait(held).await.unwrap().state, TaskState::Completed);
    board.stop().await;
}
