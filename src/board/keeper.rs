//! The keeper: the thread on which a board is started and stopped.
//!
//! A board must not depend on the code that runs around it. The runtime of a caller may end before the board does, and
//! a caller may block its thread. The future of a stop may be dropped halfway, or belong to a run that the stop itself
//! ends. So start and stop run here, on a thread and a runtime of their own, and a caller only waits for the answer.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Board, BoardBuilder, start, stop};
use crate::error::StartError;
use crate::runtime::core::Core;

/// A handle to the keeper of a board.
pub(super) struct Keeper {
    requests: mpsc::UnboundedSender<()>,
    end: Arc<End>,
}

impl Keeper {
    /// Requests the stop, and resolves when it is over. Once begun, a stop continues to its end, even if this future is
    /// not awaited.
    pub(super) async fn stop(&self) {
        self.request();
        let mut over = self.end.over.subscribe();
        // The sender lives in `self`, so only the value can resolve this.
        over.wait_for(|over| *over).await.ok();
    }

    /// The same for a caller that blocks its thread.
    pub(super) fn blocking_stop(&self) {
        self.request();
        let mut lock = self.end.lock.lock();
        while !*self.end.over.borrow() {
            self.end.changed.wait(&mut lock);
        }
    }

    fn request(&self) {
        // An error means that the keeper has ended: the board has stopped.
        self.requests.send(()).ok();
    }
}

/// Whether a stop is over, for callers that await it and for callers that block.
struct End {
    over: watch::Sender<bool>,
    lock: Mutex<()>,
    changed: Condvar,
}

/// Held by the keeper. When the keeper ends for any reason, even by a panic, no caller waits for it any longer.
struct Guard {
    core: Arc<Core>,
    end: Arc<End>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // No effect after an orderly stop. After a panic the board has no keeper, and reports itself as failed.
        self.core.fail();
        // Under the lock, because a thread between its check and its wait would otherwise miss the notification.
        let lock = self.end.lock.lock();
        self.end.over.send_replace(true);
        drop(lock);
        self.end.changed.notify_all();
    }
}

/// Starts a board on a keeper of its own.
pub(super) async fn start(builder: BoardBuilder) -> Result<Board, StartError> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("callboard-keeper".into()).spawn(move || keep(builder, tell))?;
    let (board, taken) = told.await.map_err(|_| StartError::Part("keeper"))??;
    // An error means that the keeper has ended, and the board with it: the board reports this itself.
    taken.send(()).ok();
    Ok(board)
}

/// A started board, and a sender to confirm that it has arrived.
type Started = (Board, oneshot::Sender<()>);

fn keep(builder: BoardBuilder, tell: oneshot::Sender<Result<Started, StartError>>) {
    // Timers are all that start and stop need from a runtime.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        // The caller of `start` may be gone: then there is no receiver for the error.
        Err(error) => return drop(tell.send(Err(error.into()))),
    };
    runtime.block_on(async move {
        let (core, threads) = match start::start(builder).await {
            Ok(started) => started,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let end = Arc::new(End { over: watch::Sender::new(false), lock: Mutex::new(()), changed: Condvar::new() });
        let _guard = Guard { core: Arc::clone(&core), end: Arc::clone(&end) };
        let (requests, mut requested) = mpsc::unbounded_channel();
        let board = Board { core: Arc::clone(&core), keeper: Arc::new(Keeper { requests, end }) };
        let (taken, arrived) = oneshot::channel();
        // The future of `start` may have been dropped, even after the board was sent. Then the board stops at once, so
        // that nothing is left running.
        let has_arrived = tell.send(Ok((board, taken))).is_ok() && arrived.await.is_ok();
        if has_arrived && requested.recv().await.is_none() {
            // Every handle was dropped without a stop: the board runs for as long as its process.
            std::future::pending::<()>().await;
        }
        stop::stop(&core, threads).await;
    });
}
