//! Tests with more messages than an actor can handle, and with more pushes than storage can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::testing::flood;
use callboard::{Board, NewTask, Outcome, TaskState};
use serde_json::json;

use crate::support::node::Node;
use crate::support::{Place, soon};

const LEASE: Duration = Duration::from_millis(600);
const BURST: usize = 100_000;

#[actix_rt::test]
async fn a_flooded_queue_keeps_its_lease_and_runs_its_tasks() {
    let place = Place::new();
    let board = Board::builder()
        .url(place.url())
        .lease(LEASE)
        .handler("n", |_, _| async { Ok(Outcome::done()) })
        .handler("long", |_, _| async {
            tokio::time::sleep(LEASE * 3).await;
            Ok(Outcome::done())
        })
        .start()
        .await
        .unwrap();
    // This board would rescue any task whose lease ends.
    let other = Board::builder().url(place.url()).lease(LEASE).start().await.unwrap();
    let long = board.push(json!({"type": "long"})).await.unwrap().task_id;

    let (over, messages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let flooder = {
        let (board, over, messages) = (board.clone(), Arc::clone(&over), Arc::clone(&messages));
        // On its own thread, because sending must not wait for the work of the test.
        std::thread::spawn(move || {
            actix_rt::System::new().block_on(async {
                while !over.load(Ordering::Acquire) {
                    flood(&board, BURST).await.unwrap();
                    messages.fetch_add(2 * BURST, Ordering::AcqRel);
                }
            });
        })
    };
    let started = Instant::now();
    let mut spans = Vec::new();
    while started.elapsed() < LEASE * 4 || messages.load(Ordering::Acquire) < 4 * BURST {
        let pushed = Instant::now();
        let task_id = soon("a push", board.push(json!({"type": "n"}))).await.unwrap().task_id;
        let task = soon("a run", board.wait(task_id)).await.unwrap();
        assert_eq!(task.state, TaskState::Completed);
        spans.push(pushed.elapsed());
        assert!(board.health().await.lease_holds, "the lease ran out after {:?}", started.elapsed());
    }
    over.store(true, Ordering::Release);
    let long = soon("the long one", board.wait(long)).await.unwrap();
    assert_eq!(long.state, TaskState::Completed);
    assert_eq!(board.executions(long.task_id).await.unwrap().len(), 1, "it was taken away");
    let (health, rescued) = (board.health().await, other.health().await.rescued);
    assert_eq!((health.fenced, health.rescued, rescued), (0, 0, 0), "fenced, rescued, rescued by the other");
    flooder.join().unwrap();
    spans.sort_unstable();
    println!(
        "{} messages in {:.1?}; {} tasks one by one meanwhile, from push to end {:.1?} at the median, {:.1?} at most",
        messages.load(Ordering::Acquire),
        started.elapsed(),
        spans.len(),
        spans[spans.len() / 2],
        spans[spans.len() - 1],
    );
    soon("the stop", other.stop()).await;
    soon("the stop", board.stop()).await;
}

#[actix_rt::test]
async fn tasks_that_are_due_earlier_and_earlier_hold_up_nobody() {
    const TASKS: u64 = 20_000;
    let board = Board::builder()
        .configure(|c| c.check_interval = Duration::from_secs(24 * 3_600))
        .handler("n", |_, _| async { Ok(Outcome::done()) })
        .start()
        .await
        .unwrap();
    // Each task moves the next round of maintenance to an earlier time.
    let later = |seconds: u64| NewTask::new("n", &()).delay(Duration::from_secs(60 + seconds));
    soon("the push", board.push_many((1..=TASKS).rev().map(later))).await.unwrap();
    let pushed = Instant::now();
    let soonest = NewTask::new("n", &()).delay(Duration::from_millis(1));
    let task_id = soon("a push", board.push(soonest)).await.unwrap().task_id;
    soon("a run", board.wait(task_id)).await.unwrap();
    println!("after {TASKS} delayed tasks one with a delay of 1 ms ended after {:.1?}", pushed.elapsed());
    assert!(pushed.elapsed() < Duration::from_secs(2), "{:?}", pushed.elapsed());
    soon("the stop", board.stop()).await;
}

#[test]
fn memory_stays_flat_when_ten_times_too_much_is_pushed() {
    let place = Place::new();
    let mut node = Node::start(&json!({"url": place.url(), "overload": true}));
    let found = node.hear("its measurement", |line| line.get("places").map(|_| line.clone()));
    assert!(node.end().success(), "{}", node.errors());
    println!("{found}");
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    assert!(number(&found["full"]) > 9 * number(&found["waiting"]), "{found}");
    assert!(number(&found["waiting"]) > 0, "{found}");
    assert_eq!((number(&found["other"]), number(&found["failed"])), (0, 0), "{found}");
    // Most of the tasks wait in storage for their run.
    assert!(number(&found["live"]) > 10_000, "{found}");
    for way in ["try_push", "push"] {
        let grew = number(&found["grew_kib"][way]);
        assert!(grew < number(&found["params_kib"]) / 4, "{way}: {found}");
    }
}
