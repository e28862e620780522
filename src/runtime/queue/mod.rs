//! The queue: the one actor through which pushes, pops and settlements pass.
//!
//! While a commit is in flight everything that arrives gathers on the [`inbox`]; when the receipt comes, all of it goes
//! out as the next commit, composed by [`batch`]. There is no batch size to set: alone, a push costs one transaction
//! and starts at once; under load hundreds of tasks share one. A lone push to a queue at rest is sent past
//! the actor, and receipts may be told past it; see [`shared`].
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`Poke`] | the inbox, when something is handed in | none | yes: the next one, or the next round of upkeep, does its work | yes |
//! | [`Configure`] | the board and maintenance, with stored queue settings and limits | none | yes: sent again with every sweep | yes, and what an older look found is ignored |
//! | [`AwaitIdle`] | the board, to drain a queue or to stop | when nothing of it runs here | yes: the answer then says so | yes |

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
    /// The look that the lanes were configured by.
    configured: Look,
    backing_off: bool,
    failures: u32,
    /// Claims may exist in storage that nobody here knows of.
    reconcile: bool,
    reconciling: bool,
    /// Until when, on the clock's growing hand, a commit whose answer was lost may yet arrive; and whether it is looked
    /// for after a pause.
    doubtful_until: Duration,
    looks_again: bool,
    /// When it looks for what storage has set aside, on the clock's growing hand.
    asks_at: Option<Duration>,
    /// The last commit was one that had been set aside: the next one is of what has gathered, so that many of them stop nothing.
    aside_was_last: bool,
    /// Ends of runs wait for company; and their time is up.
    lingering: bool,
    lingered: bool,
    life: Supervised,
}

/// How long ends of runs wait for company.
const LINGER: Duration = Duration::from_millis(1);
/// As many ends of runs are worth a commit of their own.
const MOST_LINGERING: usize = 16;

/// Rounds of commits against a backend that never blocks before other messages get their turn.
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
            aside_was_last: false,
            lingering: false,
            lingered: false,
            life,
        }
    }

    /// Takes what came back, and sends what has gathered.
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
            // A backend that is called directly has given the batch back by now.
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

    /// Sends the next commit, if storage has room for it and there is something in it.
    fn send(&mut self, lanes: &mut Lanes, ctx: &mut Context<Self>) -> bool {
        if self.reconcile || self.backing_off || lanes.in_flight >= self.core.persistence.commits_at_once() {
            return false;
        }
        let Some(batch) = self.next_batch(lanes, ctx) else {
            // What storage has set aside is not stored yet.
            if lanes.in_flight == 0 && !self.lingering && self.core.inbox.again().is_empty() {
                // They ask again, now that all is stored. By dropping the senders.
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

    /// True when all that has gathered are a few ends of runs that nobody waits for: they keep a moment, so that the
    /// next push need not wait behind a commit of theirs, and shares one with them instead.
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
        let gathered_first = std::mem::take(&mut self.aside_was_last);
        if let Some(batch) = self.next_again(!gathered_first, ctx) {
            self.core.inbox.listen();
            self.aside_was_last = batch.tries > 0;
            return Some(batch);
        }
        self.next_of_gathered(lanes, ctx).or_else(|| {
            let batch = if gathered_first { self.next_again(true, ctx) } else { None };
            self.aside_was_last = batch.is_some();
            batch
        })
    }

    fn next_of_gathered(&mut self, lanes: &mut Lanes, ctx: &mut Context<Self>) -> Option<Box<Batch>> {
        let limits = self.core.limits.lock().clone();
        let alone = compose_alone(lanes, &rules(&self.core, limits.as_ref()));
        // From here on whoever hands something in must say so: it may come too late for this batch. Not earlier: each of
        // them costs a message to this actor.
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
            // Cannot be handled in the middle of composing; its poke is on the way.
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
        // Whoever asks for all queues is about to stop: a push that is sent after the answer would lose its own.
        let core = Arc::clone(&self.core);
        let mut lanes = core.lanes.lock();
        if core.stage() > Stage::Running {
            // Who pulls gets nothing more; told by dropping their senders.
            lanes.iter_mut().for_each(|lane| lane.pullers.clear());
        }
        // A lane that is only pulled from may be forgotten while somebody has a task of it.
        for queue in core.delivered_queues() {
            lanes.get_or_make(&queue);
        }
        // Of several busy lanes one is watched; whoever asks for all asks again when it has become idle.
        let quiet = lanes.in_flight == 0
            && core.inbox.again().is_empty()
            && core.inbox.peek(|g| g.settles.is_empty() && g.pushes.is_empty());
        let asked = |lane: &Lane| name.as_ref().is_none_or(|name| *name == lane.name);
        let place = lanes.iter().position(|lane| asked(lane) && is_busy(&core, lane));
        match place {
            Some(index) => lanes.at(index).idle_watchers.push(tell),
            // The last ends of its runs may be on their way. A node under load is never without a commit, so only those
            // that are sent by now are waited for.
            None if name.is_some() => Epoch::end(&mut lanes.epoch, tell),
            None if quiet => drop(tell.send(())),
            None => lanes.quiet_watchers.push(tell),
        }
        self.release(lanes);
        actix::MessageResult(told)
    }
}

/// True while something of the lane runs here, or its end has not been sent to storage.
fn is_busy(core: &Core, lane: &Lane) -> bool {
    lane.outstanding > 0
        || lane.popping > 0
        || core.delivers(&lane.name)
        || core.inbox.peek(|g| g.settles.iter().any(|settle| settle.spec.queue == lane.name))
}

#[cfg(feature = "testing")]
crate::actor::crash_on_request!(Queue);
