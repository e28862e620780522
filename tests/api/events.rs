//! Events as subscribers and callbacks receive them.

use std::sync::Arc;

use actix::{Actor, Handler, ResponseFuture};
use callboard::{Board, Context, Event, NewTask, Outcome, Retry, TaskError, TaskState, Unique, UniqueMode};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{HOUR, Held, soon, start};

/// A slow subscriber. It is busy with its first event until the test closes the semaphore.
struct Slow(Arc<Semaphore>);

impl Actor for Slow {
    type Context = actix::Context<Self>;
}

impl Handler<Event> for Slow {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, _: Event, _: &mut Self::Context) -> Self::Result {
        let gate = Arc::clone(&self.0);
        Box::pin(async move { drop(gate.acquire().await) })
    }
}

#[actix_rt::test]
async fn a_slow_subscriber_misses_events_and_slows_nobody_down() {
    let builder = Board::builder().configure(|c| c.event_buffer = 2);
    let board = start(builder.handler("n", |_, _| async { Ok(Outcome::done()) })).await;
    let gate = Arc::new(Semaphore::new(0));
    let slow = board.subscribe(Slow(Arc::clone(&gate)).start().recipient());
    assert_eq!(board.missed(slow), Some(0));
    for _ in 0..20 {
        let pushed = board.push(json!({"type": "n"})).await.unwrap();
        assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
    }
    // The ends of 20 tasks make at least 20 events. The subscriber has 1 event in hand and 2 in its buffer, and misses
    // the rest.
    let missed = board.missed(slow).unwrap();
    assert!(missed >= 17, "{missed}");
    gate.close();
    board.settle().await;
    assert!(board.unsubscribe(slow));
    assert!(!board.unsubscribe(slow));
    assert_eq!(board.missed(slow), None);
}

#[actix_rt::test]
async fn a_push_that_waits_for_the_holder_of_its_key_says_so() {
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let hear = Arc::clone(&told);
    let (mut held, builder) = Held::new();
    let builder = builder.on_event(move |event| {
        if event.task().is_some() {
            hear.lock().push(event.clone());
        }
    });
    let board = start(builder).await;
    let task = || NewTask::new("held", &()).unique(Unique::key("k").mode(UniqueMode::KeepLatest));
    let first = board.push(task()).await.unwrap().task_id;
    assert_eq!(held.begun().await, first);
    let second = board.push(task().delay(HOUR)).await.unwrap();
    assert_eq!((second.state, second.duplicate), (TaskState::Waiting, false));
    board.assert_state(second.task_id, TaskState::Waiting);
    held.let_go(2);
    board.advance(HOUR).await;
    board.assert_state(second.task_id, TaskState::Completed);
    let told = told.lock();
    let of_second = told.iter().find(|event| event.task().is_some_and(|fact| fact.task_id == second.task_id));
    assert!(matches!(of_second, Some(Event::Waiting(fact)) if fact.state == TaskState::Waiting), "{of_second:?}");
}

#[actix_rt::test]
async fn a_task_that_was_to_run_again_and_is_cancelled_instead_says_so() {
    let told: Arc<Mutex<Vec<TaskState>>> = Arc::default();
    let hear = Arc::clone(&told);
    let board = start(Board::builder().on_event(move |event| {
        hear.lock().extend(event.task().map(|fact| fact.state));
    }))
    .await;
    for given_back in [false, true] {
        let task = board.push(json!({"type": "x"})).await.unwrap().task_id;
        let delivery = soon(board.pop("default", None)).await.unwrap().unwrap();
        assert!(board.cancel(task, "not wanted").await.unwrap());
        if given_back {
            drop(delivery);
        } else {
            delivery.reject(true).await.unwrap();
        }
        assert_eq!(soon(board.wait(task)).await.unwrap().state, TaskState::Cancelled);
        board.settle().await;
        let told = std::mem::take(&mut *told.lock());
        assert_eq!(told, [TaskState::Pending, TaskState::Cancelled], "pushed, and called off");
    }
}

#[actix_rt::test]
async fn callbacks_hear_of_their_type_from_its_first_run_to_its_death() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = |what: &'static str| {
        let heard = Arc::clone(&heard);
        move |fact: &callboard::TaskFact| {
            let progress = fact.progress.as_ref().map(|progress| progress.message.clone());
            let said = fact.error.clone().or(progress).unwrap_or_default();
            heard.lock().push(format!("{what} {} {}: {said}", fact.state, fact.attempt));
        }
    };
    let fails = |_, cx: Context| async move {
        cx.progress(0.5, "half");
        Err::<(), _>(TaskError::new("no luck").into())
    };
    let builder = Board::builder()
        .handler("fails", fails)
        .handler("other", fails)
        .on_running("fails", note("running"))
        .on_progress("fails", note("progress"))
        .on_retrying("fails", note("retrying"))
        .on_dead("fails", note("dead"))
        .on_completed("fails", note("completed"));
    let board = start(builder).await;
    let fails = |kind: &'static str| NewTask::new(kind, &()).max_attempts(2).retry(Retry::fixed(HOUR));
    board.push_many([fails("fails"), fails("other")]).await.unwrap();
    board.advance(HOUR).await;
    let mut heard = heard.lock().clone();
    // Each callback receives its events in order. Between callbacks there is no order.
    heard.sort();
    let expected = [
        "dead dead 2: no luck",
        "progress running 1: half",
        "progress running 2: half",
        "retrying retrying 1: no luck",
        "running running 1: ",
        "running running 2: ",
    ];
    assert_eq!(heard, expected);
}

#[actix_rt::test]
async fn a_callback_that_panics_hears_the_next_event_too() {
    let heard: Arc<Mutex<u32>> = Arc::default();
    let count = Arc::clone(&heard);
    let builder = Board::builder().handler("n", |_, _| async { Ok(Outcome::done()) }).on_completed("n", move |_| {
        *count.lock() += 1;
        assert_eq!(1, 2, "on purpose");
    });
    let board = start(builder).await;
    board.push_many((0..2).map(|_| json!({"type": "n"}))).await.unwrap();
    board.settle().await;
    assert_eq!(*heard.lock(), 2);
}
