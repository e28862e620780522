//! How a board stops.

use std::sync::Arc;
use std::time::Duration;

use slog::{info, warn};
use tokio::sync::oneshot::error::TryRecvError;

use super::house::House;
use crate::core::{Core, Stage};
use crate::error::BoardError;
use crate::events::Event;
use crate::logging::keys;
use crate::name::Name;
use crate::persistence::ReleaseClaims;
use crate::queue::{AwaitIdle, desk::Holder};

impl House {
    pub(super) async fn stop(&self, core: &Arc<Core>) {
        // A second caller waits for the first, and finds nothing to do.
        let _turn = self.stopped.lock().await;
        if self.inner.lock().is_none() {
            return;
        }
        info!(core.log, "the board is stopping");
        core.events.publish(|| Event::NodeStopping { node: core.node, at: core.clock.now() });
        Stage::move_on(&core.stage, Stage::Stopping);
        core.desk.close();
        drain(core).await;
        retire(core).await;
        Stage::move_on(&core.stage, Stage::Stopped);
        core.desk.turn_away();
        core.awaited.close();
        core.disconnect_all();
        // Only now: a stop whose future was dropped half-way can be called again.
        let inner = self.inner.lock().take();
        if let Some(inner) = inner {
            inner.end(core).await;
        }
        info!(core.log, "the board has stopped");
    }
}

/// Lets what runs come to its end: first by itself, then on request.
async fn drain(core: &Arc<Core>) {
    for bench in core.benches.values() {
        for claimed in bench.clear() {
            core.give_back(claimed, Holder::Worker);
        }
    }
    if core.within(core.config.drain, idle(core, None)).await {
        return;
    }
    core.cancel_all();
    // The workers themselves drop a run that outlasts the grace; their settlements take a moment more.
    let grace = core.config.cancel_grace + Duration::from_secs(2);
    if !core.within(grace, idle(core, None)).await {
        warn!(core.log, "some runs did not end; their claims are given back");
    }
}

/// Resolves when nothing of a queue, or of any, runs on this node and every settlement is stored.
pub(super) async fn idle(core: &Arc<Core>, queue: Option<Name>) -> Result<(), BoardError> {
    loop {
        match core.queue.ask(AwaitIdle(queue.clone())).await {
            Ok(mut told) => {
                core.poke_queue();
                match told.try_recv() {
                    Ok(()) => return Ok(()),
                    // All is stored now, or the actor was replaced: ask again.
                    Err(TryRecvError::Closed) => {}
                    Err(TryRecvError::Empty) => drop(told.await),
                }
            }
            Err(error) if core.stage() >= Stage::Stopped => return Err(error),
            Err(_) => core.timeout(Duration::from_millis(10)).await,
        }
    }
}

/// Gives the claims back and takes the node's row away, so that nobody has to wait for the lease to end.
async fn retire(core: &Arc<Core>) {
    let release = || ReleaseClaims { node: core.node, keep: Vec::new(), retire: true, now: core.clock.now() };
    for _ in 0..3 {
        match core.persistence.ask(release()).await {
            Ok(_) => return,
            Err(error) => {
                warn!(core.log, "the node is not retired yet"; keys::ERROR => %error);
                core.timeout(Duration::from_millis(100)).await;
            }
        }
    }
}
