//! The two threads beside the actors: the heartbeat, which renews the lease, and the watch, which waits for other
//! processes' changes.
//!
//! They are threads of their own because a flooded actor's timers do not run, and a lease that is not renewed in time
//! hands the node's tasks to others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_rt::ArbiterHandle;
use slog::{crit, error, info, warn};

use super::life::Presence;
use super::{Guardian, Part, Pulse};
use crate::backend::{BackendError, NodeBeat};
use crate::clock::{Signal, Timestamp};
use crate::core::{Core, Stage};
use crate::logging::keys;
use crate::maintenance::SweepNow;

/// How long the watch blocks in storage before it looks whether it should end.
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
    /// When the system gives no thread.
    pub(crate) fn start(core: &Arc<Core>, home: &ArbiterHandle, started_at: Timestamp) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let mut threads = Self { signal: Arc::clone(&signal), handles: Vec::new() };
        let (inner, home) = (Arc::clone(core), home.clone());
        // Read here: the lease runs already, however late the thread gets its first turn.
        let last = core.clock.elapsed();
        threads.spawn("callboard-heartbeat", core.parts.pulse(Part::Heartbeat), {
            let signal = Arc::clone(&signal);
            move || heartbeats(&inner, &home, (started_at, last), &signal)
        })?;
        if core.backend.capabilities().shared {
            let inner = Arc::clone(core);
            threads.spawn("callboard-watch", core.parts.pulse(Part::Watch), move || watches(&inner, &signal))?;
        }
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, pulse: &Arc<Pulse>, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let presence = Presence(Arc::clone(pulse));
        let work = move || {
            let _presence = presence;
            work();
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

/// Sends one sign of life; the lease runs from when it was sent.
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

/// Sets the board's clock by that of storage. Half of the way there and back is taken for the way back.
pub(crate) fn follow_storage(core: &Core) -> Result<(), BackendError> {
    let sent = core.clock.elapsed();
    let Some(time) = core.backend.time()? else { return Ok(()) };
    let way = core.clock.elapsed().saturating_sub(sent);
    core.clock.follow(time, sent + way / 2);
    Ok(())
}

/// Renews the lease, from the beat at `last` on.
fn heartbeats(
    core: &Arc<Core>,
    home: &ArbiterHandle,
    (started_at, mut last): (Timestamp, Duration),
    signal: &Signal,
) {
    let mut failing = false;
    let pulse = core.parts.pulse(Part::Heartbeat);
    loop {
        #[cfg(feature = "testing")]
        pulse.crash_when_told();
        let period = if failing { core.config.heartbeat() / 4 } else { core.config.heartbeat() };
        let left = last.saturating_add(period).saturating_sub(core.clock.elapsed());
        if core.clock.wait(pause(core.stage(), left), signal) {
            return;
        }
        watch_guardian(core, home);
        // A board that gave up lets its lease run out, so that others take over.
        if core.stage() == Stage::Failed || core.clock.elapsed() < last.saturating_add(period) {
            continue;
        }
        last = core.clock.elapsed();
        let was_safe = core.may_claim();
        let result = catch_unwind(AssertUnwindSafe(|| beat(core, started_at))).unwrap_or_else(|_| {
            pulse.restarted();
            Err(BackendError::Panicked { operation: "heartbeat" })
        });
        match result {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    info!(core.log, "heartbeats get through again");
                }
                if !was_safe {
                    // Nothing was claimed meanwhile, and nobody else will say that it may be again.
                    core.look_for_work();
                    core.agenda.ring();
                }
                pulse.tick(&core.clock);
            }
            Err(error) => {
                core.lease.missed();
                if !std::mem::replace(&mut failing, true) {
                    warn!(core.log, "no heartbeat; nothing is claimed once the lease is over"; keys::ERROR => %error);
                }
            }
        }
    }
}

/// How long to wait for a look at the guardian, or for a beat that is due in `left`.
fn pause(stage: Stage, left: Duration) -> Duration {
    // A board that gave up sends no beat, so the time for one stays over: without a pause this would be an endless loop.
    if stage == Stage::Failed { GUARDIAN_LOOK } else { left.min(GUARDIAN_LOOK) }
}

fn watch_guardian(core: &Arc<Core>, home: &ArbiterHandle) {
    if core.guardian.is_connected() {
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
    core.guardian.connect(Guardian::start_at(core, home));
}

/// Sweeps that others' changes bring about come at most so often: what is pending is claimed at once in any case.
const BETWEEN_SWEEPS: Duration = Duration::from_millis(200);

fn watches(core: &Arc<Core>, signal: &Signal) {
    let pulse = core.parts.pulse(Part::Watch);
    let (mut swept, mut to_sweep) = (Duration::ZERO, false);
    while !signal.is_stopped() {
        #[cfg(feature = "testing")]
        pulse.crash_when_told();
        let changed = catch_unwind(AssertUnwindSafe(|| core.backend.watch(WATCH_SLICE))).unwrap_or_else(|_| {
            pulse.restarted();
            Err(BackendError::Panicked { operation: "watch" })
        });
        match changed {
            Ok(true) => {
                core.look_for_work();
                to_sweep = true;
            }
            Ok(false) => {}
            // Not an endless loop at full speed when storage is away.
            Err(_) => {
                if core.clock.wait(WATCH_SLICE, signal) {
                    return;
                }
            }
        }
        if to_sweep && core.clock.elapsed() >= swept + BETWEEN_SWEEPS {
            (swept, to_sweep) = (core.clock.elapsed(), false);
            core.maintenance.poke(SweepNow);
            core.agenda.ring();
        }
        pulse.tick(&core.clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_gave_up_does_not_keep_a_core_busy() {
        assert_eq!(pause(Stage::Running, Duration::ZERO), Duration::ZERO, "a beat is due");
        assert_eq!(pause(Stage::Running, GUARDIAN_LOOK * 9), GUARDIAN_LOOK);
        assert_eq!(pause(Stage::Failed, Duration::ZERO), GUARDIAN_LOOK);
    }
}
