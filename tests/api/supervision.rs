//! A board survives panics in every actor, in handlers, and in storage.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use callboard::backend::{Backend, memory::Memory};
use callboard::testing::{Fault, Faulty, crash};
use callboard::{
    Board, BoardBuilder, BoxError, Clock, DeliveryError, Event, NewTask, Outcome, Part, PartState, Stage, TaskState,
    Timestamp,
};
use serde_json::json;
use tokio::sync::mpsc;

/// A board whose handler counts its runs, and a channel that names each restarted part.
fn counting(runs: &Arc<AtomicU32>) -> (BoardBuilder, mpsc::UnboundedReceiver<Part>) {
    let (tell, told) = mpsc::unbounded_channel();
    let runs = Arc::clone(runs);
    let builder = Board::builder()
        .handler("count", move |_, _| {
            runs.fetch_add(1, Ordering::SeqCst);
            async { Ok(Outcome::done()) }
        })
        .on_event(move |event| {
            if let Event::PartRestarted { part, .. } = event {
                tell.send(*part).ok();
            }
        });
    (builder, told)
}

/// Awaits `work`, and fails the test at a time limit. The limit is generous, because a restart may take a single
/// second.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("no answer in time")
}

#[actix_rt::test]
async fn every_core_actor_is_started_anew_and_loses_nothing() {
    for part in [Part::Queue, Part::Maintenance, Part::Store, Part::Worker, Part::Guardian] {
        let runs = Arc::default();
        let (builder, mut restarts) = counting(&runs);
        let board = builder.start().await.unwrap();
        board.store().set_public("kept", json!(1), None).await.unwrap();
        let before = board.push(json!({"type": "count"})).await.unwrap();
        let later = board.push(NewTask::new("count", &()).delay(Duration::from_millis(300))).await.unwrap();
        assert!(crash(&board, part));
        let after = soon(board.push(json!({"type": "count"}))).await.unwrap();
        for task in [before, after, later] {
            assert_eq!(soon(board.wait(task.task_id)).await.unwrap().state, TaskState::Completed, "{part}");
        }
        if part != Part::Guardian {
            assert_eq!(soon(restarts.recv()).await, Some(part));
        }
        assert_eq!(board.store().get_public("kept").await.unwrap(), Some(json!(1)), "{part}");
        let health = board.health().await;
        let of_part = health.parts.iter().find(|p| p.part == part).unwrap();
        assert_eq!((of_part.state, of_part.restarts >= 1), (PartState::Up, true), "{part}");
        assert_eq!(runs.load(Ordering::SeqCst), 3, "{part}: an extra run");
        board.stop().await;
    }
}

#[actix_rt::test]
async fn service_is_back_within_a_second() {
    for part in [Part::Queue, Part::Store, Part::Scheduler, Part::Maintenance, Part::Events, Part::Worker] {
        let (builder, mut restarts) = counting(&Arc::default());
        let board = builder.start().await.unwrap();
        let mut spans = Vec::new();
        // The best of three attempts counts, because other programs may occupy the processor for a while.
        for _ in 0..3 {
            let died = std::time::Instant::now();
            assert!(crash(&board, part));
            // The events actor cannot report its own restart to its subscribers.
            if part != Part::Events {
                assert_eq!(soon(restarts.recv()).await, Some(part));
            }
            let task = soon(board.push(json!({"type": "count"}))).await.unwrap();
            assert_eq!(soon(board.wait(task.task_id)).await.unwrap().state, TaskState::Completed);
            soon(board.store().set_public("served", json!("again"), None)).await.unwrap();
            until(async || board.health().await.healthy).await;
            spans.push(died.elapsed());
        }
        assert!(spans.iter().min().is_some_and(|span| *span < Duration::from_secs(1)), "{part}: {spans:?}");
        board.stop().await;
    }
}

#[actix_rt::test]
async fn events_go_on_after_their_actor_died() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let board = Board::builder()
        .handler("n", |_, _| async { Ok(Outcome::done()) })
        .on_completed("n", move |fact| tell.send(fact.task_id).unwrap_or(()))
        .start()
        .await
        .unwrap();
    assert!(crash(&board, Part::Events));
    let pushed = board.push(json!({"type": "n"})).await.unwrap();
    assert_eq!(soon(told.recv()).await, Some(pushed.task_id));
    board.stop().await;
}

#[actix_rt::test]
async fn a_panicking_handler_is_an_ordinary_failure() {
    let board = Board::builder()
        .handler("panics", |_, _| async {
            assert_eq!(1, 2, "on purpose");
            Ok::<_, BoxError>(Outcome::done())
        })
        .start()
        .await
        .unwrap();
    let pushed = board.push(NewTask::new("panics", &()).max_attempts(1)).await.unwrap();
    let task = soon(board.wait(pushed.task_id)).await.unwrap();
    assert_eq!(task.state, TaskState::Dead);
    assert!(task.last_error.unwrap().contains("on purpose"));
    assert_eq!(board.health().await.parts.iter().map(|p| p.restarts).sum::<u32>(), 0);
    board.stop().await;
}

#[actix_rt::test]
async fn storage_that_panics_or_goes_away_loses_nothing_and_runs_nothing_twice() {
    let all = [Fault::Panic, Fault::PanicAfter, Fault::Away, Fault::AnswerLost];
    for blocks in [true, false] {
        for fault in all {
            let runs = Arc::default();
            let storage = Faulty::new(Arc::new(Memory::new()), blocks);
            let (builder, _restarts) = counting(&runs);
            let board = builder.backend(storage.clone()).start().await.unwrap();
            // The first fault meets the push, and the second fault meets the settlement after it.
            storage.next_commits([fault, fault]);
            let pushed = soon(board.push(json!({"type": "count"}))).await.unwrap();
            assert!(!pushed.duplicate, "{fault:?}");
            assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
            let again = soon(board.push(json!({"type": "count"}))).await.unwrap();
            assert_eq!(soon(board.wait(again.task_id)).await.unwrap().state, TaskState::Completed);
            assert_eq!(storage.left(), 0, "{fault:?}");
            assert_eq!(runs.load(Ordering::SeqCst), 2, "{fault:?}, blocks: {blocks}");
            assert!(board.health().await.storage_retries >= 1);
            board.stop().await;
        }
    }
}

/// A board that pulls, its storage, and a channel with the events of completed and fenced tasks.
async fn pulling(blocks: bool) -> (Board, Arc<Faulty>, mpsc::UnboundedReceiver<Event>) {
    let storage = Faulty::new(Arc::new(Memory::new()), blocks);
    let (tell, told) = mpsc::unbounded_channel();
    let builder = Board::builder().backend(storage.clone()).on_event(move |event| {
        if matches!(event, Event::Completed(_) | Event::Fenced(_)) {
            tell.send(event.clone()).ok();
        }
    });
    (builder.start().await.unwrap(), storage, told)
}

#[actix_rt::test]
async fn an_end_whose_answer_was_lost_is_told_as_what_it_is() {
    for (blocks, fault) in [(true, Fault::AnswerLost), (true, Fault::PanicAfter), (false, Fault::AnswerLost)] {
        let (board, storage, mut told) = pulling(blocks).await;
        let task_id = soon(board.push(json!({"type": "x"}))).await.unwrap().task_id;
        let delivery = soon(board.pop("default", None)).await.unwrap().unwrap();
        storage.next_commits([fault]);
        soon(delivery.ack()).await.unwrap();
        let event = soon(told.recv()).await.unwrap();
        assert!(matches!(&event, Event::Completed(fact) if fact.task_id == task_id), "{event:?}");
        assert_eq!((board.health().await.fenced, storage.left()), (0, 0), "{fault:?}");
        board.stop().await;
    }
}

#[actix_rt::test]
async fn a_lost_answer_hides_no_fence() {
    for blocks in [true, false] {
        let (board, storage, mut told) = pulling(blocks).await;
        let task_id = soon(board.push(json!({"type": "x"}))).await.unwrap().task_id;
        let late = soon(board.pop("default", None)).await.unwrap().unwrap();
        // Releases the claim, as a node does that takes this node for dead.
        storage.release(board.node(), &[], false, board.clock().now()).unwrap();
        // The settlement is sent twice, and refused because the claim no longer holds.
        storage.next_commits([Fault::Panic]);
        assert!(matches!(soon(late.ack()).await, Err(DeliveryError::Fenced(fenced)) if fenced == task_id));
        let event = soon(told.recv()).await.unwrap();
        assert!(matches!(&event, Event::Fenced(fact) if fact.task_id == task_id), "{event:?}");
        assert_eq!((board.health().await.fenced, storage.left()), (1, 0));
        let again = soon(board.pop("default", None)).await.unwrap().unwrap();
        soon(again.ack()).await.unwrap();
        let event = soon(told.recv()).await.unwrap();
        assert!(matches!(&event, Event::Completed(fact) if fact.task_id == task_id), "{event:?}");
        board.stop().await;
    }
}

#[actix_rt::test]
async fn a_push_fails_clearly_when_storage_refuses_or_stays_away() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let board = Board::builder()
        .backend(storage.clone())
        .configure(|c| c.push_deadline = Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    storage.next_commits([Fault::Refuse]);
    let refused = soon(board.push(json!({"type": "x"}))).await.unwrap_err();
    assert!(refused.to_string().contains("made to fail"), "{refused}");
    storage.next_commits([Fault::Away; 20]);
    let away = soon(board.push(json!({"type": "x"}))).await.unwrap_err();
    assert!(away.to_string().contains("same task_id"), "{away}");
    board.stop().await;
}

/// The number of times that a part was restarted after its death.
async fn restarts_of(board: &Board, part: Part) -> u32 {
    board.health().await.parts.iter().find(|p| p.part == part).unwrap().restarts
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

#[actix_rt::test]
async fn a_heartbeat_that_panics_is_sent_again_and_renews_the_lease() {
    let clock = Clock::manual(Timestamp::from_micros(0));
    let (lease, runs) = (Duration::from_secs(12), Arc::default());
    let storage = Faulty::new(Arc::new(Memory::new()), false);
    let (builder, _restarts) = counting(&runs);
    let board = builder.backend(storage.clone()).clock(clock.clone()).lease(lease).start().await.unwrap();
    storage.next_heartbeats([Fault::Panic; 2]);
    // The lease is over unless this heartbeat succeeds.
    clock.advance(lease);
    until(async || restarts_of(&board, Part::Heartbeat).await == 1).await;
    assert!(!board.health().await.lease_holds);
    let pushed = board.push(json!({"type": "count"})).await.unwrap();
    assert_eq!(pushed.state, TaskState::Pending, "claimed without a lease");
    // While heartbeats fail, they come four times as often: 12 times in a lease.
    clock.advance(lease / 12);
    until(async || restarts_of(&board, Part::Heartbeat).await == 2).await;
    clock.advance(lease / 12);
    until(async || board.health().await.lease_holds).await;
    assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
    assert_eq!(restarts_of(&board, Part::Heartbeat).await, 2);
    board.stop().await;
}

#[cfg(feature = "sqlite")]
#[actix_rt::test]
async fn a_watch_that_panics_goes_on_watching() {
    use callboard::backend::{OpenOptions, open};

    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasks.db").display());
    let storage = Faulty::new(open(&url, &OpenOptions::default()).unwrap(), true);
    let (builder, _restarts) = counting(&Arc::default());
    // With this check interval only the watch can notice a push by a second process.
    let builder = builder.configure(|c| c.check_interval = Duration::from_secs(3600));
    let board = builder.backend(storage.clone()).start().await.unwrap();
    storage.next_watches([Fault::Panic, Fault::Away, Fault::Panic]);
    until(async || restarts_of(&board, Part::Watch).await == 2).await;
    let other = Board::builder().url(url).start().await.unwrap();
    let pushed = other.push(json!({"type": "count"})).await.unwrap();
    assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
    for board in [board, other] {
        soon(board.stop()).await;
    }
}

#[actix_rt::test]
async fn a_part_that_dies_again_and_again_makes_the_board_give_up_loudly() {
    let board = Board::builder().start().await.unwrap();
    let (done, ended) = (board.clone(), board.clone());
    let killer = actix_rt::spawn(async move {
        while done.health().await.stage == Stage::Running {
            crash(&done, Part::Maintenance);
            tokio::task::yield_now().await;
        }
    });
    assert!(soon(ended.ended()).await, "the board must say that it failed");
    soon(killer).await.unwrap();
    assert!(matches!(board.push(json!({"type": "x"})).await, Err(callboard::PushError::Closed)));
    board.stop().await;
}

#[actix_rt::test]
async fn boards_start_and_stop_again_and_again_in_one_process() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let mut counts = Vec::new();
    for _ in 0..5 {
        let board = Board::builder().handler("n", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
        let pushed = board.push(json!({"type": "n"})).await.unwrap();
        board.wait(pushed.task_id).await.unwrap();
        board.stop().await;
        counts.push(threads());
    }
    // Other tests of this process start threads at the same time, so no exact number can be expected. But five boards
    // that leave their threads behind would leave dozens.
    assert!(counts[4] < counts[0] + 40, "threads are left behind: {counts:?}");
}
