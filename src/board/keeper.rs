//! The keeper: the thread on which a board is started and stopped.
//!
//! A board must not depend on what runs around it. The runtime of a caller may end before the board does, a caller may
//! block its thread, and the future of a stop may be dropped half-way or belong to a run that the stop itself ends. So
//! start and stop run here, on a thread and a runtime of their own, and a caller only waits for the answer.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Board, BoardBuilder, start, stop};
use crate::error::StartError;
use crate::runtime::core::Core;

/// The way to the keeper of a board.
pub(super) struct Keeper {
    requests: mpsc::UnboundedSender<()>,
    end: Arc<End>,
}

impl Keeper {
    /// Asks for the stop, and resolves when it is over. Once begun, a stop goes on to its end, whether or not this is awaited.
    pub(super) async fn stop(&self) {
        self.request();
        let mut over = self.end.over.subscribe();
        // The sender lives in `self`, so this resolves by the value alone.
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
        // An error means that the keeper has gone: the board has stopped.
        self.requests.send(()).ok();
    }
}

/// Whether a stop is over: for those that await it, and for those that block.
struct End {
    over: watch::Sender<bool>,
    lock: Mutex<()>,
    changed: Condvar,
}

/// Held by the keeper: whatever ends it, a panic included, no caller waits for it any longer.
struct Guard {
    core: Arc<Core>,
    end: Arc<End>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // No effect after an orderly stop. After a panic the board is without a keeper, and says so.
        self.core.fail();
        // Under the lock: a thread between its look and its wait would miss the notification.
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
    // An error means that the keeper has gone, and the board with it: the board says so.
    taken.send(()).ok();
    Ok(board)
}

/// A started board, and the way to say that it has arrived.
type Started = (Board, oneshot::Sender<()>);

fn keep(builder: BoardBuilder, tell: oneshot::Sender<Result<Started, StartError>>) {
    // Timers are all that start and stop need of a runtime.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        // The starter may have gone: then there is nothing to tell.
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
        // The future of `start` may have been dropped, also with the board on its way: then the board stops at once, so that
        // nothing is left running.
        let has_arrived = tell.send(Ok((board, taken))).is_ok() && arrived.await.is_ok();
        if has_arrived && requested.recv().await.is_none() {
            // Every handle is gone without a stop: the board goes on for as long as its process.
            std::future::pending::<()>().await;
        }
        stop::stop(&core, threads).await;
    });
}
