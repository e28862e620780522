//! The basic calls of a board: push, run, wait, edit.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use callboard::{Board, Clock, NewTask, Outcome, TaskError, TaskState, Timestamp};
use serde_json::json;
use tokio::sync::{Notify, mpsc::unbounded_channel};

#[actix_rt::test]
async fn a_pushed_task_runs_and_keeps_its_result() {
    let board = Board::builder()
        .handler("double", |params, _| async move { Ok(json!(params["n"].as_i64().unwrap_or(0) * 2)) })
        .start()
        .await
        .unwrap();
    let pushed = board.push(json!({"type": "double", "params": {"n": 21}})).await.unwrap();
    let task = board.wait(pushed.task_id).await.unwrap();
    assert_eq!(task.state, TaskState::Completed);
    assert_eq!(task.result, Some(json!(42)));
    board.stop().await;
}

#[actix_rt::test]
async fn a_failing_task_is_retried_and_then_dead() {
    let board = Board::builder()
        .handler("fail", |_, _| async { Err::<(), _>(TaskError::new("no luck").into()) })
        .start()
        .await
        .unwrap();
    let pushed = board
        .push(
            NewTask::new("fail", &json!({})).retry(callboard::Retry::fixed(Duration::from_millis(1))).max_attempts(3),
        )
        .await
        .unwrap();
    let task = board.wait(pushed.task_id).await.unwrap();
    assert_eq!(task.state, TaskState::Dead);
    assert_eq!(task.attempt, 3);
    assert_eq!(board.executions(pushed.task_id).await.unwrap().len(), 3);
    board.stop().await;
}

#[actix_rt::test]
async fn a_popped_task_is_acknowledged() {
    let board = Board::builder().start().await.unwrap();
    board.push(json!({"type": "x", "params": [1]})).await.unwrap();
    let delivery = board.pop("default", Some(Duration::from_secs(5))).await.unwrap().unwrap();
    let task_id = delivery.task_id();
    delivery.ack().await.unwrap();
    assert_eq!(board.get(task_id).await.unwrap().unwrap().state, TaskState::Completed);
    assert!(board.pop("default", Some(Duration::from_millis(10))).await.unwrap().is_none());
    board.stop().await;
    board.stop().await;
}

#[test]
fn a_board_runs_without_a_system_of_the_callers() {
    futures_util::FutureExt::now_or_never(async {});
    let run = async {
        let board = Board::builder().handler("n", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
        let ids = board.push_many((0..100).map(|_| json!({"type": "n"}))).await.unwrap();
        for pushed in ids {
            assert_eq!(board.wait(pushed.task_id).await.unwrap().state, TaskState::Completed);
        }
        board.stop().await;
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run);
}

#[actix_rt::test]
async fn a_pop_without_patience_takes_what_is_there_or_says_none() {
    let board = Board::builder().start().await.unwrap();
    assert!(board.pop("default", Some(Duration::ZERO)).await.unwrap().is_none());
    board.push(json!({"type": "x"})).await.unwrap();
    let delivery = board.pop("default", Some(Duration::ZERO)).await.unwrap().unwrap();
    assert!(board.pop("default", Some(Duration::ZERO)).await.unwrap().is_none());
    delivery.reject(true).await.unwrap();
    assert!(board.pop("default", Some(Duration::ZERO)).await.unwrap().is_some());
    board.stop().await;
}

#[actix_rt::test]
async fn json_with_a_wrong_number_is_refused_by_name() {
    let board = Board::builder().start().await.unwrap();
    let error = board.push(json!({"type": "x", "delay_seconds": -1})).await.unwrap_err();
    assert!(error.to_string().contains("delay_seconds: expected a number of seconds, got -1"), "{error}");
    let error = board.push(json!({"type": "x", "colour": "red"})).await.unwrap_err();
    assert!(error.to_string().contains("colour"), "{error}");
    board.stop().await;
}

#[actix_rt::test]
async fn calling_off_a_waiting_task_is_told() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let board = Board::builder()
        .on_cancelled("x", move |fact| tell.send((fact.task_id, fact.error.clone())).unwrap_or(()))
        .start()
        .await
        .unwrap();
    let pushed = board.push(json!({"type": "x"})).await.unwrap();
    assert!(board.cancel(pushed.task_id, "not wanted").await.unwrap());
    assert_eq!(told.recv().await, Some((pushed.task_id, Some("not wanted".into()))));
    board.stop().await;
}

#[actix_rt::test]
async fn a_crash_limit_of_0_is_refused_at_the_start() {
    let start = Board::builder().configure(|c| c.crash_limit = 0).start().await;
    let refused = start.unwrap_err().to_string();
    assert!(refused.contains("crash_limit is 0"), "{refused}");
    Board::builder().configure(|c| c.crash_limit = 1).start().await.unwrap().stop().await;
}

#[actix_rt::test]
async fn a_handler_that_blocks_its_thread_holds_up_only_the_workers_there() {
    const PATIENCE: Duration = Duration::from_secs(60);
    // On the manual clock monotonic time stands still, so that no wake-up of a worker ever counts as late. All tasks
    // must run all the same.
    for clock in [Clock::system(), Clock::manual(Timestamp::from_micros(0))] {
        let (begins, mut begun) = unbounded_channel();
        let (go, gate) = mpsc::channel::<()>();
        let (gate, end) = (Mutex::new(gate), Arc::new(Notify::new()));
        let (blocks, waits, ends) = (begins.clone(), begins, Arc::clone(&end));
        let board = Board::builder()
            .clock(clock)
            .configure(|c| c.worker_threads = 2)
            .queue("default", 4)
            .handler("blocks", move |_, _| {
                blocks.send("blocks").unwrap();
                gate.lock().unwrap().recv().unwrap();
                async { Ok(Outcome::done()) }
            })
            .handler("waits", move |_, _| {
                waits.send("waits").unwrap();
                let ends = Arc::clone(&ends);
                async move {
                    ends.notified().await;
                    Ok(Outcome::done())
                }
            })
            .handler("short", |_, _| async { Ok(Outcome::done()) })
            .start()
            .await
            .unwrap();
        let mut held = Vec::new();
        for kind in ["blocks", "waits"] {
            held.push(board.push(NewTask::new(kind, &())).await.unwrap().task_id);
            let begins = tokio::time::timeout(PATIENCE, begun.recv()).await.expect("it never begins");
            assert_eq!(begins, Some(kind));
        }
        // By the second round the idle worker on the blocked thread has been woken, and does not answer.
        for _ in 0..2 {
            let short = (0..20).map(|_| NewTask::new("short", &()));
            for pushed in board.push_many(short).await.unwrap() {
                let task = tokio::time::timeout(PATIENCE, board.wait(pushed.task_id)).await.expect("it never runs");
                assert_eq!(task.unwrap().state, TaskState::Completed);
            }
        }
        // The workers of the blocked thread could not look for tasks meanwhile. They must work on once the thread is
        // free.
        go.send(()).unwrap();
        end.notify_one();
        for task_id in held {
            let task = tokio::time::timeout(PATIENCE, board.wait(task_id)).await.expect("it never ends");
            assert_eq!(task.unwrap().state, TaskState::Completed);
        }
        tokio::time::timeout(PATIENCE, board.stop()).await.expect("it never stops");
    }
}
