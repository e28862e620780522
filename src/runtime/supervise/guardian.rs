//! The guardian: starts the core actors, and restarts actors that died.
//!
//! An actor whose handler panics is gone for good: actix drops it, and its address answers `Closed` for ever. So each
//! core actor holds a [`Supervised`], whose destructor tells the guardian. The guardian makes a fresh actor after a
//! short pause. It puts the new address on the [`RestartableAddr`](crate::actor::RestartableAddr) that all callers
//! read. State that must not be lost is kept outside of the actors: on the inbox, in slots, in shared maps, in storage.
//!
//! More than [`MOST_RESTARTS`] restarts of core parts within [`WINDOW`] mean that restarting does not help. The board
//! then gives up with a critical log record, and its stage becomes `failed`. The program should then exit non-zero for
//! its service manager.
//!
//! The heartbeat thread watches the guardian itself. The rounds of the heartbeat and of the watch go on after a panic.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use actix_rt::ArbiterHandle;
use slog::{crit, error};

use crate::actor::{Part, Ping, Supervised};
use crate::logging::keys;
use crate::runtime::core::{Core, Stage};
use crate::runtime::events::Event;
use crate::runtime::maintenance::Maintenance;
use crate::runtime::queue::Queue;
use crate::runtime::queue::ready::wake;
use crate::runtime::scheduler::Scheduler;
use crate::store::Store;

/// Restarts of core parts within [`WINDOW`] that are tolerated.
pub(crate) const MOST_RESTARTS: usize = 5;
/// The time in which restarts are counted.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// The delay before the guardian looks again after a part has reported its death.
const SECOND_LOOK: Duration = Duration::from_millis(5);
/// How often the guardian looks without a report, because a sync arbiter cannot report its death.
const LOOK: Duration = Duration::from_millis(250);

/// The guardian actor.
pub(crate) struct Guardian {
    core: Arc<Core>,
    home: ArbiterHandle,
    /// Parts whose restart is in progress.
    mending: Vec<Part>,
    _life: Supervised,
}

impl Guardian {
    /// Starts a guardian on the arbiter where core actors live.
    pub(crate) fn start_at(core: &Arc<Core>, home: &ArbiterHandle) -> actix::Addr<Self> {
        let (core, home) = (Arc::clone(core), home.clone());
        Self::start_in_arbiter(&home.clone(), move |_| {
            let life = core.parts.life(Part::Guardian);
            Self { core, home, mending: Vec::new(), _life: life }
        })
    }

    /// Waits for the next reported death, or looks without a report after a while.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let deaths = self.core.parts.deaths();
        // A plain timer, because the guardian must look also while a test's clock stands still.
        let next = async move {
            let mut deaths = deaths.lock().await;
            tokio::time::timeout(LOOK, deaths.recv()).await.ok().flatten()
        };
        let then = next.into_actor(self).map(|died, guardian: &mut Self, ctx: &mut Context<Self>| {
            if guardian.core.stage() >= Stage::Stopped {
                return;
            }
            guardian.core.parts.pulse(Part::Guardian).tick(&guardian.core.clock);
            guardian.core.inbox.look_at_the_time(guardian.core.clock.elapsed());
            match died {
                Some(part) => {
                    guardian.mend(part, ctx);
                    // An actor reports its death a moment before its address is closed. On a different thread that
                    // moment may not be over.
                    ctx.run_later(SECOND_LOOK, Self::look);
                }
                None => guardian.look(ctx),
            }
            guardian.watch(ctx);
        });
        ctx.spawn(then);
    }

    /// Finds parts that are down, with or without a report. Pings the parts that have no regular rounds as a sign of
    /// life. Wakes other workers if a woken worker does not answer.
    fn look(&mut self, ctx: &mut Context<Self>) {
        for part in Part::ALL {
            self.mend(*part, ctx);
        }
        let core = &self.core;
        if core.parts.pulse(Part::Events).ask() {
            core.events.line().poke(Ping);
        }
        if core.parts.pulse(Part::Store).ask() {
            core.store_line.poke(Ping);
        }
        core.workers.call_roll(&core.clock);
        for ready in core.ready_queues.values() {
            wake(ready.not_answered());
        }
    }

    /// Restarts a part, after a pause that grows with the number of restarts.
    fn mend(&mut self, part: Part, ctx: &mut Context<Self>) {
        // The guardian does not restart these three: the heartbeat thread watches the guardian, and the two threads
        // restart themselves.
        let not_mine = matches!(part, Part::Guardian | Part::Heartbeat | Part::Watch);
        if not_mine || self.mending.contains(&part) || !self.core.is_down(part) {
            return;
        }
        self.mending.push(part);
        let pulse = self.core.parts.pulse(part);
        pulse.restarted();
        error!(self.core.log, "a part died and is started anew"; keys::PART => %part, keys::RESTARTS => pulse.restarts());
        let mut pause = Duration::from_millis(1);
        // Workers die of the tasks they run, so their restarts have no limit.
        if part != Part::Worker {
            let recent = self.core.parts.note_restart(self.core.clock.elapsed(), WINDOW);
            if recent > MOST_RESTARTS {
                give_up(&self.core, part);
                return;
            }
            pause = Duration::from_millis(5 << recent.min(6));
        }
        let (core, home) = (Arc::clone(&self.core), self.home.clone());
        let restarts = pulse.restarts();
        let later = tokio::time::sleep(pause).into_actor(self).map(move |(), guardian: &mut Self, _| {
            guardian.mending.retain(|other| *other != part);
            if core.stage() < Stage::Stopped && core.is_down(part) {
                start_part(&core, part, &home);
                core.events.publish(|| Event::PartRestarted { part, restarts });
            }
        });
        ctx.spawn(later);
    }
}

impl Actor for Guardian {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Finds parts that died while there was no guardian.
        self.look(ctx);
        self.watch(ctx);
    }
}

#[cfg(feature = "testing")]
crate::actor::crash_on_request!(Guardian);

/// Starts a part, for the first time or again.
pub(crate) fn start_part(core: &Arc<Core>, part: Part, home: &ArbiterHandle) {
    let inner = Arc::clone(core);
    match part {
        Part::Queue => core.queue.connect(Queue::start_in_arbiter(home, move |_| {
            let life = inner.parts.life(part);
            Queue::new(inner, life)
        })),
        Part::Maintenance => core.maintenance.connect(Maintenance::start_in_arbiter(home, move |_| {
            let life = inner.parts.life(part);
            Maintenance::new(inner, life)
        })),
        Part::Scheduler => core.scheduler.connect(Scheduler::start_in_arbiter(home, move |_| {
            let life = inner.parts.life(part);
            Scheduler::new(inner, life)
        })),
        Part::Store => core.store_line.connect(Store::start_in_arbiter(home, move |_| {
            let life = inner.parts.life(part);
            Store::new(Arc::clone(&inner.kept), inner.clock.clone(), life)
        })),
        Part::Events => {
            let fanout = core.events.fanout(core.clock.clone(), core.log.clone(), core.parts.life(part));
            let home = core.events_home.get().unwrap_or(home);
            core.events.line().connect(Actor::start_in_arbiter(home, move |_| fanout));
        }
        Part::Persistence => core.persistence.start(),
        Part::Worker => drop(core.workers.replace_dead(core)),
        Part::Guardian | Part::Heartbeat | Part::Watch => {}
    }
}

/// Restarting does not help: the board fails, and logs it.
pub(super) fn give_up(core: &Core, part: Part) {
    if core.fail() {
        crit!(core.log, "a part died too often; the board gives up, start it anew"; keys::PART => %part);
    }
}
