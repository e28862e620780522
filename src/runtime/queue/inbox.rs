//! What has gathered for the next commit.
//!
//! The inbox outlives the queue actor: when the actor dies, what was handed in is still here for its successor, and
//! so are the receipts of commits that were in flight.

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

/// One push, or several that are stored together.
pub(crate) struct PushRequest {
    pub(crate) specs: Vec<Arc<TaskSpec>>,
    pub(crate) reply: PushReply,
}

/// Who waits for a push; holds its place in the bounded number of waiting pushes.
pub(crate) struct PushReply {
    pub(crate) answer: oneshot::Sender<Result<Vec<Pushed>, PushError>>,
    /// On the clock's growing hand.
    pub(crate) deadline: Duration,
    pub(crate) _place: OwnedSemaphorePermit,
}

/// The end of a claim.
pub(crate) struct SettleRequest {
    pub(crate) settlement: Settlement,
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) holder: Holder,
}

/// Who held a claim.
pub(crate) enum Holder {
    /// A worker of the lane with the task's queue.
    Worker,
    /// The same, and there is nothing to store: the run has completed its task in a transaction of its own, or is settled.
    WorkerDone,
    /// The same, and its place in the lane is not free yet: the thread of its run goes on. A second request gives it back.
    WorkerStays,
    /// A delivery; it may await the outcome.
    Delivery(Option<oneshot::Sender<Result<(), DeliveryError>>>),
}

impl Holder {
    /// True when the place in the lane is free with this end.
    pub(crate) fn is_worker(&self) -> bool {
        matches!(self, Self::Worker | Self::WorkerDone)
    }
}

/// Somebody who waits for a task to pull.
pub(crate) struct PopRequest {
    pub(crate) queue: Name,
    pub(crate) puller: Puller,
}

/// A task for somebody who pulls, or why storage refuses for good to look for one.
pub(crate) type Pulled = Result<Delivery, BackendError>;

/// Where a task is to be delivered.
pub(crate) struct Puller {
    pub(crate) answer: oneshot::Sender<Pulled>,
    /// Turned away when storage has none right now, instead of waiting for one.
    pub(crate) once: bool,
}

/// A commit that came back from storage.
pub(crate) enum Returned {
    /// Whoever brought it has told everyone.
    Delivered,
    /// With what storage says of it.
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
    /// The board has stopped: whatever is handed in is dropped, and who waits for it is told by that.
    pub(super) gone: bool,
}

impl Gathered {
    /// True when there is nothing in it that needs a commit now. Progress that came too soon needs none until it ripens.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { pushes, settles, pops, progress, returned, hints, hint_all, gone: _ } = self;
        let rest = progress.is_empty() && returned.is_empty() && hints.is_empty() && !hint_all;
        rest && pushes.is_empty() && settles.is_empty() && pops.is_empty()
    }

    /// Takes everything but progress that came too soon.
    fn take(&mut self) -> Self {
        let ends = self.settles.iter().map(|settle| settle.settlement.task_id);
        ends.for_each(|task_id| self.progress.ended(task_id));
        let progress = self.progress.split_early();
        mem::replace(self, Self { gone: self.gone, progress, ..Self::default() })
    }
}

/// Where everybody hands in.
pub(crate) struct Inbox {
    pub(super) gathered: Mutex<Gathered>,
    // True while the queue actor is sure to look at the inbox again without being told.
    poked: AtomicBool,
    closed: AtomicBool,
    /// Composed, refused by storage, and to be sent again, each by itself.
    again: Mutex<VecDeque<Box<Batch>>>,
    places: Arc<Semaphore>,
    most_places: u32,
    /// Why storage took no commit lately.
    trouble: Mutex<Option<BackendError>>,
    /// The time, on the clock's growing hand, as the guardian told it last.
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

    /// A place for a push of `tasks` tasks with `bytes` in all, when there is one.
    pub(crate) fn try_place(&self, tasks: usize, bytes: usize) -> Result<OwnedSemaphorePermit, PushError> {
        self.check_open()?;
        Arc::clone(&self.places).try_acquire_many_owned(self.weight(tasks, bytes)).map_err(|_| PushError::Full)
    }

    /// A place for a push, awaited.
    pub(crate) async fn place(&self, tasks: usize, bytes: usize) -> Result<OwnedSemaphorePermit, PushError> {
        self.check_open()?;
        let place = self.inner_place(tasks, bytes).await?;
        self.check_open()?;
        Ok(place)
    }

    /// A place for a push of a running handler: also while the board is stopping, for the handler is let come to its
    /// end.
    pub(crate) async fn inner_place(&self, tasks: usize, bytes: usize) -> Result<OwnedSemaphorePermit, PushError> {
        let place = Arc::clone(&self.places).acquire_many_owned(self.weight(tasks, bytes)).await;
        place.map_err(|_| PushError::Closed)
    }

    // Large tasks take more places, so that the bound holds for memory as well as for numbers.
    fn weight(&self, tasks: usize, bytes: usize) -> u32 {
        u32::try_from(tasks.max(bytes / 4096)).unwrap_or(u32::MAX).clamp(1, self.most_places)
    }

    fn check_open(&self) -> Result<(), PushError> {
        if self.closed.load(Ordering::Acquire) { Err(PushError::Closed) } else { Ok(()) }
    }

    /// Takes no more pushes from outside.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The board has stopped: everyone who waits here is turned away, and so is whoever comes later.
    pub(crate) fn turn_away(&self) {
        self.close();
        self.places.close();
        let mut gathered = self.gathered.lock();
        let left = mem::replace(&mut *gathered, Gathered { gone: true, ..Gathered::default() });
        drop(gathered);
        for push in left.pushes {
            // Whoever no longer listens needs no answer.
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

    /// Lays a batch down that is to be sent again, also from a thread that brings a receipt after the board has stopped.
    pub(crate) fn send_again(&self, batch: Box<Batch>) {
        self.again.lock().push_back(batch);
        // After it was laid down: a inbox that was cleared in between is cleared once more.
        if self.gathered.lock().gone {
            self.give_up_again();
        }
    }

    /// The batches that are to be sent again.
    pub(crate) fn again(&self) -> parking_lot::MutexGuard<'_, VecDeque<Box<Batch>>> {
        self.again.lock()
    }

    /// Hands something in and tells the queue actor, unless it will look anyway.
    pub(crate) fn hand_in(&self, add: impl FnOnce(&mut Gathered)) {
        let mut gathered = self.gathered.lock();
        add(&mut gathered);
        if gathered.gone {
            let dropped = mem::replace(&mut *gathered, Gathered { gone: true, ..Gathered::default() });
            // Not under the lock: what is dropped may want to hand something in.
            drop(gathered);
            drop(dropped);
            return;
        }
        drop(gathered);
        self.ring();
    }

    /// Tells the queue actor to look.
    pub(crate) fn ring(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) {
            self.line.poke(Poke);
        }
    }

    /// True while the queue actor is about to look.
    pub(crate) fn is_poked(&self) -> bool {
        self.poked.load(Ordering::Acquire)
    }

    /// A commit is back: the queue actor must look, whatever it was told before.
    pub(crate) fn give_back(&self, returned: Returned) {
        let mut gathered = self.gathered.lock();
        if gathered.gone {
            // The board has stopped. Not under the lock: those who wait for it are told by the drop.
            drop(gathered);
            drop(returned);
            return;
        }
        gathered.returned.push(returned);
        drop(gathered);
        self.poked.store(true, Ordering::Release);
        self.line.poke(Poke);
    }

    /// The queue actor will look again only when told.
    pub(crate) fn listen(&self) {
        self.poked.store(false, Ordering::Release);
    }

    /// Takes the receipts alone: a commit is in flight, and the rest gathers on.
    pub(crate) fn take_returned(&self) -> Vec<Returned> {
        mem::take(&mut self.gathered.lock().returned)
    }

    /// The time as it goes by, for those who wait for a place.
    pub(crate) fn time(&self) -> watch::Receiver<Duration> {
        self.time.subscribe()
    }

    /// Gives up whoever has waited until its deadline, on the inbox or for a place: also while storage says nothing at all.
    /// Sends progress whose time has come.
    pub(crate) fn look_at_the_time(&self, now: Duration) {
        self.time.send_replace(now);
        self.ripen(now);
        for overdue in self.take_overdue(now) {
            let silent =
                || BackendError::Transient { operation: "commit", message: "storage has not answered so far".into() };
            let error = self.trouble.lock().clone().unwrap_or_else(silent);
            // Whoever no longer listens needs no answer.
            drop(overdue.answer.send(Err(PushError::Storage(error))));
        }
    }

    /// Why storage takes no commits, or that it does again.
    pub(crate) fn set_trouble(&self, trouble: Option<BackendError>) {
        *self.trouble.lock() = trouble;
    }

    /// Takes the pushes whose time is up at `now`: while storage fails nobody else looks at them.
    pub(crate) fn take_overdue(&self, now: Duration) -> Vec<PushReply> {
        let mut gathered = self.gathered.lock();
        let overdue = gathered.pushes.extract_if(.., |push| push.reply.deadline <= now);
        overdue.map(|push| push.reply).collect()
    }

    /// Takes everything for a commit that is made on the way, but for receipts, which only the queue actor can take.
    pub(crate) fn take_with(&self, push: PushRequest) -> Result<Gathered, PushRequest> {
        let mut gathered = self.gathered.lock();
        if gathered.gone || !gathered.returned.is_empty() {
            return Err(push);
        }
        gathered.pushes.push(push);
        Ok(gathered.take())
    }

    /// Takes everything but progress that came too soon.
    pub(crate) fn take(&self) -> Gathered {
        self.gathered.lock().take()
    }

    /// Looks at what has gathered.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&Gathered) -> R) -> R {
        look(&self.gathered.lock())
    }
}
