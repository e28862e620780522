//! The queue: the only actor through which pushes, pops and settlements pass.
//!
//! While a commit is in flight, everything that arrives gathers on the [`inbox`]. When the receipt comes, all of it
//! goes out as the next commit, composed by [`batch`]. There is no batch size to set. Alone, a push costs a single
//! transaction and its task starts at once; under load hundreds of tasks share a transaction. A lone push to a queue at
//! rest takes the fast path, past the actor. Receipts may be delivered past the actor too; see [`fast_path`].
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`Poke`] | the inbox, when work is handed in | none | yes: the next poke, or the next maintenance round, does its work | yes |
//! | [`Configure`] | the board and maintenance, with stored queue settings and limits | none | yes: sent again with every sweep | yes, and the result of an older look is ignored |
//! | [`AwaitIdle`] | the board, to drain a queue or to stop | when nothing of the queue runs here | yes: the answer then says so | yes |

pub(crate) mod batch;
mod deferred;
pub(crate) mod delivery;
mod demand;
pub(crate) mod epoch;
pub(crate) mod fast_path;
pub(crate) mod inbox;
pub(crate) mod lanes;
mod limited;
mod messages;
pub(crate) mod progress;
pub(crate) mod pullers;
pub(crate) mod push;
pub(crate) mod push_result;
pub(crate) mod ready;
mod receipt;
mod recover;
mod reports;
mod retry;
pub(crate) mod settings;
#[cfg(feature = "sql")]
pub(crate) mod transaction;
pub(crate) mod uncertain;
mod unstorable;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler};
use tokio::sync::oneshot;

use self::batch::{Batch, compose, compose_alone};
use self::epoch::Epoch;
use self::fast_path::{Hold, rules};
use self::inbox::Returned;
use self::lanes::{Lane, Lanes};
pub use self::messages::Pushed;
pub(crate) use self::messages::{AwaitIdle, Poke};
pub(crate) use self::settings::Configure;
use self::settings::Look;
use crate::actor::Supervised;
use crate::runtime::core::{Core, Stage};

/// The queue actor.
pub(crate) struct Queue {
    core: Arc<Core>,
    /// The look at stored settings that last configured the lanes.
    configured: Look,
    backing_off: bool,
    failures: u32,
    /// Storage may hold claims for this node that the node does not know of.
    reconcile: bool,
    reconciling: bool,
    /// The monotonic time until which a commit whose answer was lost may still arrive. `looks_again` is true while the
    /// next look for its claims waits for the end of a pause.
    doubtful_until: Duration,
    looks_again: bool,
    /// The monotonic time at which the actor looks for deferred batches again.
    asks_at: Option<Duration>,
    /// The last commit was a deferred batch. The next commit takes the gathered work, so that many deferred batches do
    /// not starve it.
    deferred_was_last: bool,
    /// `lingering`: ends of runs wait for other work to share their commit. `lingered`: their time is up.
    lingering: bool,
    lingered: bool,
    life: Supervised,
}

/// How long a few ends of runs wait for other work to share their commit.
const LINGER: Duration = Duration::from_millis(1);
/// More ends of runs than this are worth a commit of their own.
const MOST_LINGERING: usize = 16;

/// Rounds of commits to a backend that never blocks, before other messages get their turn.
const ROUNDS_PER_TURN: usize = 32;

impl Queue {
    pub(crate) fn new(core: Arc<Core>, life: Supervised) -> Self {
        core.lanes.renew(|old| recover::lanes(&core, old));
        Self {
            core,
            configured: Look::default(),
            backing_off: false,
            failures: 0,
            reconcile: true,
            reconciling: false,
            doubtful_until: Duration::ZERO,
            looks_again: false,
            asks_at: None,
            deferred_was_last: false,
            lingering: false,
            lingered: false,
            life,
        }
    }

    /// Handles returned commits, then sends the gathered work.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        let core = Arc::clone(&self.core);
        let mut lanes = core.lanes.lock();
        for _ in 0..ROUNDS_PER_TURN {
            let returned = core.inbox.take_returned();
            lanes.in_flight = lanes.in_flight.saturating_sub(returned.len());
            core.persistence.taken_back(returned.len());
            for returned in returned {
                self.take_back(&mut lanes, returned, ctx);
            }
            if self.reconcile && lanes.in_flight == 0 && !self.reconciling && !self.backing_off {
                self.start_reconcile(ctx);
            }
            // A backend that is called directly has returned the batch already, so the loop goes on.
            if !self.send(&mut lanes, ctx) || !core.persistence.is_direct() {
                self.release(lanes);
                return;
            }
        }
        self.release(lanes);
        ctx.notify(Poke);
    }

    fn release(&self, mut lanes: Hold<'_>) {
        lanes.iter_mut().for_each(|lane| lane.tell_idle(|lane| is_busy(&self.core, lane)));
        let sent = self.core.inbox.again().is_empty();
        lanes.release(sent && !self.reconcile && !self.reconciling && !self.backing_off && self.failures == 0);
    }

    /// Sends the next commit, if storage has room for it and there is work to commit. True when a commit was sent.
    fn send(&mut self, lanes: &mut Lanes, ctx: &mut Context<Self>) -> bool {
        if self.reconcile || self.backing_off || lanes.in_flight >= self.core.persistence.commits_at_once() {
            return false;
        }
        let Some(batch) = self.next_batch(lanes, ctx) else {
            // Deferred batches are not stored yet.
            if lanes.in_flight == 0 && !self.lingering && self.core.inbox.again().is_empty() {
                // All is stored now. Dropping the senders makes the watchers ask again.
                lanes.quiet_watchers.clear();
            }
            return false;
        };
        if self.core.persistence.is_direct() {
            let result = self.core.persistence.commit_here(&batch.commit);
            self.take_back(lanes, Returned::Batch(batch, result), ctx);
        } else {
            lanes.in_flight += 1;
            self.core.persistence.commit(batch, &self.core);
        }
        true
    }

    /// True when only a few ends of runs have gathered, no caller awaits them, and the lanes have room to spare. Such
    /// ends wait a moment. Otherwise the next push would have to wait behind their commit; now it shares a commit with
    /// them.
    fn may_linger(&self, lanes: &Lanes) -> bool {
        !self.core.persistence.is_direct()
            && self.core.stage() == Stage::Running
            && lanes.iter().all(|lane| lane.room() > lane.concurrency() / 2 && !lane.work.is_set())
            && self.core.inbox.peek(|g| {
                let quiet =
                    |s: &inbox::SettleRequest| s.holder.is_worker() && !self.core.awaited.is(s.settlement.task_id);
                !g.settles.is_empty()
                    && g.pushes.is_empty()
                    && g.pops.is_empty()
                    && g.hints.is_empty()
                    && !g.hint_all
                    && g.settles.len() <= MOST_LINGERING
                    && g.settles.iter().all(quiet)
            })
    }

    fn linger(&mut self, ctx: &mut Context<Self>) {
        if !self.lingering {
            self.lingering = true;
            ctx.run_later(LINGER, |queue, ctx| {
                queue.lingered = true;
                queue.turn(ctx);
                queue.lingering = false;
                queue.lingered = false;
            });
        }
    }

    fn next_batch(&mut self, lanes: &mut Lanes, ctx: &mut Context<Self>) -> Option<Box<Batch>> {
        let gathered_first = std::mem::take(&mut self.deferred_was_last);
        if let Some(batch) = self.next_again(!gathered_first, ctx) {
            self.core.inbox.listen();
            self.deferred_was_last = batch.tries > 0;
            return Some(batch);
        }
        self.next_of_gathered(lanes, ctx).or_else(|| {
            let batch = if gathered_first { self.next_again(true, ctx) } else { None };
            self.deferred_was_last = batch.is_some();
            batch
        })
    }

    fn next_of_gathered(&mut self, lanes: &mut Lanes, ctx: &mut Context<Self>) -> Option<Box<Batch>> {
        let limits = self.core.limits.lock().clone();
        let alone = compose_alone(lanes, &rules(&self.core, limits.as_ref()));
        // From here on each hand-in must poke this actor, because it may come too late for this batch. `listen` is not
        // called earlier, because each poke costs a message to this actor.
        self.core.inbox.listen();
        if let Some(batch) = alone {
            return Some(Box::new(batch));
        }
        if !self.lingered && self.may_linger(lanes) {
            self.linger(ctx);
            return None;
        }
        let gathered = self.core.inbox.take();
        for returned in gathered.returned {
            // A returned commit cannot be handled while a batch is composed. Its poke is on the way.
            self.core.inbox.give_back(returned);
        }
        let gathered = inbox::Gathered { returned: Vec::new(), ..gathered };
        let batch = compose(lanes, gathered, &rules(&self.core, limits.as_ref()));
        if batch.is_empty() { None } else { Some(Box::new(batch)) }
    }

    fn take_back(&mut self, lanes: &mut Lanes, returned: Returned, ctx: &mut Context<Self>) {
        self.life.tick(&self.core.clock);
        match returned {
            Returned::Delivered => self.recovered(),
            Returned::Batch(batch, Ok(receipt)) => {
                self.recovered();
                receipt::deliver(&self.core, lanes, *batch, receipt);
            }
            Returned::Batch(batch, Err(error)) => self.failed(lanes, batch, error, ctx),
        }
    }
}

impl Actor for Queue {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.life.tick(&self.core.clock);
        self.core.inbox.ring();
        ctx.notify(Poke);
    }
}

impl Handler<Poke> for Queue {
    type Result = ();
    fn handle(&mut self, _: Poke, ctx: &mut Self::Context) {
        self.turn(ctx);
    }
}

impl Handler<Configure> for Queue {
    type Result = ();
    fn handle(&mut self, Configure { settings, limits, look }: Configure, ctx: &mut Self::Context) {
        if look < self.configured {
            return;
        }
        self.configured = look;
        let core = Arc::clone(&self.core);
        let mut lanes = core.lanes.lock();
        core.settings.lock().clone_from(&settings);
        lanes.apply(settings);
        limited::obey(&core, &mut lanes, limits);
        for lane in lanes.iter().filter(|lane| core.ready_queues.contains_key(&lane.name)) {
            core.workers.ensure(&core, &lane.name, lane.concurrency());
            core.workers.dismiss(&core, &lane.name, lane.concurrency());
        }
        self.release(lanes);
        self.life.tick(&self.core.clock);
        self.turn(ctx);
    }
}

impl Handler<AwaitIdle> for Queue {
    type Result = actix::MessageResult<AwaitIdle>;
    fn handle(&mut self, AwaitIdle(name): AwaitIdle, _: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        // A caller that asks for all queues is about to stop the board. A push that is sent after this answer would
        // lose its own answer.
        let core = Arc::clone(&self.core);
        let mut lanes = core.lanes.lock();
        if core.stage() > Stage::Running {
            // Pullers get nothing more. They are told by dropping their senders.
            lanes.iter_mut().for_each(|lane| lane.pullers.clear());
        }
        // A lane that is only pulled from may be forgotten while a delivery still holds a task of it.
        for queue in core.delivered_queues() {
            lanes.get_or_make(&queue);
        }
        // Of several busy lanes only the first is watched. A caller that asks for all queues asks again when that lane
        // is idle.
        let quiet = lanes.in_flight == 0
            && core.inbox.again().is_empty()
            && core.inbox.peek(|g| g.settles.is_empty() && g.pushes.is_empty());
        let asked = |lane: &Lane| name.as_ref().is_none_or(|name| *name == lane.name);
        let place = lanes.iter().position(|lane| asked(lane) && is_busy(&core, lane));
        match place {
            Some(index) => lanes.at(index).idle_watchers.push(tell),
            // The last ends of the lane's runs may still be in flight. Only the commits sent by now are waited for,
            // because a node under load always has a commit in flight.
            None if name.is_some() => Epoch::end(&mut lanes.epoch, tell),
            None if quiet => drop(tell.send(())),
            None => lanes.quiet_watchers.push(tell),
        }
        self.release(lanes);
        actix::MessageResult(told)
    }
}

/// True while a task of the lane runs here, or its end has not been sent to storage.
fn is_busy(core: &Core, lane: &Lane) -> bool {
    lane.outstanding > 0
        || lane.popping > 0
        || core.delivers(&lane.name)
        || core.inbox.peek(|g| g.settles.iter().any(|settle| settle.spec.queue == lane.name))
}

#[cfg(feature = "testing")]
crate::actor::crash_on_request!(Queue);
