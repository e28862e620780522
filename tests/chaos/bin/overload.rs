//! Many more producers than storage can serve; the memory of waiting pushes must not grow.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use callboard::backend::{OpenOptions, open};
use callboard::testing::Faulty;
use callboard::{Board, NewTask, Outcome, PushError};
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Pushes that may wait at once.
const PLACES: usize = 50;
/// Bytes of params of each task.
const PARAMS: usize = 4_000;
/// Ten times the number of places.
const PRODUCERS: usize = 10 * PLACES;
const PUSHES: usize = 40;

/// Pushes to a slow storage, in every way of pushing. Returns the growth of the process.
pub(crate) async fn measure(url: &str) -> Result<Value, Box<dyn Error>> {
    let storage = Faulty::new(open(url, &OpenOptions::default())?, true);
    let slow = Duration::from_millis(2);
    let board = Board::builder()
        .backend(Arc::clone(&storage) as _)
        .queue("default", 1)
        .configure(|c| c.max_waiting_pushes = PLACES)
        .handler("slow", move |_, _| async move {
            tokio::time::sleep(slow).await;
            Ok(Outcome::done())
        })
        .start()
        .await?;
    // The first pushes allocate memory that is then reused, which does not count as growth.
    join_all((0..PRODUCERS).map(|_| board.push(task()))).await;
    let before = resident_kib();

    storage.slow_down(Duration::from_millis(500));
    let mut tries = [0_u64; 3];
    for _ in 0..PRODUCERS * PUSHES {
        match board.try_push(task()).now_or_never() {
            // The push waits for storage.
            None => tries[0] += 1,
            Some(Err(PushError::Full)) => tries[1] += 1,
            Some(_) => tries[2] += 1,
        }
    }
    let tried = resident_kib();

    storage.slow_down(slow);
    let producers = (0..PRODUCERS).map(|_| async {
        let mut failed = 0;
        for _ in 0..PUSHES {
            failed += usize::from(board.push(task()).await.is_err());
        }
        failed
    });
    let failed: usize = join_all(producers).await.into_iter().sum();
    let pushed = resident_kib();
    let live: u64 = board.counts().await?.iter().filter(|c| !c.state.is_terminal()).map(|c| c.tasks).sum();
    // Many tasks are still to run, but the measurement does not wait for them.
    drop(board);
    Ok(json!({"places": PLACES, "params_kib": PARAMS * PRODUCERS * PUSHES / 1024, "waiting": tries[0],
        "full": tries[1], "other": tries[2], "failed": failed, "live": live,
        "grew_kib": {"try_push": tried.saturating_sub(before), "push": pushed.saturating_sub(before)}}))
}

fn task() -> NewTask {
    NewTask::new("slow", &"x".repeat(PARAMS))
}

/// Resident memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
