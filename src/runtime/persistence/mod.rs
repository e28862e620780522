//! Persistence: the only place that blocks on storage, and the only place where panics of storage are caught.
//!
//! Two sync arbiters of plain threads. The first writes, with as many threads as the backend takes parallel commits (a
//! single thread for SQLite). The second reads. A backend that never blocks is called directly on the caller's thread,
//! and its panics are caught in the same function.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`CommitBatch`] | the queue | the receipt is delivered, or put on the inbox with the batch | no: dropped unread it comes back as failed | yes, with the same tokens |
//! | [`Door`] around a [`Request`] | board, maintenance, queue | the request's reply | yes: the caller gets an error | depends on the request |

mod requests;
mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use parking_lot::RwLock;
use slog::{Logger, error};
use tokio::sync::Semaphore;

pub(crate) use requests::{
    ApplyEdit, ChangeQueue, CheckHealth, CountStates, FindOutdated, FindScheduleByCodeName, FindScheduleByName,
    FireSchedules, ForgetSchedules, GetTask, ListExecutions, ListFirings, ListLimits, ListNodes, ListQueues,
    ListSchedules, ListTasks, LookAhead, LookForSchedules, PruneTasks, ReadLine, ReadSchedules, ReleaseClaims,
    RemoveLimit, Request, SaveLimit, SaveSchedule, SweepTasks,
};

use crate::actor::Liveness;
use crate::backend::{Backend, BackendError, Commit, Receipt};
use crate::clock::Clock;
use crate::logging::keys;
use crate::panics::caught;
use crate::runtime::core::Core;
use crate::runtime::queue::batch::Batch;
use crate::runtime::queue::fast_path;
use crate::runtime::queue::inbox::Returned;

/// The most requests that may wait for storage at a time, because the mailbox of a sync arbiter has no bound.
const MOST_WAITING: usize = 1_024;

/// The address of a sync arbiter. The guardian replaces it when all threads of the arbiter have died.
type Address = RwLock<Option<Addr<StorageThread>>>;

/// The access to storage.
pub(crate) struct Persistence {
    shared: Arc<Shared>,
    writers: Address,
    readers: Address,
    places: Semaphore,
    reader_threads: usize,
}

struct Shared {
    backend: Arc<dyn Backend>,
    log: Logger,
    clock: Clock,
    pulse: Arc<Liveness>,
    in_flight: AtomicUsize,
    living: [AtomicUsize; 2],
    /// The threads in `living` that were requested but have not begun yet.
    coming: [AtomicUsize; 2],
}

/// The two sync arbiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Writer = 0,
    Reader = 1,
}

impl Persistence {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        readers: usize,
        log: Logger,
        clock: Clock,
        pulse: Arc<Liveness>,
    ) -> Self {
        let shared = Shared {
            backend,
            log,
            clock,
            pulse,
            in_flight: AtomicUsize::new(0),
            living: Default::default(),
            coming: Default::default(),
        };
        Self {
            shared: Arc::new(shared),
            writers: RwLock::default(),
            readers: RwLock::default(),
            places: Semaphore::new(MOST_WAITING),
            reader_threads: readers,
        }
    }

    /// True if storage is called directly, on the caller's own thread.
    pub(crate) fn is_direct(&self) -> bool {
        self.shared.backend.capabilities().never_blocks
    }

    /// How many commits storage takes in parallel.
    pub(crate) fn commits_at_once(&self) -> usize {
        self.shared.backend.capabilities().parallel_commits.max(1)
    }

    /// True if several commits may be in flight at the same time.
    pub(crate) fn is_side_by_side(&self) -> bool {
        self.commits_at_once() > 1
    }

    /// Commits in flight, including commits that have returned but were not reported to
    /// [`taken_back`](Self::taken_back) yet. Lock the lanes for this call, as for that method.
    pub(crate) fn commits_in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    /// Notes that so many commits are back and that the lanes hold their claims. Do not call this earlier: a queue
    /// actor that starts in between would find no commit in flight, and would give back claims that a receipt still
    /// carries.
    pub(crate) fn taken_back(&self, commits: usize) {
        let fewer = |in_flight: usize| Some(in_flight.saturating_sub(commits));
        // The closure always has a new value, so the update cannot fail.
        self.shared.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).ok();
    }

    /// Starts the threads that are missing. Safe to repeat.
    pub(crate) fn start(&self) {
        if self.is_direct() {
            return;
        }
        for (side, line, threads) in self.sides() {
            let mut line = line.write();
            let living = self.shared.living[side as usize].load(Ordering::Acquire);
            if line.as_ref().is_some_and(Addr::connected) && living > 0 {
                continue;
            }
            let shared = Arc::clone(&self.shared);
            // Counted before the threads exist, otherwise a check of a board that has just started would take them for
            // dead.
            shared.coming[side as usize].fetch_add(threads, Ordering::AcqRel);
            shared.living[side as usize].fetch_add(threads, Ordering::AcqRel);
            *line = Some(SyncArbiter::start(threads, move || StorageThread::new(Arc::clone(&shared), side)));
        }
    }

    fn sides(&self) -> [(Side, &Address, usize); 2] {
        [(Side::Writer, &self.writers, self.commits_at_once()), (Side::Reader, &self.readers, self.reader_threads)]
    }

    /// True if each side has a living thread, or if no threads are needed.
    pub(crate) fn is_alive(&self) -> bool {
        self.is_direct()
            || self.sides().iter().all(|(side, line, _)| {
                self.shared.living[*side as usize].load(Ordering::Acquire) > 0
                    && line.read().as_ref().is_some_and(Addr::connected)
            })
    }

    /// Lets the threads end after the work that was already sent to them.
    pub(crate) fn stop(&self) {
        for (_, line, _) in self.sides() {
            *line.write() = None;
        }
    }

    /// Commits on the caller's own thread, for storage that never blocks.
    pub(crate) fn commit_here(&self, commit: &Commit) -> Result<Receipt, BackendError> {
        self.shared.guarded("commit", |backend| backend.commit(commit)).0
    }

    /// Sends a batch to the storage threads. The batch always comes back: its receipt is delivered, or it returns to
    /// the inbox.
    pub(crate) fn commit(&self, mut batch: Box<Batch>, core: &Arc<Core>) {
        batch.commit.sent = core.clock.mark();
        self.shared.in_flight.fetch_add(1, Ordering::AcqRel);
        let ticket = Ticket { batch: Some(batch), core: Arc::clone(core), shared: Arc::clone(&self.shared) };
        if let Some(writers) = &*self.writers.read() {
            // A lost message comes back through the ticket's destructor.
            writers.do_send(CommitBatch(ticket));
        }
    }

    /// Sends a request to storage and awaits the reply.
    ///
    /// # Errors
    /// The error that storage returns, or a transient error when no thread answers.
    pub(crate) async fn ask<R: Request>(&self, request: R) -> Result<R::Reply, BackendError> {
        if self.is_direct() {
            return self.shared.guarded(R::OPERATION, |backend| request.apply(backend)).0;
        }
        let silent = || BackendError::Transient {
            operation: R::OPERATION,
            message: "the storage threads are not answering".into(),
        };
        let _place = self.places.acquire().await.map_err(|_| silent())?;
        let line = if R::WRITES { &self.writers } else { &self.readers };
        let Some(address) = line.read().clone() else { return Err(silent()) };
        address.send(Door(request)).await.map_err(|_| silent())?
    }
}

impl Shared {
    /// The only call to storage. A panic in `work` becomes an error, and the returned flag is then true.
    fn guarded<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&dyn Backend) -> Result<T, BackendError>,
    ) -> (Result<T, BackendError>, bool) {
        match caught(|| work(&*self.backend)) {
            Ok(result) => {
                // Any answer is a sign of life, also an error: `health()` reports errors elsewhere.
                self.pulse.tick(&self.clock);
                (result, false)
            }
            Err(text) => {
                error!(self.log, "storage panicked"; keys::OPERATION => operation, keys::ERROR => text);
                self.pulse.restarted();
                (Err(BackendError::Panicked { operation }), true)
            }
        }
    }
}

/// A batch on its way to storage and back. If it is dropped on the way it goes back as failed, so that it is never
/// lost.
pub(crate) struct Ticket {
    batch: Option<Box<Batch>>,
    core: Arc<Core>,
    shared: Arc<Shared>,
}

impl Ticket {
    /// Commits the batch, and delivers the receipt or puts the batch on the inbox; true when storage panicked.
    fn redeem(mut self) -> bool {
        let Some(batch) = self.batch.take() else { return false };
        let (result, panicked) = self.shared.guarded("commit", |backend| backend.commit(&batch.commit));
        let returned = match result {
            Ok(receipt) => fast_path::deliver_here(&self.core, batch, receipt),
            Err(error) => Some(Returned::Batch(batch, Err(error))),
        };
        if let Some(returned) = returned {
            self.core.inbox.give_back(returned);
        }
        panicked
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            let result = Err(BackendError::Panicked { operation: "commit" });
            self.core.inbox.give_back(Returned::Batch(batch, result));
        }
    }
}

/// A commit to make.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CommitBatch(Ticket);

/// A request to storage.
pub(crate) struct Door<R>(R);

impl<R: Request> Message for Door<R> {
    type Result = Result<R::Reply, BackendError>;
}

/// A thread of a sync arbiter.
pub(crate) struct StorageThread {
    shared: Arc<Shared>,
    side: Side,
}

impl StorageThread {
    fn new(shared: Arc<Shared>, side: Side) -> Self {
        let coming = |left: usize| left.checked_sub(1);
        if shared.coming[side as usize].fetch_update(Ordering::AcqRel, Ordering::Acquire, coming).is_err() {
            // This actor was not requested by `start`: it replaces an actor that panicked.
            shared.living[side as usize].fetch_add(1, Ordering::AcqRel);
        }
        Self { shared, side }
    }
}

impl Drop for StorageThread {
    fn drop(&mut self) {
        self.shared.living[self.side as usize].fetch_sub(1, Ordering::AcqRel);
    }
}

impl Actor for StorageThread {
    type Context = SyncContext<Self>;
}

impl Handler<CommitBatch> for StorageThread {
    type Result = ();
    fn handle(&mut self, CommitBatch(ticket): CommitBatch, ctx: &mut Self::Context) {
        if ticket.redeem() {
            // Stopping makes a fresh actor on this thread. State that the panic left half done goes with the old actor.
            actix::ActorContext::stop(ctx);
        }
    }
}

impl<R: Request> Handler<Door<R>> for StorageThread {
    type Result = Result<R::Reply, BackendError>;
    fn handle(&mut self, Door(request): Door<R>, ctx: &mut Self::Context) -> Self::Result {
        let (result, panicked) = self.shared.guarded(R::OPERATION, |backend| request.apply(backend));
        if panicked {
            actix::ActorContext::stop(ctx);
        }
        result
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::backend::memory::Memory;
    use crate::testing::Faulty;

    #[actix_rt::test]
    async fn threads_that_have_just_been_started_are_not_taken_for_dead() {
        for _ in 0..50 {
            let backend = Faulty::new(Arc::new(Memory::new()), true);
            let log = Logger::root(slog::Discard, slog::o!());
            let persistence = Persistence::new(backend, 2, log, Clock::system(), Arc::default());
            persistence.start();
            assert!(persistence.is_alive());
            persistence.stop();
        }
    }
}
