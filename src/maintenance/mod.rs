//! Maintenance: promotes due tasks, rescues those of dead nodes, cancels what expired, prunes history.
//!
//! The timer is not the work: [`sweep`](Maintenance::sweep) does one round and is called by the timer, by a wake-up, and
//! by tests. The timer sleeps until the next task is due, or for `check_interval`.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`DueAt`] | queue and workers, when something will be due | none | yes: at most `check_interval` late then | yes |
//! | [`SweepNow`] | the watch thread, the board, tests | when the round is done | yes: the timer does it | yes |

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use slog::{info, warn};
use tokio::sync::{oneshot, watch};

use crate::backend::{BackendError, Prune, Retention, Sweep, SweepReport};
use crate::clock::{Clock, Timestamp};
use crate::core::{Core, Stage};
use crate::events::{Event, Fact};
use crate::logging::keys;
use crate::persistence::{PruneTasks, SweepTasks};
use crate::queue::Configure;
use crate::queue::delivery::{Held, ended};
use crate::queue::desk::{Holder, SettleRequest};
use crate::supervise::Life;
use crate::task::{ExecutionStatus, TaskState};
use crate::worker::CancelReason;

/// Tasks of each kind of upkeep in one transaction.
const MOST_PER_SWEEP: usize = 1_000;
/// Tasks pruned in one transaction.
const MOST_PER_PRUNE: usize = 1_000;
/// Time between two looks for what is no longer kept.
const BETWEEN_PRUNES: Duration = Duration::from_secs(30);

/// Something will be due then.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct DueAt(pub(crate) Timestamp);

/// Do a round now.
#[derive(Message)]
#[rtype(result = "Result<(), BackendError>")]
pub(crate) struct SweepNow;

/// The maintenance actor.
pub(crate) struct Maintenance {
    core: Arc<Core>,
    /// When the timer ends, on the clock's growing hand.
    timer: watch::Sender<Duration>,
    timer_runs: bool,
    next_due: Option<Timestamp>,
    waiters: Vec<oneshot::Sender<Result<(), BackendError>>>,
    last_prune: Option<Duration>,
    sweeping: bool,
    again: bool,
    life: Life,
}

impl Maintenance {
    pub(crate) fn new(core: Arc<Core>, life: Life) -> Self {
        Self {
            core,
            timer: watch::Sender::new(Duration::ZERO),
            timer_runs: false,
            next_due: None,
            waiters: Vec::new(),
            last_prune: None,
            sweeping: false,
            again: false,
            life,
        }
    }

    /// Sets the timer. It is one future, which looks again when it is set anew: cancelling one and spawning another for
    /// each message takes time that grows with the square of their number, because actix cleans up after all of them.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let check = self.core.config.check_interval;
        let now = self.core.clock.now();
        let pause = match self.next_due {
            // Never without a pause: a due task that cannot be promoted must not make this loop spin.
            Some(due) => due.since(now).clamp(Duration::from_millis(1), check),
            None => check,
        };
        self.core.alarm.set(now + pause);
        self.timer.send_replace(self.core.clock.elapsed() + pause);
        if std::mem::replace(&mut self.timer_runs, true) {
            return;
        }
        let over = timer(self.core.clock.clone(), self.timer.subscribe());
        ctx.spawn(over.into_actor(self).map(|(), maintenance, ctx| {
            maintenance.timer_runs = false;
            maintenance.round(ctx);
        }));
    }

    /// One round, and the timer for the next.
    fn round(&mut self, ctx: &mut Context<Self>) {
        if self.sweeping {
            self.again = true;
            return;
        }
        self.sweeping = true;
        self.next_due = None;
        self.core.alarm.set(Timestamp::from_micros(i64::MAX));
        let waiters = std::mem::take(&mut self.waiters);
        let core = Arc::clone(&self.core);
        let prune = self.prune_is_due();
        let work = async move {
            let report = sweep(&core).await;
            if prune {
                prune_history(&core).await;
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
                    warn!(maintenance.core.log, "no upkeep this time"; keys::ERROR => %error);
                    None
                }
            };
            // What was announced while the round was under way it may have missed.
            let announced = maintenance.next_due.take();
            maintenance.next_due = found.into_iter().chain(announced).min();
            let answer = report.map(drop);
            for waiter in waiters {
                // Whoever no longer listens needs no answer.
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

    fn prune_is_due(&mut self) -> bool {
        let now = self.core.clock.elapsed();
        let due = self.last_prune.is_none_or(|last| now.saturating_sub(last) >= BETWEEN_PRUNES);
        if due {
            self.last_prune = Some(now);
        }
        due
    }
}

/// Resolves when the time has come that was set last.
async fn timer(clock: Clock, mut set: watch::Receiver<Duration>) {
    loop {
        let left = set.borrow_and_update().saturating_sub(clock.elapsed());
        tokio::select! {
            () = clock.sleep(left) => return,
            // An error means that the actor is gone, and this with it.
            again = set.changed() => if again.is_err() { return },
        }
    }
}

/// One round of upkeep; safe to repeat at any time.
pub(crate) async fn sweep(core: &Arc<Core>) -> Result<SweepReport, BackendError> {
    expire_deliveries(core);
    if core.desk.peek(|g| !g.progress.is_empty()) {
        core.desk.ring();
    }
    if core.wall_jumped() {
        // Leases are wall time: nobody is taken for dead before all had time for a heartbeat by the new time.
        core.lease.missed();
    }
    let healthy = core.lease.healthy_for(core.clock.elapsed());
    let sweep = Sweep {
        now: core.clock.now(),
        node: core.node,
        // After an outage the others get time for a heartbeat first.
        rescue: core.lease.is_safe(core.clock.elapsed(), Duration::ZERO)
            && healthy.is_some_and(|span| span >= core.config.heartbeat()),
        crash_limit: core.config.crash_limit,
        limit: MOST_PER_SWEEP,
        awaited: core.awaited.ids(),
    };
    let now = sweep.now;
    let look = core.looks.begin();
    let report = core.persistence.ask(SweepTasks { sweep }).await?;
    apply(core, &report, now);
    core.queue.poke(Configure { settings: report.queues.clone(), look });
    core.publish_stored(&report.expired).await;
    Ok(report)
}

/// Tells everyone what a round found.
fn apply(core: &Arc<Core>, report: &SweepReport, now: Timestamp) {
    for rescued in &report.rescued {
        core.counters.rescued.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        warn!(core.log, "task rescued from a dead node"; keys::TASK_ID => %rescued.task_id,
            keys::NODE => %rescued.node, keys::STATE => %rescued.state);
        core.events.publish(|| Fact::rescued(rescued, now));
        if rescued.state == TaskState::Dead {
            let fact = Fact::bare(rescued.task_id, &rescued.kind, &rescued.queue, rescued.state, now);
            core.events.publish(|| Event::Dead(fact));
        }
        if rescued.state.is_terminal() {
            core.awaited.ended(rescued.task_id);
        }
    }
    for task_id in &report.expired {
        info!(core.log, "task expired before it started"; keys::TASK_ID => %task_id);
        core.awaited.ended(*task_id);
    }
    for task_id in &report.ended {
        core.awaited.ended(*task_id);
    }
    for task_id in &report.cancel {
        core.crew.cancel(*task_id, &CancelReason::Requested(String::new()));
    }
    let rescued = report.rescued.iter().map(|rescued| &rescued.queue);
    let hints: Vec<_> = report.promoted.iter().chain(rescued).cloned().collect();
    if !hints.is_empty() {
        core.desk.hand_in(|g| g.hints.extend(hints));
    }
}

/// Deliveries whose time has run out count as timed out.
fn expire_deliveries(core: &Core) {
    let now = core.clock.elapsed();
    let in_time = |held: &Held| held.deadline.is_none_or(|deadline| now < deadline);
    if core.deliveries.lock().values().all(in_time) {
        return;
    }
    // In one step: at no time may a claim be in nobody's hands.
    core.desk.hand_in(|g| {
        core.deliveries.lock().retain(|_, held| {
            let keep = in_time(held);
            if !keep {
                g.settles.push(late_delivery(core, held));
            }
            keep
        });
    });
}

fn late_delivery(core: &Core, held: &Held) -> SettleRequest {
    let claimed = &held.claimed;
    let again = claimed.attempt + 1 < claimed.spec.max_attempts;
    let state = if again { TaskState::Pending } else { TaskState::Dead };
    let text = Some("its consumer did not settle it in time".into());
    let now = core.clock.now();
    let settlement = ended(claimed, held.started_at, now, state, ExecutionStatus::Timeout, None, text);
    SettleRequest { settlement, spec: Arc::clone(&claimed.spec), holder: Holder::Delivery(None) }
}

/// Deletes what the retention rules do not keep, in small transactions.
pub(crate) async fn prune_history(core: &Core) {
    let now = core.clock.now();
    let rule = |keep: &crate::config::Keep| Retention {
        state: keep.state,
        finished_before: keep.age.map(|age| now - age),
        keep: keep.count,
    };
    let rules: Vec<_> = core.config.retention.iter().map(rule).collect();
    while core.stage() == Stage::Running {
        let prune = Prune { rules: rules.clone(), limit: MOST_PER_PRUNE };
        match core.persistence.ask(PruneTasks { prune }).await {
            Ok(pruned) => {
                core.forget_logs(&pruned.tasks);
                if !pruned.more {
                    break;
                }
            }
            Err(error) => {
                warn!(core.log, "history was not pruned"; keys::ERROR => %error);
                break;
            }
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
crate::supervise::crash_on_request!(Maintenance);
