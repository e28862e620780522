//! The parts of a board, as `health()` reports them.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use callboard::{Board, Clock, Outcome, Part, TaskState, Timestamp};
use serde_json::json;

/// Awaits `work`, and fails the test at a time limit. The limit is generous: work that exceeds it would never end.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), work).await.expect("no answer in time")
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

async fn silence_of(board: &Board, part: Part) -> Option<Duration> {
    board.health().await.parts.iter().find(|p| p.part == part).unwrap().last_tick_age
}

#[actix_rt::test]
async fn parts_with_nothing_to_do_show_that_they_live_and_a_blocked_thread_does_not() {
    let ((tell, told), (go, gate)) = (mpsc::channel(), mpsc::channel::<()>());
    let ends = Mutex::new((tell, gate));
    let clock = Clock::manual(Timestamp::from_micros(0));
    let board = Board::builder()
        .configure(|c| c.worker_threads = 2)
        .clock(clock.clone())
        .lease(Duration::from_secs(60))
        .handler("blocks", move |_, _| {
            let ends = ends.lock().unwrap();
            ends.0.send(()).unwrap();
            ends.1.recv().unwrap();
            async { Ok(Outcome::done()) }
        })
        .start()
        .await
        .unwrap();
    // Longer than the time between two heartbeats, and than the time between two rounds of upkeep.
    let span = Duration::from_secs(25);
    clock.advance(span);
    // Storage in memory belongs to a single process, so there are no changes to watch for.
    let parts = || Part::ALL.iter().filter(|part| **part != Part::Watch);
    for part in parts() {
        until(async || silence_of(&board, *part).await == Some(Duration::ZERO)).await;
    }
    assert_eq!(silence_of(&board, Part::Watch).await, None);
    let blocks = board.push(json!({"type": "blocks"})).await.unwrap().task_id;
    told.recv().unwrap();
    clock.advance(span);
    for part in parts().filter(|part| **part != Part::Worker) {
        until(async || silence_of(&board, *part).await == Some(Duration::ZERO)).await;
    }
    assert_eq!(silence_of(&board, Part::Worker).await, Some(span));
    go.send(()).unwrap();
    until(async || silence_of(&board, Part::Worker).await == Some(Duration::ZERO)).await;
    assert_eq!(soon(board.wait(blocks)).await.unwrap().state, TaskState::Completed);
    board.stop().await;
}

#[cfg(feature = "sqlite")]
#[actix_rt::test]
async fn a_thread_that_dies_is_started_anew_and_takes_no_actor_with_it() {
    use callboard::PartState;
    use callboard::testing::crash;

    let folder = tempfile::tempdir().unwrap();
    for part in [Part::Heartbeat, Part::Watch] {
        let url = format!("sqlite:{}", folder.path().join(format!("{part}.db")).display());
        let board = Board::builder().url(url).start().await.unwrap();
        assert!(board.health().await.healthy);
        assert!(crash(&board, part));
        let health_of = async |part| board.health().await.parts.into_iter().find(|p| p.part == part).unwrap();
        until(async || health_of(part).await.restarts == 1).await;
        until(async || health_of(part).await.state == PartState::Up).await;
        let health = board.health().await;
        assert!(health.healthy, "{part}");
        assert_eq!(health.parts.iter().map(|part| part.restarts).sum::<u32>(), 1, "{part}");
        soon(board.stop()).await;
    }
}
