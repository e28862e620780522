//! The inbox: work that has gathered for the next commit.
//!
//! The inbox outlives the queue actor. When the actor dies, everything that was handed in is still here for its
//! successor, and so are the receipts of commits that were in flight.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::batch::Batch;
use super::progress::Reports;
use super::{Poke, Pushed, Queue};
use crate::actor::RestartableAddr;
use crate::backend::{BackendError, Receipt, Settlement};
use crate::error::{DeliveryError, PushError};
use crate::name::Name;
use crate::runtime::queue::delivery::Delivery;
use crate::task::TaskSpec;

/// A push of a single task, or of several tasks that are stored together.
pub(crate) struct PushRequest {
    pub(crate) specs: Vec<Arc<TaskSpec>>,
    pub(crate) reply: PushReply,
}

/// The reply of a waiting push. It holds a place in the bounded number of waiting pushes.
pub(crate) struct PushReply {
    pub(crate) answer: oneshot::Sender<Result<Vec<Pushed>, PushError>>,
    /// In monotonic time.
    pub(crate) deadline: Duration,
    pub(crate) _place: OwnedSemaphorePermit,
}

/// The end of a claim.
pub(crate) struct SettleRequest {
    pub(crate) settlement: Settlement,
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) holder: Holder,
}

/// The holder of a claim.
pub(crate) enum Holder {
    /// A worker of the lane of the task's queue.
    Worker,
    /// A worker, and there is nothing to store: the run has completed its task in a transaction of its own, or is
    /// settled.
    WorkerDone,
    /// A worker whose place in the lane is not free yet, because the thread of its run goes on. A second request gives
    /// the place back.
    WorkerStays,
    /// A delivery. It may await the outcome.
    Delivery(Option<oneshot::Sender<Result<(), DeliveryError>>>),
}

impl Holder {
    /// True when this end frees the place in the lane.
    pub(crate) fn is_worker(&self) -> bool {
        matches!(self, Self::Worker | Self::WorkerDone)
    }
}

/// A call that waits for a task to pull.
pub(crate) struct PopRequest {
    pub(crate) queue: Name,
    pub(crate) puller: Puller,
}

/// A task for a puller, or the error with which storage refuses for good to look for a task.
pub(crate) type Pulled = Result<Delivery, BackendError>;

/// A puller, to which a task is to be delivered.
pub(crate) struct Puller {
    pub(crate) answer: oneshot::Sender<Pulled>,
    /// True: turned away when storage has no task right now, instead of waiting for a task.
    pub(crate) once: bool,
}

/// A commit that came back from storage.
pub(crate) enum Returned {
    /// The thread that brought the commit has answered all waiting callers.
    Delivered,
    /// The batch, with storage's answer.
    Batch(Box<Batch>, Result<Receipt, BackendError>),
}

/// Everything that waits for the queue actor.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) pushes: Vec<PushRequest>,
    pub(crate) settles: Vec<SettleRequest>,
    pub(crate) pops: Vec<PopRequest>,
    pub(crate) progress: Reports,
    pub(crate) returned: Vec<Returned>,
    /// Queues that may have pending tasks; all of them when `hint_all` is set.
    pub(crate) hints: Vec<Name>,
    pub(crate) hint_all: bool,
    /// The board has stopped: everything that is handed in is dropped, and the drop tells the waiting callers.
    pub(super) gone: bool,
}

impl Gathered {
    /// True when nothing in it needs a commit now. Progress that came too soon needs no commit until it is due.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { pushes, settles, pops, progress, returned, hints, hint_all, gone: _ } = self;
        let rest = progress.is_empty() && returned.is_empty() && hints.is_empty() && !hint_all;
        rest && pushes.is_empty() && settles.is_empty() && pops.is_empty()
    }

    /// Takes everything except progress that came too soon.
    fn take(&mut self) -> Self {
        let ends = self.settles.iter().map(|settle| settle.settlement.task_id);
        ends.for_each(|task_id| self.progress.ended(task_id));
        let progress = self.progress.split_early();
        mem::replace(self, Self { gone: self.gone, progress, ..Self::default() })
    }
}

/// The place where all parts of the board hand in work for the queue actor.
pub(crate) struct Inbox {
    pub(super) gathered: Mutex<Gathered>,
    // True while the queue actor is sure to look at the inbox again without being told.
    poked: AtomicBool,
    closed: AtomicBool,
    /// Batches that storage did not take and that are to be sent again, each by itself.
    again: Mutex<VecDeque<Box<Batch>>>,
    places: Arc<Semaphore>,
    most_places: u32,
    /// The error for which storage took no commit lately.
    trouble: Mutex<Option<BackendError>>,
    /// Monotonic time, as the guardian told it last.
    time: watch::Sender<Duration>,
    line: RestartableAddr<Queue>,
}

impl Inbox {
    pub(crate) fn new(max_waiting_pushes: usize, line: RestartableAddr<Queue>) -> Self {
        Self {
            gathered: Mutex::default(),
            poked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            again: Mutex::default(),
            places: Arc::new(Semaphore::new(max_waiting_pushes)),
            most_places: u32::try_from(max_waiting_pushes).unwrap_or(u32::MAX),
            trouble: Mutex::default(),
            time: watch::Sender::new(Duration::ZERO),
            line,
        }
    }

    /// Takes a place for a push of `tasks` tasks with `bytes` bytes in total, if there is a free place.
    pub(crate) fn try_place(&self, tasks: usize, bytes: usize) -> Result<OwnedSemaphorePermit, PushError> {
        self.check_open()?;
        Arc::clone(&self.places).try_acquire_many_owned(self.weight(tasks, bytes)).map_err(|_| PushError::Full)
    }

    /// Waits for a place for a push.
    pub(crate) async fn place(&self, tasks: usize, bytes: usize) -> Result<OwnedSemaphorePermit, PushError> {
        self.check_open()?;
        let place = self.inner_place(tasks, bytes).await?;
        self.check_open()?;
        Ok(place)
    }

    /// Waits for a place for a push of a running handler. It works also while the board is stopping, because the
    /// handler may come to its end.
    pub(crate) async fn inner_place(&self, tasks: usize, bytes: usize) -> Result<OwnedSemaphorePermit, PushError> {
        let place = Arc::clone(&self.places).acquire_many_owned(self.weight(tasks, bytes)).await;
        place.map_err(|_| PushError::Closed)
    }

    // Large tasks take more places, so that the bound limits memory as well as numbers.
    fn weight(&self, tasks: usize, bytes: usize) -> u32 {
        u32::try_from(tasks.max(bytes / 4096)).unwrap_or(u32::MAX).clamp(1, self.most_places)
    }

    fn check_open(&self) -> Result<(), PushError> {
        if self.closed.load(Ordering::Acquire) { Err(PushError::Closed) } else { Ok(()) }
    }

    /// Closes the inbox to pushes from outside.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Turns away all callers that wait here, and all callers that come later: the board has stopped.
    pub(crate) fn turn_away(&self) {
        self.close();
        self.places.close();
        let mut gathered = self.gathered.lock();
        let left = mem::replace(&mut *gathered, Gathered { gone: true, ..Gathered::default() });
        drop(gathered);
        for push in left.pushes {
            // A caller that has stopped waiting needs no answer.
            drop(push.reply.answer.send(Err(PushError::Closed)));
        }
        self.give_up_again();
    }

    fn give_up_again(&self) {
        let again = mem::take(&mut *self.again.lock());
        for reply in again.into_iter().flat_map(|batch| batch.pushed) {
            drop(reply.answer.send(Err(PushError::Unknown)));
        }
    }

    /// Keeps a batch on the inbox, to be sent again. A thread that brings a receipt may call it even after the board
    /// has stopped.
    pub(crate) fn send_again(&self, batch: Box<Batch>) {
        self.again.lock().push_back(batch);
        // Checked after the batch is added: an inbox that was cleared in between is cleared once more.
        if self.gathered.lock().gone {
            self.give_up_again();
        }
    }

    /// The batches that are to be sent again.
    pub(crate) fn again(&self) -> parking_lot::MutexGuard<'_, VecDeque<Box<Batch>>> {
        self.again.lock()
    }

    /// Hands work in and pokes the queue actor, unless the actor will look anyway.
    pub(crate) fn hand_in(&self, add: impl FnOnce(&mut Gathered)) {
        let mut gathered = self.gathered.lock();
        add(&mut gathered);
        if gathered.gone {
            let dropped = mem::replace(&mut *gathered, Gathered { gone: true, ..Gathered::default() });
            // Dropped after the lock is released, because the dropped values may want to hand something in.
            drop(gathered);
            drop(dropped);
            return;
        }
        drop(gathered);
        self.ring();
    }

    /// Pokes the queue actor, unless it was poked already.
    pub(crate) fn ring(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) {
            self.line.poke(Poke);
        }
    }

    /// True while the queue actor is about to look at the inbox.
    pub(crate) fn is_poked(&self) -> bool {
        self.poked.load(Ordering::Acquire)
    }

    /// Hands in a returned commit. The queue actor must look, so it is poked even if it was poked before.
    pub(crate) fn give_back(&self, returned: Returned) {
        let mut gathered = self.gathered.lock();
        if gathered.gone {
            // The board has stopped. The batch is dropped after the lock is released, because the drop tells the
            // callers that wait for it.
            drop(gathered);
            drop(returned);
            return;
        }
        gathered.returned.push(returned);
        drop(gathered);
        self.poked.store(true, Ordering::Release);
        self.line.poke(Poke);
    }

    /// Called when the queue actor will look again only after a poke.
    pub(crate) fn listen(&self) {
        self.poked.store(false, Ordering::Release);
    }

    /// Takes only the returned commits: a commit is in flight, and everything else goes on gathering.
    pub(crate) fn take_returned(&self) -> Vec<Returned> {
        mem::take(&mut self.gathered.lock().returned)
    }

    /// Monotonic time as it goes by, for callers that wait for a place.
    pub(crate) fn time(&self) -> watch::Receiver<Duration> {
        self.time.subscribe()
    }

    /// Gives up the pushes that have waited until their deadline, on the inbox or for a place. This works also while
    /// storage gives no answer at all. Sends progress that has become due.
    pub(crate) fn look_at_the_time(&self, now: Duration) {
        self.time.send_replace(now);
        self.ripen(now);
        for overdue in self.take_overdue(now) {
            let silent =
                || BackendError::Transient { operation: "commit", message: "storage has not answered so far".into() };
            let error = self.trouble.lock().clone().unwrap_or_else(silent);
            // A caller that has stopped waiting needs no answer.
            drop(overdue.answer.send(Err(PushError::Storage(error))));
        }
    }

    /// Records why storage takes no commits, or `None` when it takes commits again.
    pub(crate) fn set_trouble(&self, trouble: Option<BackendError>) {
        *self.trouble.lock() = trouble;
    }

    /// Takes the pushes whose deadline has passed at `now`. While storage fails, nothing else looks at them.
    pub(crate) fn take_overdue(&self, now: Duration) -> Vec<PushReply> {
        let mut gathered = self.gathered.lock();
        let overdue = gathered.pushes.extract_if(.., |push| push.reply.deadline <= now);
        overdue.map(|push| push.reply).collect()
    }

    /// Takes everything for a commit on the fast path, `push` included. It returns `push` when the board has stopped,
    /// or when returned commits wait here, because only the queue actor can take these.
    pub(crate) fn take_with(&self, push: PushRequest) -> Result<Gathered, PushRequest> {
        let mut gathered = self.gathered.lock();
        if gathered.gone || !gathered.returned.is_empty() {
            return Err(push);
        }
        gathered.pushes.push(push);
        Ok(gathered.take())
    }

    /// Takes everything except progress that came too soon.
    pub(crate) fn take(&self) -> Gathered {
        self.gathered.lock().take()
    }

    /// Looks at the gathered work, under the lock.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&Gathered) -> R) -> R {
        look(&self.gathered.lock())
    }
}
