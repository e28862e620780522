//! Pushes with a unique key or an expiry time, and pushes during a stop.

use std::sync::Arc;

use callboard::backend::memory::Memory;
use callboard::testing::Faulty;
use callboard::{Board, NewTask, Outcome, PushError, TaskState, Unique, UniqueMode};
use parking_lot::Mutex;

use crate::{HOUR, count, ids, soon, start};

fn only_one(key: &str) -> NewTask {
    NewTask::new("x", &()).unique(Unique::key(key).mode(UniqueMode::Reject))
}

#[actix_rt::test]
async fn a_push_is_refused_while_its_key_is_held_and_names_the_holder() {
    let board = start(Board::builder()).await;
    let holder = board.push(only_one("k")).await.unwrap().task_id;
    let refused = board.push(only_one("k")).await.unwrap_err();
    assert!(
        matches!(&refused, PushError::UniqueKeyHeld { key, existing } if key == "k" && *existing == holder),
        "{refused}"
    );
    board.cancel(holder, "not wanted").await.unwrap();
    let next = board.push(only_one("k")).await.unwrap();
    assert!(!next.duplicate && next.task_id != holder);
    board.leave_rest();
}

#[actix_rt::test]
async fn several_pushes_are_refused_together() {
    let board = start(Board::builder()).await;
    let holder = board.push(only_one("k")).await.unwrap().task_id;
    for order in [["k", "free"], ["free", "k"]] {
        let refused = board.push_many(order.map(only_one)).await.unwrap_err();
        assert!(
            matches!(&refused, PushError::UniqueKeyHeld { key, existing } if key == "k" && *existing == holder),
            "{refused}"
        );
    }
    assert_eq!(count(&board, TaskState::Pending).await, 1, "nothing of them was stored");
    board.leave_rest();
}

#[actix_rt::test]
async fn what_has_not_started_by_its_end_is_called_off_and_what_has_is_left_alone() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let called_off = Arc::clone(&heard);
    let builder = Board::builder()
        .handler("n", |_, _| async { Ok(Outcome::done()) })
        .on_cancelled("n", move |fact| called_off.lock().push(fact.task_id));
    let board = start(builder).await;
    let end = board.clock().now() + HOUR;
    let tasks = [NewTask::new("n", &()).expires_at(end), NewTask::new("n", &()).delay(2 * HOUR).expires_in(HOUR)];
    let pushed = ids(&board.push_many(tasks).await.unwrap());
    board.advance(3 * HOUR).await;
    board.assert_state(pushed[0], TaskState::Completed);
    board.assert_state(pushed[1], TaskState::Cancelled);
    assert_eq!(*heard.lock(), [pushed[1]]);
}

#[actix_rt::test]
async fn a_push_that_a_stop_meets_is_stored_or_refused_and_never_in_doubt() {
    // Storage runs on threads of its own, so that the board's first look at it is in flight when the pushes come.
    for _ in 0..100 {
        let board = Board::builder().backend(Faulty::new(Arc::new(Memory::new()), true)).start().await.unwrap();
        let push = || {
            let board = board.clone();
            actix_rt::spawn(async move { board.push(NewTask::new("n", &())).await })
        };
        let pushes: Vec<_> = (0..8).map(|_| push()).collect();
        actix_rt::task::yield_now().await;
        soon(board.stop()).await;
        for push in pushes {
            let outcome = soon(push).await.unwrap();
            assert!(matches!(outcome, Ok(_) | Err(PushError::Closed)), "{outcome:?}");
        }
    }
}

#[actix_rt::test]
async fn a_replaced_task_starts_in_its_own_queue_when_the_push_names_another() {
    for mode in [UniqueMode::Replace, UniqueMode::KeepLatest] {
        // With this check interval the board looks at a queue only after a wake-up.
        let builder = Board::builder().configure(|config| config.check_interval = HOUR).queue("a", 1).queue("b", 1);
        let board = builder.handler("x", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
        let task = |queue| NewTask::new("x", &()).queue(queue).unique(Unique::key("k").mode(mode));
        let holder = board.push(task("a").delay(HOUR)).await.unwrap();
        assert_eq!(holder.state, TaskState::Scheduled);
        let now = board.push(task("b")).await.unwrap();
        assert_eq!((now.task_id, now.state), (holder.task_id, TaskState::Pending), "{mode}");
        let done = soon(board.wait(holder.task_id)).await.unwrap();
        assert_eq!((done.state, &*done.queue), (TaskState::Completed, "a"));
        board.stop().await;
    }
}
