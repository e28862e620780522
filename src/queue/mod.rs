//! The queue: the one actor through which pushes, pops and settlements pass.
//!
//! While a commit is in flight everything that arrives gathers on the [`desk`]; when the receipt comes, all of it goes
//! out as the next commit, composed by [`batch`]. There is no batch size to set: alone, a push costs one transaction
//! and starts at once; under load hundreds of tasks share one.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`Poke`] | the desk, when something is handed in | none | yes: the next one, or the next round of upkeep, does its work | yes |
//! | [`Configure`] | the board and maintenance, with stored queue settings and limits | none | yes: sent again with every sweep | yes, and what an older look found is ignored |
//! | [`AwaitIdle`] | the board, to drain a queue or to stop | when nothing of it runs here | yes: the answer then says so | yes |

pub(crate) mod answer;
pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod delivery;
pub(crate) mod desk;
pub(crate) mod doubt;
pub(crate) mod lanes;
mod limited;
mod receipt;
mod retry;
pub(crate) mod settings;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use self::batch::{Batch, Rules, compose};
use self::desk::Returned;
use self::lanes::Lanes;
pub(crate) use self::settings::Configure;
use self::settings::Look;
use crate::core::{Core, Stage};
use crate::name::Name;
use crate::supervise::Life;
use crate::task::{TaskId, TaskState};

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pushed {
    /// The task: the new one, or the one that was there.
    pub task_id: TaskId,
    /// True when a task with this id or unique key was there already.
    pub duplicate: bool,
    /// Where the task stands.
    pub state: TaskState,
}

/// Something was handed in at the desk.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Poke;

/// Answers when nothing of the queue, or of all queues, runs on this node.
#[derive(Message)]
#[rtype(result = "oneshot::Receiver<()>")]
pub(crate) struct AwaitIdle(pub(crate) Option<Name>);

/// The queue actor.
pub(crate) struct Queue {
    core: Arc<Core>,
    lanes: Lanes,
    /// The look that the lanes were configured by.
    configured: Look,
    /// Commits that storage has, or will give back after a pause.
    in_flight: usize,
    backing_off: bool,
    failures: u32,
    /// Claims may exist in storage that nobody here knows of.
    reconcile: bool,
    reconciling: bool,
    /// Until when, on the clock's growing hand, a commit whose answer was lost may yet arrive; and whether it is looked
    /// for after a pause.
    doubtful_until: Duration,
    looks_again: bool,
    /// Ends of runs wait for company; and their time is up.
    lingering: bool,
    lingered: bool,
    life: Life,
}

/// How long ends of runs wait for company.
const LINGER: Duration = Duration::from_millis(1);
/// As many ends of runs are worth a commit of their own.
const MOST_LINGERING: usize = 16;

/// Rounds of commits against a backend that never blocks before other messages get their turn.
const ROUNDS_PER_TURN: usize = 32;

impl Queue {
    pub(crate) fn new(core: Arc<Core>, life: Life) -> Self {
        let queues = core.config.queues.iter();
        let lanes = Lanes::new(queues.map(|(name, n)| (name.clone(), *n, Arc::clone(&core.benches[name]))));
        let in_flight = core.persistence.commits_in_flight();
        let mut queue = Self {
            core,
            lanes,
            configured: Look::default(),
            in_flight,
            backing_off: false,
            failures: 0,
            reconcile: true,
            reconciling: false,
            doubtful_until: Duration::ZERO,
            looks_again: false,
            lingering: false,
            lingered: false,
            life,
        };
        queue.count_outstanding();
        queue
    }

    /// After a restart: what runs is known by the workers and benches, not by the actor that died.
    fn count_outstanding(&mut self) {
        for lane in self.lanes.iter_mut() {
            // In the order in which a claim moves, and by id, so that one on its way counts once.
            let mut claims: HashSet<_> = lane.bench.waiting().into_iter().collect();
            claims.extend(self.core.crew.claims(&lane.name));
            self.core.desk.peek(|g| {
                let of_lane = g.settles.iter().filter(|s| s.spec.queue == lane.name && s.holder.is_worker());
                claims.extend(of_lane.map(|s| (s.settlement.task_id, s.settlement.token)));
            });
            lane.outstanding = claims.len();
        }
    }

    /// Takes what came back, and sends what has gathered.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        for _ in 0..ROUNDS_PER_TURN {
            for returned in self.core.desk.take_returned() {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.take_back(returned, ctx);
            }
            if self.reconcile && self.in_flight == 0 && !self.reconciling && !self.backing_off {
                self.start_reconcile(ctx);
            }
            // A backend that is called directly has given the batch back by now.
            if !self.send(ctx) || !self.core.persistence.is_direct() {
                return;
            }
        }
        ctx.notify(Poke);
    }

    /// Sends the next commit, if storage has room for it and there is something in it.
    fn send(&mut self, ctx: &mut Context<Self>) -> bool {
        if self.reconcile || self.backing_off || self.in_flight >= self.core.persistence.commits_at_once() {
            return false;
        }
        let Some(batch) = self.next_batch(ctx) else {
            if self.in_flight == 0 && !self.lingering {
                let core = &self.core;
                self.lanes.iter_mut().for_each(|lane| lane.tell_idle(|queue| core.delivers(queue)));
            }
            return false;
        };
        self.in_flight += 1;
        self.core.persistence.commit(batch, &self.core);
        true
    }

    /// True when all that has gathered are a few ends of runs that nobody waits for: they keep a moment, so that the
    /// next push need not wait behind a commit of theirs, and shares one with them instead.
    fn may_linger(&self) -> bool {
        !self.core.persistence.is_direct()
            && self.core.stage() == Stage::Running
            && self.lanes.iter().all(|lane| lane.room() > lane.concurrency() / 2 && !lane.work.is_set())
            && self.core.desk.peek(|g| {
                let quiet =
                    |s: &desk::SettleRequest| s.holder.is_worker() && !self.core.awaited.is(s.settlement.task_id);
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

    fn next_batch(&mut self, ctx: &mut Context<Self>) -> Option<Box<Batch>> {
        if let Some(batch) = self.core.desk.again().take() {
            return Some(batch);
        }
        // From here on whoever hands something in must say so: it may come too late for this batch.
        self.core.desk.listen();
        if !self.lingered && self.may_linger() {
            self.linger(ctx);
            return None;
        }
        let gathered = self.core.desk.take();
        for returned in gathered.returned {
            // Cannot be handled in the middle of composing; its poke is on the way.
            self.core.desk.give_back(returned);
        }
        let gathered = desk::Gathered { returned: Vec::new(), ..gathered };
        let limits = self.core.limits.lock().clone();
        let rules = Rules {
            node: self.core.node,
            now: self.core.clock.now(),
            may_claim: self.core.may_claim(),
            types: self.core.registry.types(),
            limits: limits.as_ref(),
        };
        let batch = compose(&mut self.lanes, gathered, &rules);
        if batch.is_empty() { None } else { Some(Box::new(batch)) }
    }

    fn take_back(&mut self, returned: Returned, ctx: &mut Context<Self>) {
        let Returned { batch, result } = returned;
        self.life.tick(&self.core.clock);
        match result {
            Ok(receipt) => {
                self.failures = 0;
                receipt::deliver(&self.core, &mut self.lanes, *batch, receipt);
            }
            Err(error) => self.failed(batch, error, ctx),
        }
    }
}

impl Actor for Queue {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.life.tick(&self.core.clock);
        self.core.desk.ring();
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
        self.lanes.apply(&settings);
        self.obey(limits);
        for lane in self.lanes.iter() {
            if self.core.benches.contains_key(&lane.name) {
                self.core.crew.ensure(&self.core, &lane.name, lane.concurrency());
            }
        }
        self.life.tick(&self.core.clock);
        self.turn(ctx);
    }
}

impl Handler<AwaitIdle> for Queue {
    type Result = actix::MessageResult<AwaitIdle>;
    fn handle(&mut self, AwaitIdle(name): AwaitIdle, _: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        // Whoever asks for all queues is about to stop: a push that is sent after the answer would lose its own.
        let all = name.is_none();
        let quiet = self.in_flight == 0
            && self.core.desk.again().is_none()
            && self.core.desk.peek(|g| g.settles.is_empty() && (!all || g.pushes.is_empty()));
        if self.core.stage() > Stage::Running {
            // Who pulls gets nothing more; told by dropping their senders.
            self.lanes.iter_mut().for_each(|lane| lane.poppers.clear());
        }
        let core = &self.core;
        // Of several busy lanes one is watched; whoever asks for all asks again when it has become idle.
        let mut of_name = self.lanes.iter_mut().filter(|lane| name.as_ref().is_none_or(|name| *name == lane.name));
        match of_name.find(|lane| lane.outstanding > 0 || core.delivers(&lane.name) || !quiet) {
            None => drop(tell.send(())),
            Some(lane) => lane.idle_watchers.push(tell),
        }
        actix::MessageResult(told)
    }
}

#[cfg(feature = "testing")]
crate::supervise::crash_on_request!(Queue);
