//! Fewer connections than callers, while a foreign client holds a lock.

use std::time::{Duration, Instant};

use callboard::backend::{BackendError, OpenOptions, TaskFilter, TaskOrder, open};
use callboard::testing::World;
use callboard::{Board, NewTask, Outcome, TaskState};
use serde_json::json;

use crate::place::{Place, on_both};
use crate::waiting::{eventually, soon};

on_both!(callers_wait_and_are_told, a_board_outlasts_a_lock);

const CALLERS: usize = 12;
/// Longer than all time limits of a call in a row: the wait for a connection, and several waits for a lock.
const PATIENCE: Duration = Duration::from_secs(120);

async fn callers_wait_and_are_told<P: Place>() {
    let place = P::new();
    let options = OpenOptions { writers: 1, readers: 1, ..OpenOptions::default() };
    let world = World::on(open(&place.url(), &options).unwrap());
    let locked = place.lock();
    let asked = Instant::now();
    let answers: Vec<Result<(), BackendError>> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let backend = &world.backend;
                scope.spawn(move || match caller % 2 {
                    0 => backend.counts().map(drop),
                    _ => backend.list(&TaskFilter::default(), TaskOrder::OldestFirst, None, 10).map(drop),
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    println!("{CALLERS} callers were answered after {:.1?}", asked.elapsed());
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    let mut without = 0;
    for answer in answers {
        let error = answer.expect_err("the table is locked");
        assert!(error.is_transient(), "{error}");
        without += usize::from(error.to_string().contains("no connection to the database within 2s"));
    }
    assert!(without > 0 && without < CALLERS, "{without} of {CALLERS} got no connection");
    drop(locked);
    // All connections are free again, so as many calls succeed as before.
    let task_id = world.push(NewTask::new("work", &json!({})));
    assert_eq!(world.state(task_id), TaskState::Pending);
}

async fn a_board_outlasts_a_lock<P: Place>() {
    let place = P::new();
    let board = Board::builder()
        .url(place.url())
        .handler("work", |_, _| async { Ok(Outcome::done()) })
        .configure(|c| c.push_deadline = Duration::from_secs(60))
        .start()
        .await
        .unwrap();
    let first = board.push(NewTask::new("work", &json!({}))).await.unwrap().task_id;
    soon("the first", board.wait(first)).await.unwrap();
    let locked = place.lock();
    let pushes = (0..CALLERS).map(|_| board.push(NewTask::new("work", &json!({}))));
    let pushes = futures_util::future::join_all(pushes);
    let unlock = std::thread::spawn(move || {
        // Longer than the lock timeout of a transaction.
        std::thread::sleep(Duration::from_secs(6));
        drop(locked);
    });
    for pushed in soon("the pushes", pushes).await {
        let task_id = pushed.unwrap().task_id;
        assert_eq!(soon("the end", board.wait(task_id)).await.unwrap().state, TaskState::Completed);
    }
    unlock.join().unwrap();
    eventually("it is well", async || board.health().await.healthy.then_some(())).await;
    soon("the stop", board.stop()).await;
}
