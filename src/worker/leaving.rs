//! Waiting for threads that were told to end, but not for ever.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use actix_rt::Arbiter;
use tokio::sync::oneshot;

use crate::clock::Clock;

/// How long threads that were told to end are waited for. What they run had the drain time and the grace before, so
/// whoever is not done by now blocks its thread, and may do so for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// Threads that were told to end.
pub(crate) struct Leaving(oneshot::Receiver<usize>);

impl Leaving {
    /// Waits for the threads of these arbiters, on threads of its own: a join cannot be given up, and whoever stops a
    /// board is async.
    pub(super) fn of(arbiters: Vec<Arbiter>) -> Self {
        let (tell, told) = oneshot::channel();
        let all = arbiters.len();
        let wait = move || {
            let (gone, goes) = channel();
            arbiters.into_iter().for_each(|arbiter| join(arbiter, &gone));
            drop(gone);
            // Whoever stops the board may have gone away.
            tell.send(all - count(&goes)).ok();
        };
        // Without a thread to wait on, the sender is dropped, and nobody knows.
        drop(spawn(wait));
        Self(told)
    }

    /// How many threads are left; nothing when the system gave no thread to wait on.
    pub(crate) async fn left(self) -> Option<usize> {
        self.0.await.ok()
    }
}

/// Joins one thread and tells when it has ended. One that never ends keeps its joiner, and nobody else.
fn join(arbiter: Arbiter, gone: &Sender<()>) {
    let gone = gone.clone();
    // Without a thread the sender is dropped: the arbiter counts as left.
    drop(spawn(move || {
        // A panic of the thread's own was told where it happened.
        drop(arbiter.join());
        // The one who counts may have lost patience.
        gone.send(()).ok();
    }));
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("callboard-join".into()).spawn(work)
}

/// How many tell within the time that they have ended.
fn count(goes: &Receiver<()>) -> usize {
    // Real time, whatever clock the board runs on: threads end by it.
    let clock = Clock::system();
    let mut gone = 0;
    loop {
        match goes.recv_timeout(PATIENCE.saturating_sub(clock.elapsed())) {
            Ok(()) => gone += 1,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return gone,
        }
    }
}
