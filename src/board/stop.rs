//! How a board stops, on its keeper's thread.
//!
//! A stop ends within `drain` + `cancel_grace` + [`REST`], no matter how long handlers, callbacks, storage or the
//! caller block. Each step has its share of that time. Work that is not done by then is left to the end of the lease.

use std::sync::Arc;
use std::time::Duration;

use slog::{info, warn};
use tokio::sync::oneshot::error::TryRecvError;

use super::leaving::Patience;
use super::threads::BoardThreads;
use crate::error::BoardError;
use crate::logging::keys;
use crate::name::Name;
use crate::runtime::core::{Core, Stage};
use crate::runtime::events::Event;
use crate::runtime::persistence::ReleaseClaims;
use crate::runtime::queue::{AwaitIdle, inbox::Holder};

/// Real time after the grace: for storing the last results, giving claims back, and the end of threads.
const REST: Duration = Duration::from_secs(2);
/// The share of [`REST`] for the results of runs that were dropped at the end of the grace.
const SETTLING: Duration = Duration::from_millis(700);
/// The share for giving the claims back.
const RETIRING: Duration = Duration::from_millis(800);
/// The share for the last events on their way to subscribers.
const TELLING: Duration = Duration::from_millis(250);

pub(super) async fn stop(core: &Arc<Core>, threads: BoardThreads) {
    info!(core.log, "the board is stopping");
    core.events.publish(|| Event::NodeStopping { node: core.node, at: core.clock.now() });
    Stage::move_on(&core.stage, Stage::Stopping);
    core.inbox.close();
    let ended = drain(core).await;
    let rest = Patience::of(REST);
    // A run that blocks its thread cannot be dropped, and must not use up all of the remaining time.
    if !ended && tokio::time::timeout(SETTLING, idle(core, None)).await.is_err() {
        warn!(core.log, "some runs did not end; their claims are given back");
    }
    if tokio::time::timeout(RETIRING, retire(core)).await.is_err() {
        warn!(core.log, "storage does not take the node's claims back; they are free when its lease has run out");
    }
    Stage::move_on(&core.stage, Stage::Stopped);
    core.turn_everyone_away();
    if tokio::time::timeout(TELLING, core.events.close()).await.is_err() {
        warn!(core.log, "a subscriber did not take the last events in time; they are lost");
    }
    core.disconnect_all();
    threads.end(core, &rest);
    info!(core.log, "the board has stopped");
}

/// Waits for running tasks to end, first by themselves, then on request. True when all have ended.
async fn drain(core: &Arc<Core>) -> bool {
    for ready in core.ready_queues.values() {
        for claimed in ready.clear() {
            core.give_back(claimed, Holder::Worker);
        }
    }
    if within(core, core.config.drain).await {
        return true;
    }
    core.cancel_all();
    // The workers drop a run that outlasts the grace.
    within(core, core.config.cancel_grace).await
}

/// Waits until nothing runs on this node, for at most `span` of the board's clock.
async fn within(core: &Arc<Core>, span: Duration) -> bool {
    // Not a timer on the board's own threads, because a callback or the logger may block them.
    tokio::select! {
        biased;
        _ = idle(core, None) => true,
        () = core.clock.sleep(span) => false,
    }
}

/// Resolves when no task of a queue, or of any queue, runs on this node and every settlement is stored.
pub(super) async fn idle(core: &Arc<Core>, queue: Option<Name>) -> Result<(), BoardError> {
    loop {
        match core.queue.ask(AwaitIdle(queue.clone())).await {
            Ok(mut told) => {
                core.poke_queue();
                match told.try_recv() {
                    Ok(()) => return Ok(()),
                    // Everything is stored by now, or the actor was replaced: ask again.
                    Err(TryRecvError::Closed) => {}
                    Err(TryRecvError::Empty) => {
                        if told.await.is_ok() {
                            return Ok(());
                        }
                    }
                }
            }
            // Without its threads the board has no timer, and no new queue actor will start.
            Err(error) if core.stage() >= Stage::Stopped || !core.has_threads() => return Err(error.into()),
            Err(_) => core.timeout(Duration::from_millis(10)).await,
        }
    }
}

/// Gives the claims back and deletes the node's row, so that no node has to wait for the lease to end.
async fn retire(core: &Arc<Core>) {
    let release = || ReleaseClaims { node: core.node, keep: Vec::new(), retire: true, now: core.clock.now() };
    for _ in 0..3 {
        match core.persistence.ask(release()).await {
            Ok(_) => return,
            Err(error) => {
                warn!(core.log, "the node is not retired yet"; keys::ERROR => %error);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
