//! The two threads beside the actors: the heartbeat, which renews the lease, and the watch, which waits for changes by
//! other processes.
//!
//! They are separate threads because a flooded actor's timers do not run. A lease that is not renewed in time hands the
//! node's tasks to other nodes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_rt::ArbiterHandle;
use slog::{crit, error, info, warn};

use super::Guardian;
use super::guardian::{MOST_RESTARTS, WINDOW, give_up};
use crate::actor::Part;
use crate::actor::Presence;
use crate::backend::{BackendError, NodeBeat};
use crate::clock::{Signal, Timestamp};
use crate::logging::keys;
use crate::panics::caught;
use crate::runtime::core::{Core, Stage};
use crate::runtime::events::Event;
use crate::runtime::maintenance::SweepNow;

/// How long the watch blocks in storage before it checks whether it must end.
const WATCH_SLICE: Duration = Duration::from_millis(200);
/// The longest pause of the heartbeat thread, which also watches the guardian.
const GUARDIAN_LOOK: Duration = Duration::from_millis(250);

/// The threads of a board; stopped and joined with it.
pub(crate) struct Threads {
    signal: Arc<Signal>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// # Errors
    /// When the system cannot start a thread.
    pub(crate) fn start(core: &Arc<Core>, home: &ArbiterHandle, started_at: Timestamp) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let mut threads = Self { signal: Arc::clone(&signal), handles: Vec::new() };
        // Read here, because the lease runs already, however late the thread gets its first turn.
        let mut heart = Heart { started_at, last: core.clock.elapsed(), failing: false };
        threads.spawn(core, Part::Heartbeat, "callboard-heartbeat", {
            let (core, home, signal) = (Arc::clone(core), home.clone(), Arc::clone(&signal));
            move || while !heart.round(&core, &home, &signal) {}
        })?;
        if core.backend.capabilities().shared {
            let mut watch = Watch { swept: Duration::ZERO, to_sweep: false };
            threads.spawn(core, Part::Watch, "callboard-watch", {
                let core = Arc::clone(core);
                move || while !watch.round(&core, &signal) {}
            })?;
        }
        Ok(threads)
    }

    /// Starts a thread for a part. After a panic its work is started anew on the same thread, as an actor is.
    fn spawn(
        &mut self,
        core: &Arc<Core>,
        part: Part,
        name: &str,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<()> {
        let (core, signal) = (Arc::clone(core), Arc::clone(&self.signal));
        let presence = Presence(Arc::clone(core.parts.pulse(part)));
        let work = move || {
            let _presence = presence;
            while let Err(text) = caught(&mut work) {
                if !outlives(&core, part, &text) || core.clock.wait(GUARDIAN_LOOK, &signal) {
                    return;
                }
            }
        };
        self.handles.push(std::thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    /// Tells the threads to end; they are to be joined.
    pub(crate) fn stop(self) -> Vec<JoinHandle<()>> {
        self.signal.stop();
        self.handles
    }
}

/// Notes that a part has panicked and is restarted; false when this was too often, and the board gives up.
fn outlives(core: &Core, part: Part, text: &str) -> bool {
    let pulse = core.parts.pulse(part);
    pulse.restarted();
    let restarts = pulse.restarts();
    error!(core.log, "a part died and is started anew"; keys::PART => %part, keys::RESTARTS => restarts,
        keys::ERROR => text);
    if is_one_too_many(core, part) {
        return false;
    }
    core.events.publish(|| Event::PartRestarted { part, restarts });
    true
}

/// Counts a restart; true when restarting does not help and the board has given up.
fn is_one_too_many(core: &Core, part: Part) -> bool {
    let over = core.parts.note_restart(core.clock.elapsed(), WINDOW) > MOST_RESTARTS;
    if over {
        give_up(core, part);
    }
    over
}

/// Sends a heartbeat; the lease runs from the time when it was sent.
pub(crate) fn beat(core: &Core, started_at: Timestamp) -> Result<(), BackendError> {
    follow_storage(core)?;
    let sent = core.clock.elapsed();
    let config = &core.config;
    let beat = NodeBeat {
        node_id: core.node,
        name: config.node_name.clone(),
        started_at,
        now: core.clock.now(),
        lease: config.lease,
        version: env!("CARGO_PKG_VERSION").into(),
        queues: config.queues.clone(),
        types: core.registry.types().to_vec(),
        pulls: core.unrun.pulls.now(sent),
    };
    core.backend.heartbeat(&beat)?;
    core.lease.renew(sent, config.lease);
    Ok(())
}

/// Sets the board's clock by the storage's clock. Half of the round trip is taken for the way back.
pub(crate) fn follow_storage(core: &Core) -> Result<(), BackendError> {
    let sent = core.clock.elapsed();
    let Some(time) = core.backend.time()? else { return Ok(()) };
    let way = core.clock.elapsed().saturating_sub(sent);
    core.clock.follow(time, sent + way / 2);
    Ok(())
}

/// Renews the lease. After a restart it goes on with the same state.
struct Heart {
    started_at: Timestamp,
    /// When the last heartbeat was sent, in monotonic time.
    last: Duration,
    failing: bool,
}

impl Heart {
    /// Waits for the next look or heartbeat; true when the thread must end.
    fn round(&mut self, core: &Arc<Core>, home: &ArbiterHandle, signal: &Signal) -> bool {
        #[cfg(feature = "testing")]
        core.parts.pulse(Part::Heartbeat).crash_when_told();
        let heartbeat = core.config.heartbeat();
        let period = if self.failing { heartbeat / 4 } else { heartbeat };
        let left = self.last.saturating_add(period).saturating_sub(core.clock.elapsed());
        if core.clock.wait(pause(core.stage(), left), signal) {
            return true;
        }
        watch_guardian(core, home);
        // A board that gave up lets its lease run out, so that other nodes take over.
        if core.stage() != Stage::Failed && core.clock.elapsed() >= self.last.saturating_add(period) {
            self.beat(core);
        }
        false
    }

    fn beat(&mut self, core: &Core) {
        let pulse = core.parts.pulse(Part::Heartbeat);
        self.last = core.clock.elapsed();
        let was_safe = core.may_claim();
        let result = caught(|| beat(core, self.started_at)).unwrap_or_else(|_| {
            pulse.restarted();
            Err(BackendError::Panicked { operation: "heartbeat" })
        });
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info!(core.log, "heartbeats get through again");
                }
                if !was_safe {
                    // Nothing was claimed meanwhile, and no other event announces that claims are allowed again.
                    core.look_for_work();
                    core.due_list.ring();
                }
                pulse.tick(&core.clock);
            }
            Err(error) => {
                core.lease.missed();
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(core.log, "no heartbeat; nothing is claimed once the lease is over"; keys::ERROR => %error);
                }
            }
        }
    }
}

/// How long to wait for a look at the guardian, or for a heartbeat that is due in `left`.
fn pause(stage: Stage, left: Duration) -> Duration {
    // A board that gave up sends no heartbeat, so a heartbeat stays due. Without a pause this would be an endless loop.
    if stage == Stage::Failed { GUARDIAN_LOOK } else { left.min(GUARDIAN_LOOK) }
}

fn watch_guardian(core: &Arc<Core>, home: &ArbiterHandle) {
    // A board that has stopped has dropped its guardian before this thread is told.
    if core.guardian.is_connected() || core.stage() >= Stage::Stopped {
        return;
    }
    if !core.has_threads() {
        if core.fail() {
            crit!(
                core.log,
                "the board's actix system was stopped, and its threads with it; the board gives up, start it anew"
            );
        }
        return;
    }
    let pulse = core.parts.pulse(Part::Guardian);
    pulse.restarted();
    error!(core.log, "the guardian died and is started anew"; keys::RESTARTS => pulse.restarts());
    if is_one_too_many(core, Part::Guardian) {
        return;
    }
    core.guardian.connect(Guardian::start_at(core, home));
}

/// The shortest time between sweeps that changes of other processes cause. Pending tasks are claimed at once in any
/// case.
const BETWEEN_SWEEPS: Duration = Duration::from_millis(200);

/// Waits for changes by other processes. After a restart it goes on with the same state.
struct Watch {
    swept: Duration,
    to_sweep: bool,
}

impl Watch {
    /// Waits for a change, or for a while; true when the thread must end.
    fn round(&mut self, core: &Core, signal: &Signal) -> bool {
        let pulse = core.parts.pulse(Part::Watch);
        #[cfg(feature = "testing")]
        pulse.crash_when_told();
        let changed = caught(|| core.backend.watch(WATCH_SLICE)).unwrap_or_else(|_| {
            pulse.restarted();
            Err(BackendError::Panicked { operation: "watch" })
        });
        match changed {
            Ok(true) => {
                core.look_for_work();
                self.to_sweep = true;
            }
            Ok(false) => {}
            // The pause keeps this from being an endless loop at full speed when storage is away.
            Err(_) => {
                if core.clock.wait(WATCH_SLICE, signal) {
                    return true;
                }
            }
        }
        if self.to_sweep && core.clock.elapsed() >= self.swept + BETWEEN_SWEEPS {
            (self.swept, self.to_sweep) = (core.clock.elapsed(), false);
            core.maintenance.poke(SweepNow);
            core.due_list.ring();
        }
        pulse.tick(&core.clock);
        signal.is_stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_board_that_has_stopped_gets_no_new_guardian() {
        let board = crate::Board::builder().start().await.unwrap();
        let core = board.core();
        let home = core.home.get().unwrap().clone();
        // As in the moment between the end of a stop and the end of its threads.
        core.stage.send_replace(Stage::Stopped);
        core.guardian.disconnect();
        watch_guardian(core, &home);
        assert!(core.guardian.address().is_none());
        assert_eq!(core.parts.pulse(Part::Guardian).restarts(), 0);
        core.stage.send_replace(Stage::Running);
        board.stop().await;
    }

    #[test]
    fn a_board_that_gave_up_does_not_keep_a_core_busy() {
        assert_eq!(pause(Stage::Running, Duration::ZERO), Duration::ZERO, "a beat is due");
        assert_eq!(pause(Stage::Running, GUARDIAN_LOOK * 9), GUARDIAN_LOOK);
        assert_eq!(pause(Stage::Failed, Duration::ZERO), GUARDIAN_LOOK);
    }
}
