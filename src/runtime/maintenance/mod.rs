//! Maintenance: promotes due tasks, rescues tasks of dead nodes, cancels expired tasks and prunes history.
//!
//! The timer is separate from the work: [`sweep()`] does a single round. The timer, a wake-up or a test calls it. The
//! timer sleeps until the next task is due, or for `check_interval`.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`DueAt`] | queue, deliveries, board, when a task or delivery is due | none | yes: at most `check_interval` late then | yes |
//! | [`HeldUntil`] | the queue, when a limit holds tasks back until a time | none | yes: the next round does it | yes |
//! | [`SweepNow`] | the watch thread, the board, tests | when the round is done | yes: the timer does it | yes |

mod prune;
mod sweep;
mod unrun;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use slog::warn;
use tokio::sync::{oneshot, watch};

use self::prune::prune_history;
pub(crate) use self::sweep::sweep;
use crate::actor::Supervised;
use crate::backend::BackendError;
use crate::clock::{Clock, Timestamp};
use crate::logging::keys;
use crate::name::Name;
use crate::runtime::core::Core;
use crate::runtime::queue::delivery::next_deadline;

/// Time between two searches for tasks that are no longer kept.
const BETWEEN_PRUNES: Duration = Duration::from_secs(30);

/// Time between two searches for tasks that no node runs.
const BETWEEN_LOOKS: Duration = Duration::from_secs(20);

/// A task or delivery will be due at this time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct DueAt(pub(crate) Timestamp);

/// A throttled queue is to be asked again, at a time that the core's
/// [`ThrottledQueues`](crate::runtime::core::ThrottledQueues) holds.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct HeldUntil;

/// Do a round now.
#[derive(Message)]
#[rtype(result = "Result<(), BackendError>")]
pub(crate) struct SweepNow;

/// The maintenance actor.
pub(crate) struct Maintenance {
    core: Arc<Core>,
    /// When the timer ends, in monotonic time.
    timer: watch::Sender<Duration>,
    timer_runs: bool,
    /// When the next round is due, in monotonic time.
    round_at: Duration,
    next_due: Option<Timestamp>,
    waiters: Vec<oneshot::Sender<Result<(), BackendError>>>,
    last_prune: Option<Duration>,
    pruning: bool,
    /// When the last search for tasks that no node runs began, and the queue where it ended if it did not see all
    /// queues.
    last_look: Option<Duration>,
    looked_to: Option<Name>,
    looking: bool,
    sweeping: bool,
    again: bool,
    life: Supervised,
}

impl Maintenance {
    pub(crate) fn new(core: Arc<Core>, life: Supervised) -> Self {
        Self {
            core,
            timer: watch::Sender::new(Duration::ZERO),
            timer_runs: false,
            round_at: Duration::ZERO,
            next_due: None,
            waiters: Vec::new(),
            last_prune: None,
            pruning: false,
            last_look: None,
            looked_to: None,
            looking: false,
            sweeping: false,
            again: false,
            life,
        }
    }

    /// Decides when the next round is.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        // The end of a task on a different node sends no wake-up. A caller that waits for such a task learns of its end
        // only from a round.
        let awaited = self.core.awaited.any();
        let check = if awaited { self.core.config.check_interval } else { self.core.between_looks() };
        let now = self.core.clock.now();
        let pause = match self.next_due {
            // Never without a pause, because a due task that cannot be promoted would make this loop spin.
            Some(due) => due.since(now).max(Duration::from_millis(1)).min(check),
            None => check,
        };
        self.core.alarm.set(now + pause);
        self.round_at = self.core.clock.after(pause);
        self.set_timer(ctx);
    }

    /// Sets the timer for the next round, or for an earlier time at which a throttled queue is asked again. The timer
    /// is a single future, which reads its time again when it is set anew. Cancelling a future and spawning a new
    /// future for each message would take time that grows with the square of their number, because actix cleans up
    /// after all of them.
    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let (now, elapsed) = (self.core.clock.now(), self.core.clock.elapsed());
        let held = self.core.throttled.next().map(|until| elapsed.saturating_add(until.since(now)));
        self.timer.send_replace(held.map_or(self.round_at, |held| held.min(self.round_at)));
        if std::mem::replace(&mut self.timer_runs, true) {
            return;
        }
        let over = timer(self.core.clock.clone(), self.timer.subscribe());
        ctx.spawn(over.into_actor(self).map(|(), maintenance, ctx| {
            maintenance.timer_runs = false;
            maintenance.on_time(ctx);
        }));
    }

    /// Runs a round if it is due. Otherwise only throttled queues are asked again, which needs no look at storage.
    fn on_time(&mut self, ctx: &mut Context<Self>) {
        if self.core.clock.elapsed() >= self.round_at {
            return self.round(ctx);
        }
        self.core.wake_held();
        self.set_timer(ctx);
    }

    /// Runs a round, and then sets the timer for the next.
    fn round(&mut self, ctx: &mut Context<Self>) {
        if self.sweeping {
            self.again = true;
            return;
        }
        self.sweeping = true;
        self.prune_when_due(ctx);
        self.look_when_due(ctx);
        self.next_due = None;
        self.core.alarm.set(Timestamp::from_micros(i64::MAX));
        let waiters = std::mem::take(&mut self.waiters);
        let core = Arc::clone(&self.core);
        let work = async move {
            let report = sweep(&core).await;
            let nothing_pending = report.as_ref().is_ok_and(|report| report.nothing_pending);
            if core.backend.capabilities().notifies && !nothing_pending {
                // A claim passes over rows that a different transaction has locked, such as an application that pushed
                // the same unique key. The release of a lock sends no notification, so the node looks for work here.
                // Where storage is polled, the poll finds the tasks.
                core.look_for_work();
            }
            report
        };
        let done = work.into_actor(self).map(|report, maintenance: &mut Self, ctx: &mut Context<Self>| {
            maintenance.sweeping = false;
            maintenance.life.tick(&maintenance.core.clock);
            let found = match &report {
                Ok(report) if report.more => Some(maintenance.core.clock.now()),
                Ok(report) => report.next_due,
                Err(error) => {
                    if maintenance.core.has_storage() {
                        warn!(maintenance.core.log, "no upkeep this time"; keys::ERROR => %error);
                    }
                    None
                }
            };
            // The round may have missed times that were announced while it was in flight.
            let announced = maintenance.next_due.take();
            let deliveries = next_deadline(&maintenance.core.deliveries.lock());
            let deadline = deliveries.map(|deadline| maintenance.core.in_wall_time(deadline));
            maintenance.next_due = found.into_iter().chain(announced).chain(deadline).min();
            let answer = report.map(drop);
            for waiter in waiters {
                // A waiter that has gone needs no answer.
                drop(waiter.send(answer.clone()));
            }
            if std::mem::take(&mut maintenance.again) {
                maintenance.round(ctx);
            } else {
                maintenance.arm(ctx);
            }
        });
        ctx.spawn(done);
    }

    /// Prunes beside the rounds: a long history takes its time, and due tasks must not wait for it.
    fn prune_when_due(&mut self, ctx: &mut Context<Self>) {
        let now = self.core.clock.elapsed();
        let due = self.last_prune.is_none_or(|last| now.saturating_sub(last) >= BETWEEN_PRUNES);
        if self.pruning || !due {
            return;
        }
        self.pruning = true;
        self.last_prune = Some(now);
        let core = Arc::clone(&self.core);
        let work = async move { prune_history(&core).await };
        let done = work.into_actor(self).map(|(), maintenance: &mut Self, _| maintenance.pruning = false);
        ctx.spawn(done);
    }
}

impl Maintenance {
    /// Looks for tasks that no node runs, beside the rounds.
    fn look_when_due(&mut self, ctx: &mut Context<Self>) {
        let now = self.core.clock.elapsed();
        let due = self.last_look.is_none_or(|last| now.saturating_sub(last) >= BETWEEN_LOOKS);
        if self.looking || !due {
            return;
        }
        self.looking = true;
        self.last_look = Some(now);
        let (core, after) = (Arc::clone(&self.core), self.looked_to.take());
        let work = async move { unrun::look(&core, after).await };
        let done = work.into_actor(self).map(|looked, maintenance: &mut Self, _| {
            maintenance.looking = false;
            // The rounds report storage that does not answer.
            maintenance.looked_to = looked.unwrap_or_default();
        });
        ctx.spawn(done);
    }
}

/// Resolves at the time that was set last.
async fn timer(clock: Clock, mut set: watch::Receiver<Duration>) {
    loop {
        let left = set.borrow_and_update().saturating_sub(clock.elapsed());
        tokio::select! {
            () = clock.sleep(left) => return,
            // An error means that the actor is gone, and this future goes with it.
            again = set.changed() => if again.is_err() { return },
        }
    }
}

impl Actor for Maintenance {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.life.tick(&self.core.clock);
        self.round(ctx);
    }
}

impl Handler<DueAt> for Maintenance {
    type Result = ();
    fn handle(&mut self, DueAt(due): DueAt, ctx: &mut Self::Context) {
        self.next_due = self.next_due.into_iter().chain([due]).min();
        if !self.sweeping {
            self.arm(ctx);
        }
    }
}

impl Handler<HeldUntil> for Maintenance {
    type Result = ();
    fn handle(&mut self, _: HeldUntil, ctx: &mut Self::Context) {
        if !self.sweeping {
            self.set_timer(ctx);
        }
    }
}

impl Handler<SweepNow> for Maintenance {
    type Result = ResponseFuture<Result<(), BackendError>>;
    fn handle(&mut self, _: SweepNow, ctx: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.waiters.push(tell);
        self.round(ctx);
        let silent = || BackendError::Transient { operation: "sweep", message: "maintenance was restarted".into() };
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(silent())) })
    }
}

#[cfg(feature = "testing")]
crate::actor::crash_on_request!(Maintenance);
