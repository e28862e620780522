//! Blocking handlers that go on after their run was given up. Their threads cannot be ended, so each run keeps its
//! place in the lane and in the limits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use callboard::backend::{Backend, memory::Memory};
use callboard::{
    Board, BoardBuilder, Clock, Context, ExecutionStatus, Limit, NewTask, Outcome, Task, TaskId, TaskState, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("no answer in time")
}

/// Resolves when `is_so` returns true. It yields after each check, so that all other futures of the thread make
/// progress.
async fn until(is_so: impl AsyncFn() -> bool) {
    soon(async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[derive(Serialize, Deserialize)]
struct Stubborn;

impl Task for Stubborn {
    const TYPE: &'static str = "stubborn";
    type Output = ();
}

const TIMEOUT: Duration = Duration::from_secs(1);

fn stubborn() -> NewTask {
    NewTask::new("stubborn", &Stubborn).timeout(TIMEOUT).retry_count(1, 0)
}

/// A gate at which stubborn handlers wait. It counts the runs that have begun, and the most runs that waited at the
/// same time.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    begun: AtomicUsize,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        drop(self.changed.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

/// A node on this storage with this clock. Its default queue runs `concurrency` tasks at a time.
fn node(storage: &Arc<Memory>, clock: &Clock, gate: &Arc<Gate>, concurrency: usize) -> BoardBuilder {
    let gate = Arc::clone(gate);
    Board::builder()
        .backend(storage.clone())
        .clock(clock.clone())
        .lease(Duration::from_secs(3_600))
        .queue("default", concurrency)
        .queue("other", 1)
        .blocking(move |_: Stubborn, _: &Context| {
            gate.pass();
            Ok(())
        })
        .handler("plain", |_, _| async { Ok(Outcome::done()) })
}

fn still() -> (Arc<Memory>, Clock, Arc<Gate>) {
    (Arc::new(Memory::new()), Clock::manual(Timestamp::from_micros(0)), Arc::default())
}

async fn plain(board: &Board, queue: &'static str) -> TaskId {
    soon(board.push(NewTask::new("plain", &()).queue(queue))).await.unwrap().task_id
}

/// Returns when every task that could start has started. As proof, later tasks in the queue `other` have run to their
/// end.
async fn settled(board: &Board, clock: &Clock) {
    for _ in 0..3 {
        clock.advance(Duration::from_secs(60));
        let task_id = plain(board, "other").await;
        soon(board.wait(task_id)).await.unwrap();
    }
}

fn state(storage: &Memory, task_id: TaskId) -> TaskState {
    storage.get(task_id).unwrap().unwrap().state
}

#[actix_rt::test]
async fn a_blocking_run_that_was_given_up_keeps_its_place_until_its_thread_is_free() {
    for cancelled in [false, true] {
        let (storage, clock, gate) = still();
        let board = node(&storage, &clock, &gate, 1).start().await.unwrap();
        let first = board.push(stubborn()).await.unwrap().task_id;
        until(async || gate.begun() == 1).await;
        if cancelled {
            assert!(board.cancel(first, "no longer wanted").await.unwrap());
        } else {
            clock.advance(TIMEOUT);
        }
        until(async || {
            if cancelled {
                // The grace begins when the run has learned of the cancellation.
                clock.advance(Duration::from_secs(1));
            }
            board.health().await.overdue_threads == 1
        })
        .await;
        // The end of the run is stored at once, however long its thread goes on.
        let status = if cancelled { ExecutionStatus::Cancelled } else { ExecutionStatus::Timeout };
        until(async || storage.executions(first).unwrap().iter().any(|run| run.status == status)).await;
        let next = plain(&board, "default").await;
        settled(&board, &clock).await;
        assert_eq!((gate.begun(), state(&storage, next)), (1, TaskState::Pending), "cancelled: {cancelled}");
        let after = if cancelled { TaskState::Cancelled } else { TaskState::Pending };
        assert_eq!(state(&storage, first), after);
        gate.open();
        for task_id in [first, next] {
            soon(board.wait(task_id)).await.unwrap();
        }
        assert_eq!(state(&storage, next), TaskState::Completed);
        assert_eq!(state(&storage, first), if cancelled { TaskState::Cancelled } else { TaskState::Completed });
        assert_eq!((gate.most.load(Ordering::SeqCst), board.health().await.overdue_threads), (1, 0));
        board.stop().await;
    }
}

#[actix_rt::test]
async fn a_limit_counts_a_blocking_run_until_its_thread_is_free_on_all_nodes() {
    let (storage, clock, gate) = still();
    let one = node(&storage, &clock, &gate, 4).start().await.unwrap();
    let two = node(&storage, &clock, &gate, 4).start().await.unwrap();
    for board in [&one, &two] {
        // Each board sets the limit. Otherwise the second board would learn of it only in its next round of upkeep.
        board.set_limit(Limit::of_type("stubborn").running(1)).await.unwrap();
    }
    let first = one.push(stubborn()).await.unwrap().task_id;
    until(async || gate.begun() == 1).await;
    clock.advance(TIMEOUT);
    until(async || one.health().await.overdue_threads + two.health().await.overdue_threads == 1).await;
    let second = two.push(stubborn()).await.unwrap().task_id;
    for board in [&one, &two] {
        settled(board, &clock).await;
    }
    assert_eq!((state(&storage, first), state(&storage, second)), (TaskState::Running, TaskState::Pending));
    assert_eq!(gate.begun(), 1);
    gate.open();
    let through = async {
        for task_id in [first, second] {
            soon(one.wait(task_id)).await.unwrap();
        }
    };
    let hurry = async {
        loop {
            one.health().await;
            clock.advance(Duration::from_millis(10));
            // Storage in memory answers at once, so a yield is enough to let the boards make progress.
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = through => {}
        () = hurry => {}
    }
    assert_eq!(state(&storage, second), TaskState::Completed);
    let runs = storage.executions(first).unwrap();
    assert_eq!(runs.first().map(|run| run.status), Some(ExecutionStatus::Timeout), "{runs:?}");
    assert_eq!(gate.most.load(Ordering::SeqCst), 1, "the limit was broken");
    for board in [one, two] {
        board.stop().await;
    }
}

#[actix_rt::test]
async fn a_stop_waits_for_no_thread_that_has_outlasted_its_run() {
    for limited in [false, true] {
        let (storage, clock, gate) = still();
        let board = node(&storage, &clock, &gate, 1).start().await.unwrap();
        if limited {
            board.set_limit(Limit::of_type("stubborn").running(1)).await.unwrap();
        }
        let task_id = board.push(stubborn()).await.unwrap().task_id;
        until(async || gate.begun() == 1).await;
        clock.advance(TIMEOUT);
        until(async || board.health().await.overdue_threads == 1).await;
        // The clock stands still, so a stop that waits for the drain time would never end.
        soon(board.stop()).await;
        let record = storage.get(task_id).unwrap().unwrap();
        // The retry is due at once, so the task may already be promoted.
        let again = matches!(record.state, TaskState::Retrying | TaskState::Pending);
        assert_eq!((record.attempt, again), (1, true), "limited: {limited}, {:?}", record.state);
        gate.open();
    }
}

#[actix_rt::test]
async fn the_place_of_a_thread_outlives_the_queue_actor() {
    use callboard::{Part, testing::crash};

    let (storage, clock, gate) = still();
    let board = node(&storage, &clock, &gate, 1).start().await.unwrap();
    let first = board.push(stubborn()).await.unwrap().task_id;
    until(async || gate.begun() == 1).await;
    clock.advance(TIMEOUT);
    until(async || storage.executions(first).unwrap().len() == 1).await;
    assert!(crash(&board, Part::Queue));
    let next = plain(&board, "default").await;
    settled(&board, &clock).await;
    assert_eq!((gate.begun(), state(&storage, next)), (1, TaskState::Pending));
    gate.open();
    soon(board.wait(next)).await.unwrap();
    assert_eq!(gate.most.load(Ordering::SeqCst), 1);
    board.push(json!({"type": "plain"})).await.unwrap();
    board.stop().await;
}
