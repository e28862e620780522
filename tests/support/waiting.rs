//! Waiting for what must happen, and not for ever.
#![allow(dead_code, reason = "each test program uses a part")]

use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; reaching it means that something never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Looks again and again until there is an answer. What for is said when there never is one.
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

/// As [`until`], for what has to be awaited.
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

/// Awaits, but not for ever.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}
