//! Waits with a limit, for events that must happen.
#![allow(dead_code, reason = "each test program uses a part")]

use std::time::{Duration, Instant};

/// Longer than any step of these tests takes on a busy machine. Reaching it means that the event never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Polls until `look` returns a value. If it never does, the test fails with the text `what`.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Like [`until`], for an async `look`.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Awaits `work`, for at most [`PATIENCE`].
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}
