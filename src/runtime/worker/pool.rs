//! All workers of a board: their threads, their slots and their present runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Addr};
use actix_rt::Arbiter;
use parking_lot::Mutex;

use super::{BlockingPool, CancelReason, Context, Dismiss, Worker};
use crate::actor::{Liveness, Part};
use crate::backend::Claimed;
use crate::clock::Clock;
use crate::name::Name;
use crate::runtime::core::Core;
use crate::runtime::queue::ready::wake;
use crate::task::{ClaimToken, TaskId};

/// The claim or the run that a worker holds, visible from outside. A slot outlives its worker.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Hand>);

#[derive(Default)]
enum Hand {
    #[default]
    Empty,
    /// Taken from the ready queue, but not begun.
    Taken(TaskId, ClaimToken),
    Running(Context),
    /// The run is settled but its thread goes on, so its place in the lane is not free yet.
    Outlasted(Context),
}

impl Slot {
    pub(crate) fn taken(&self, claimed: &Claimed) {
        *self.0.lock() = Hand::Taken(claimed.spec.task_id, claimed.token);
    }

    pub(crate) fn set(&self, context: Context) {
        *self.0.lock() = Hand::Running(context);
    }

    pub(crate) fn outlasted(&self, context: Context) {
        *self.0.lock() = Hand::Outlasted(context);
    }

    pub(crate) fn clear(&self) {
        *self.0.lock() = Hand::Empty;
    }

    fn claim(&self) -> Option<(TaskId, ClaimToken)> {
        match &*self.0.lock() {
            Hand::Empty => None,
            Hand::Taken(task_id, token) => Some((*task_id, *token)),
            Hand::Running(context) | Hand::Outlasted(context) => Some((context.task_id(), context.claimed().token)),
        }
    }

    pub(crate) fn context(&self) -> Option<Context> {
        match &*self.0.lock() {
            Hand::Running(context) => Some(context.clone()),
            Hand::Empty | Hand::Taken(..) | Hand::Outlasted(_) => None,
        }
    }

    /// The run that is settled while its thread goes on.
    pub(crate) fn outlasting(&self) -> Option<Context> {
        match &*self.0.lock() {
            Hand::Outlasted(context) => Some(context.clone()),
            Hand::Empty | Hand::Taken(..) | Hand::Running(_) => None,
        }
    }
}

struct Member {
    slot: Arc<Slot>,
    worker: Addr<Worker>,
}

/// A thread that hosts workers, and its liveness.
struct PoolThread {
    arbiter: Arbiter,
    pulse: Arc<Liveness>,
}

/// The workers of each lane, and the threads that they are spread over.
pub(crate) struct WorkerPool {
    lanes: HashMap<Name, Mutex<Vec<Member>>>,
    threads: Mutex<Vec<PoolThread>>,
    next: AtomicUsize,
    blocking: BlockingPool,
}

impl WorkerPool {
    pub(crate) fn new(queues: impl Iterator<Item = Name>, blocking_threads: usize) -> Self {
        Self {
            lanes: queues.map(|name| (name, Mutex::default())).collect(),
            threads: Mutex::default(),
            next: AtomicUsize::new(0),
            blocking: BlockingPool::new("callboard-blocking", blocking_threads),
        }
    }

    pub(crate) fn blocking(&self) -> &BlockingPool {
        &self.blocking
    }

    /// Starts the threads for workers. Must be called inside an actix system.
    pub(crate) fn start_arbiters(&self, count: usize) {
        let mut threads = self.threads.lock();
        while threads.len() < count {
            threads.push(PoolThread { arbiter: Arbiter::new(), pulse: Arc::default() });
        }
    }

    /// Pings each thread that has answered its last ping. A thread that a handler blocks does not answer.
    pub(crate) fn call_roll(&self, clock: &Clock) {
        for thread in self.threads.lock().iter().filter(|thread| thread.pulse.ask()) {
            let (pulse, clock) = (Arc::clone(&thread.pulse), clock.clone());
            thread.arbiter.spawn_fn(move || pulse.tick(&clock));
        }
    }

    /// The time since the last answer of the thread that has been silent longest.
    pub(crate) fn tick_age(&self, clock: &Clock) -> Option<Duration> {
        self.threads.lock().iter().filter_map(|thread| thread.pulse.age(clock)).max()
    }

    /// Makes sure that a lane has at least `wanted` workers.
    pub(crate) fn ensure(&self, core: &Arc<Core>, lane: &str, wanted: usize) {
        let Some(members) = self.lanes.get(lane) else { return };
        let mut members = members.lock();
        while members.len() < wanted {
            let slot = Arc::new(Slot::default());
            let Some(worker) = self.spawn_worker(core, lane, &slot) else { return };
            members.push(Member { slot, worker });
        }
    }

    /// Dismisses idle workers of a lane that has more than `wanted`. Workers that run a task stay until a later call.
    #[allow(
        clippy::mutable_key_type,
        reason = "an address hashes as the actor that it leads to, which never changes"
    )]
    pub(crate) fn dismiss(&self, core: &Core, lane: &str, wanted: usize) {
        let Some((members, ready)) = self.lanes.get(lane).zip(core.ready_queues.get(lane)) else { return };
        let mut members = members.lock();
        let excess = members.len().saturating_sub(wanted);
        if excess == 0 {
            return;
        }
        let gone: HashSet<Addr<Worker>> = ready.dismiss(excess).into_iter().collect();
        // Remove them from the list first, because an ended worker in the list counts as dead.
        members.retain(|member| !gone.contains(&member.worker));
        members.shrink_to(2 * wanted);
        drop(members);
        for worker in gone {
            worker.do_send(Dismiss);
        }
    }

    /// How many workers a lane has.
    #[cfg(test)]
    fn workers(&self, lane: &str) -> usize {
        self.lanes[lane].lock().len()
    }

    fn spawn_worker(&self, core: &Arc<Core>, lane: &str, slot: &Arc<Slot>) -> Option<Addr<Worker>> {
        let threads = self.threads.lock();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let arbiter = &threads.get(turn.checked_rem(threads.len())?)?.arbiter;
        let (core, slot) = (Arc::clone(core), Arc::clone(slot));
        let ready = Arc::clone(core.ready_queues.get(lane)?);
        Some(Worker::start_in_arbiter(&arbiter.handle(), move |_| {
            let life = core.parts.life(Part::Worker);
            Worker::new(core, ready, slot, life)
        }))
    }

    /// True if a worker has died.
    pub(crate) fn has_dead(&self) -> bool {
        self.lanes.values().any(|members| members.lock().iter().any(|member| !member.worker.connected()))
    }

    /// Replaces dead workers, and returns how many it replaced. Must be called inside an actix system.
    pub(crate) fn replace_dead(&self, core: &Arc<Core>) -> usize {
        // A handler may have stopped the arbiter that it ran on.
        for thread in self.threads.lock().iter_mut().filter(|thread| !thread.arbiter.spawn_fn(|| ())) {
            *thread = PoolThread { arbiter: Arbiter::new(), pulse: Arc::default() };
        }
        let mut replaced = 0;
        for (lane, members) in &self.lanes {
            let mut members = members.lock();
            let before = replaced;
            for member in members.iter_mut().filter(|member| !member.worker.connected()) {
                if let Some(worker) = self.spawn_worker(core, lane, &member.slot) {
                    member.worker = worker;
                    replaced += 1;
                }
            }
            if replaced > before
                && let Some(ready) = core.ready_queues.get(lane)
            {
                wake(ready.forget_dead(&core.clock));
            }
        }
        replaced
    }

    /// The claims that the workers of a lane hold.
    pub(crate) fn claims(&self, lane: &str) -> Vec<(TaskId, ClaimToken)> {
        let of =
            |members: &Mutex<Vec<Member>>| members.lock().iter().filter_map(|member| member.slot.claim()).collect();
        self.lanes.get(lane).map_or_else(Vec::new, of)
    }

    /// Asks the run of a task to end, if it runs here.
    pub(crate) fn cancel(&self, task_id: TaskId, reason: &CancelReason) -> bool {
        let hit = self.contexts().find(|cx| cx.task_id() == task_id);
        hit.inspect(|cx| cx.cancel(reason.clone())).is_some()
    }

    /// Asks every run to end.
    pub(crate) fn cancel_all(&self, reason: &CancelReason) {
        self.contexts().for_each(|cx| cx.cancel(reason.clone()));
    }

    fn contexts(&self) -> impl Iterator<Item = Context> {
        let of =
            |members: &Mutex<Vec<Member>>| members.lock().iter().filter_map(|member| member.slot.context()).collect();
        self.lanes.values().flat_map(move |members| -> Vec<Context> { of(members) })
    }

    /// Ends the threads of the workers, with all that still runs on them. The caller joins the returned threads. A job
    /// that waits for a blocking thread never begins: its claim has been given back.
    pub(crate) fn stop(&self) -> Vec<Arbiter> {
        self.blocking.abandon();
        for members in self.lanes.values() {
            members.lock().clear();
        }
        let arbiters: Vec<Arbiter> = self.threads.lock().drain(..).map(|thread| thread.arbiter).collect();
        for arbiter in &arbiters {
            arbiter.stop();
        }
        arbiters
    }

    #[cfg(feature = "testing")]
    pub(crate) fn crash_one(&self) -> bool {
        let worker =
            self.lanes.values().find_map(|members| members.lock().first().map(|member| member.worker.clone()));
        worker.inspect(|worker| worker.do_send(crate::actor::Crash)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Board, NewTask, Outcome, TaskState};

    #[actix_rt::test]
    async fn workers_that_a_smaller_concurrency_does_not_need_are_let_go() {
        let builder = Board::builder().handler("n", |_, _| async { Ok(Outcome::done()) });
        let board = builder.start().await.unwrap();
        let workers = &board.core().workers;
        board.set_concurrency("default", Some(500)).await.unwrap();
        assert_eq!(workers.workers("default"), 500);
        let fewer = async {
            // Workers that are not idle yet are dismissed by a later call.
            while workers.workers("default") > 3 {
                board.set_concurrency("default", Some(3)).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(90), fewer).await.expect("the workers are let go");
        assert!(!workers.has_dead());
        let pushed = board.push_many((0..100).map(|n| NewTask::new("n", &n))).await.unwrap();
        for task in pushed {
            assert_eq!(board.wait(task.task_id).await.unwrap().state, TaskState::Completed);
        }
        board.stop().await;
    }
}
