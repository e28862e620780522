//! [`Core`]: the state that all parts of a board share.

mod alarm;
mod awaited;
mod counters;
mod lease;
mod stage;
pub(crate) mod stale;
mod throttled;
mod unrun;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use actix_rt::ArbiterHandle;
use futures_util::FutureExt;
use parking_lot::Mutex;
use slog::Logger;
use tokio::sync::{oneshot, watch};

pub(crate) use self::alarm::Alarm;
pub(crate) use self::awaited::Awaited;
pub(crate) use self::counters::Counters;
pub(crate) use self::lease::Lease;
pub use self::stage::Stage;
pub(crate) use self::throttled::ThrottledQueues;
pub(crate) use self::unrun::{CodeSchedule, Unrun};
pub use self::unrun::{UnrunReason, UnrunTasks};
use crate::actor::{Part, RestartableAddr};
use crate::backend::{Backend, Claimed, Limits, QueueSettings};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::logging::guarded::Guarded;
use crate::name::Name;
use crate::runtime::events::{Events, Fact};
use crate::runtime::maintenance::Maintenance;
use crate::runtime::persistence::{GetTask, Persistence};
use crate::runtime::queue::delivery::{Held, released, tokens};
use crate::runtime::queue::fast_path::SharedLanes;
use crate::runtime::queue::inbox::{Holder, Inbox, SettleRequest};
use crate::runtime::queue::ready::ReadyQueue;
use crate::runtime::queue::settings::Looks;
use crate::runtime::queue::{Poke, Queue};
use crate::runtime::scheduler::{DueList, Scheduler};
use crate::runtime::supervise::{Guardian, Parts};
use crate::runtime::worker::{BlockingPool, CancelReason, Registry, WorkerPool};
use crate::store::{Kept, Store, StoreHandle};
use crate::task::{ClaimToken, NodeId, TaskId};

/// Check intervals between two looks at storage, where storage itself notifies this node of changes by other nodes.
const RARELY: u32 = 4;

/// The shared state of a board; every actor, thread and handle holds it.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) log: Logger,
    /// The application's logger. `log` writes to it.
    pub(crate) app_log: Guarded,
    pub(crate) node: NodeId,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) registry: Registry,
    pub(crate) data: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    pub(crate) inbox: Inbox,
    pub(crate) lanes: SharedLanes,
    pub(crate) ready_queues: HashMap<Name, Arc<ReadyQueue>>,
    pub(crate) workers: WorkerPool,
    /// A thread for work that blocks on the disk and belongs to no task.
    pub(crate) chores: BlockingPool,
    pub(crate) persistence: Persistence,
    pub(crate) events: Arc<Events>,
    pub(crate) store: StoreHandle,
    pub(crate) store_line: RestartableAddr<Store>,
    pub(crate) kept: Arc<Mutex<Kept>>,
    pub(crate) queue: RestartableAddr<Queue>,
    pub(crate) maintenance: RestartableAddr<Maintenance>,
    pub(crate) scheduler: RestartableAddr<Scheduler>,
    pub(crate) due_list: DueList,
    pub(crate) guardian: RestartableAddr<Guardian>,
    pub(crate) parts: Parts,
    /// The arbiter of the core actors.
    pub(crate) home: OnceLock<ArbiterHandle>,
    pub(crate) lease: Lease,
    pub(crate) alarm: Alarm,
    pub(crate) deliveries: Mutex<HashMap<TaskId, Held>>,
    pub(crate) awaited: Awaited,
    pub(crate) counters: Counters,
    pub(crate) looks: Looks,
    pub(crate) throttled: ThrottledQueues,
    /// Tasks that no live node runs, and the schedules defined in code that make such tasks.
    pub(crate) unrun: Unrun,
    /// The stored settings of the queues. Read before the first claim, and then in each maintenance round.
    pub(crate) settings: Mutex<Vec<QueueSettings>>,
    /// The limits that this node knows. Read before the first claim, and then in each maintenance round.
    pub(crate) limits: Mutex<Option<Arc<Limits>>>,
    pub(crate) stage: watch::Sender<Stage>,
    /// Wall time and monotonic time at the last maintenance round.
    pub(crate) hands: Mutex<Option<(Timestamp, Duration)>>,
    /// The arbiter that carries events. Callbacks may be slow there.
    pub(crate) events_home: OnceLock<ArbiterHandle>,
    pub(crate) task_logs: Option<crate::runtime::worker::log::TaskLogs>,
}

impl Core {
    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// False once the board has given up its storage. Work in flight then fails for this reason, so its errors need no
    /// report.
    pub(crate) fn has_storage(&self) -> bool {
        self.stage() < Stage::Stopped
    }

    /// Resolves when the board begins to stop, or has given up.
    pub(crate) async fn stopping(&self) {
        // An error means that the board itself no longer exists.
        self.stage.subscribe().wait_for(|stage| *stage >= Stage::Stopping).await.ok();
    }

    /// False when the arbiter of the core actors has ended. Only a stop of the board's own actix system ends it.
    pub(crate) fn has_threads(&self) -> bool {
        self.home.get().is_some_and(|home| home.spawn_fn(|| ()))
    }

    /// Gives the board up: it accepts nothing more, and no caller waits for an answer that cannot come. Returns true
    /// when the stage changed, and false for a board that had already stopped or failed.
    pub(crate) fn fail(&self) -> bool {
        // Close the inbox first: once the board is seen to have failed, no push may get through.
        self.inbox.close();
        // A stop may have finished meanwhile. Then the board has stopped, and nothing failed.
        if !Stage::move_on(&self.stage, Stage::Failed) {
            return false;
        }
        self.turn_everyone_away();
        true
    }

    /// Answers all waiting callers: the board has stopped or failed.
    pub(crate) fn turn_everyone_away(&self) {
        self.inbox.turn_away();
        self.awaited.close();
        self.lanes.let_go();
    }

    /// True when the lease has run out, so that a different node may have taken the claims of this node. Always false where
    /// no other node can: on a backend inside of this process.
    pub(crate) fn lease_has_lapsed(&self) -> bool {
        !self.persistence.is_direct() && !self.lease.is_safe(self.clock.elapsed(), Duration::ZERO)
    }

    /// True when the board runs and its lease covers a claim made now until the task begins to run.
    pub(crate) fn may_claim(&self) -> bool {
        self.stage() == Stage::Running && self.lease.is_safe(self.clock.elapsed(), self.config.lease / 5)
    }

    /// True when wall time and monotonic time have moved by different spans since the last call: the clock was set, or
    /// the machine slept. Differences up to a heartbeat period are ignored.
    pub(crate) fn wall_jumped(&self) -> bool {
        let (wall, elapsed) = (self.clock.now(), self.clock.elapsed());
        let last = self.hands.lock().replace((wall, elapsed));
        last.is_some_and(|(last_wall, last_elapsed)| {
            let expected = last_wall + elapsed.saturating_sub(last_elapsed);
            wall.since(expected).max(expected.since(wall)) > self.config.heartbeat()
        })
    }

    /// Gives a claim back unused, through the inbox.
    pub(crate) fn give_back(&self, claimed: Claimed, holder: Holder) {
        let settlement = released(&claimed);
        let spec = claimed.spec;
        self.inbox.hand_in(|g| g.settles.push(SettleRequest { settlement, spec, holder }));
    }

    /// True when a delivery on this node holds a task of this queue.
    pub(crate) fn delivers(&self, queue: &str) -> bool {
        self.deliveries.lock().values().any(|held| held.claimed.spec.queue == *queue)
    }

    /// The queues of all tasks that deliveries on this node hold.
    pub(crate) fn delivered_queues(&self) -> Vec<Name> {
        let queue = |held: &Held| held.claimed.spec.queue.clone();
        self.deliveries.lock().values().map(queue).collect()
    }

    /// Ends the hold of a delivery on its claim; false when it no longer had a hold.
    pub(crate) fn forget_delivery(&self, task_id: TaskId, token: ClaimToken) -> bool {
        let mut held = self.deliveries.lock();
        match held.get(&task_id) {
            Some(entry) if entry.claimed.token == token => held.remove(&task_id).is_some(),
            _ => false,
        }
    }

    /// Asks the run of a task to end, if a worker or a delivery on this node has the task.
    pub(crate) fn cancel_run(&self, task_id: TaskId, reason: &CancelReason) {
        if self.workers.cancel(task_id, reason) {
            return;
        }
        let grace = self.config.cancel_grace;
        let end = self.clock.elapsed().saturating_add(grace);
        if self.deliveries.lock().get_mut(&task_id).is_some_and(|held| held.cancel(reason, end)) {
            self.due_at(self.clock.now() + grace);
        }
    }

    /// Tells every worker and delivery with a task on this node that the board stops.
    pub(crate) fn cancel_all(&self) {
        self.workers.cancel_all(&CancelReason::Shutdown);
        let delivered: Vec<_> = self.deliveries.lock().values().map(|held| Arc::clone(&held.cancel)).collect();
        // Outside of the lock, because a waker is code of the application and may come back here.
        delivered.iter().for_each(|cancel| cancel.raise(CancelReason::Shutdown));
    }

    /// All claims that this node holds: running, in a ready queue, delivered, or on their way to storage.
    pub(crate) fn live_claims(&self) -> Vec<(TaskId, ClaimToken)> {
        // Read in the order in which a claim moves, so that no claim is missed on its way.
        let mut live = Vec::new();
        for (lane, ready) in &self.ready_queues {
            live.extend(ready.waiting());
            live.extend(self.workers.claims(lane));
        }
        live.extend(tokens(&self.deliveries.lock()));
        live.extend(
            self.inbox
                .peek(|g| g.settles.iter().map(|s| (s.settlement.task_id, s.settlement.token)).collect::<Vec<_>>()),
        );
        live
    }

    /// Tells maintenance of a due time, if it lies before the next maintenance round.
    pub(crate) fn due_at(&self, due: Timestamp) {
        if self.alarm.is_moved_by(due) {
            self.maintenance.poke(crate::runtime::maintenance::DueAt(due));
        }
    }

    /// The wall time at which monotonic time will be `elapsed`.
    pub(crate) fn in_wall_time(&self, elapsed: Duration) -> Timestamp {
        self.clock.now() + elapsed.saturating_sub(self.clock.elapsed())
    }

    /// Records that a limit holds back tasks of the queue, until `until` or until a task ends.
    pub(crate) fn throttle(&self, queue: &Name, until: Option<Timestamp>) {
        self.throttled.throttle(queue, until);
        if until.is_some() {
            self.maintenance.poke(crate::runtime::maintenance::HeldUntil);
        }
    }

    /// Announces the throttled queues whose time has come, so that storage is asked for their tasks again.
    pub(crate) fn wake_held(&self) {
        let due = self.throttled.take_due(self.clock.now());
        if !due.is_empty() {
            self.inbox.hand_in(|g| g.hints.extend(due));
        }
    }

    /// Publishes the stored states of tasks that an edit or maintenance has changed, and not a run.
    pub(crate) async fn publish_stored(&self, tasks: &[TaskId]) {
        if !self.events.is_heard() {
            return;
        }
        for task_id in tasks {
            // The task may be deleted, or storage out of reach, by now. Then there is nothing to publish.
            if let Ok(Some(record)) = self.persistence.ask(GetTask { task_id: *task_id }).await {
                self.events.publish(|| Fact::stored(&record));
            }
        }
    }

    /// Removes the logs of tasks that are deleted.
    pub(crate) fn forget_logs(&self, tasks: &[TaskId]) {
        if let Some(logs) = &self.task_logs {
            let (logs, tasks) = (logs.clone(), tasks.to_vec());
            // Removing a thousand folders takes a while. The actors have other work to do, and handlers may block their
            // threads for ever. So this runs on the thread for chores.
            self.chores.spawn(Box::new(move || {
                logs.remove(&tasks);
            }));
        }
    }

    /// How often to look at storage without a notification. Where storage notifies of changes by other nodes, a look
    /// serves two purposes: to find changes that a broken connection did not deliver, and to find nodes that died.
    pub(crate) fn between_looks(&self) -> Duration {
        let times = if self.backend.capabilities().notifies { RARELY } else { 1 };
        self.config.check_interval.saturating_mul(times)
    }

    /// Tells the queue actor that storage may hold pending tasks in any queue.
    pub(crate) fn look_for_work(&self) {
        self.inbox.hand_in(|g| g.hint_all = true);
    }

    /// True when a part has died and is not back yet.
    pub(crate) fn is_down(&self, part: Part) -> bool {
        match part {
            Part::Queue => !self.queue.is_connected(),
            Part::Maintenance => !self.maintenance.is_connected(),
            Part::Scheduler => !self.scheduler.is_connected(),
            Part::Store => !self.store_line.is_connected(),
            Part::Events => !self.events.line().is_connected(),
            Part::Persistence => !self.persistence.is_alive(),
            Part::Worker => self.workers.has_dead(),
            Part::Guardian => !self.guardian.is_connected(),
            // These threads need no restart: a panic in storage is caught, and the thread goes on.
            Part::Heartbeat | Part::Watch => self.parts.pulse(part).is_gone(),
        }
    }

    /// Disconnects the core actors: the board has stopped.
    pub(crate) fn disconnect_all(&self) {
        self.guardian.disconnect();
        self.queue.disconnect();
        self.maintenance.disconnect();
        self.scheduler.disconnect();
        self.store_line.disconnect();
        self.events.line().disconnect();
    }

    /// Resolves after `span`. It may be awaited on any executor.
    pub(crate) fn timeout(&self, span: Duration) -> impl Future<Output = ()> + Send + Unpin + 'static {
        let (mut tell, told) = oneshot::channel::<()>();
        let sleep = self.clock.sleep(span);
        if let Some(home) = self.home.get() {
            home.spawn(async move {
                // Most callers are answered long before their timeout. Without the second branch, timeouts that no
                // caller awaits any more would fill memory until they are over.
                tokio::select! {
                    () = sleep => {}
                    () = tell.closed() => {}
                }
            });
        }
        // The sender sends nothing. It is dropped when the time has come.
        told.map(drop)
    }

    /// Wakes the queue actor.
    pub(crate) fn poke_queue(&self) {
        self.queue.poke(Poke);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Board;

    #[actix_rt::test]
    async fn a_timeout_that_nobody_waits_for_any_more_is_forgotten() {
        const HOUR: Duration = Duration::from_secs(3_600);
        const MANY: usize = 1_000;
        let clock = Clock::manual(Timestamp::from_micros(0));
        let board = Board::builder().clock(clock.clone()).start().await.unwrap();
        let core = board.core();
        let timeouts: Vec<_> = (0..MANY).map(|_| core.timeout(HOUR)).collect();
        let sleepers = async |wanted: &dyn Fn(usize) -> bool| {
            let look = async {
                while !wanted(clock.sleepers()) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), look).await.is_ok()
        };
        assert!(sleepers(&|now| now >= MANY).await, "each of them sleeps");
        drop(timeouts);
        // Only a handful of the board's own parts sleep.
        assert!(sleepers(&|now| now < MANY / 10).await, "{} still sleep", clock.sleepers());
        // A timeout that is still awaited ends in time.
        let timeout = core.timeout(HOUR);
        clock.advance(HOUR);
        timeout.await;
        board.stop().await;
    }
}
