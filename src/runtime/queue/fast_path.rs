//! The lanes in the hands of one at a time: the queue actor, and for a moment whoever pushes or brings a receipt.
//!
//! A push that lies on the inbox waits until the queue actor's thread has woken up, and its receipt waits for that once
//! more. On a queue at rest these are half of the time that a task needs to start. So whoever pushes sends the commit
//! itself when nothing else is to be done, and makes it where storage never blocks; and the storage thread that brings a
//! receipt tells everyone itself. What they do is what the actor would do, by the same functions; whatever is out of the
//! ordinary they leave to it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::batch::{Batch, Rules, compose};
use super::inbox::{Gathered, PushRequest, Returned};
use super::lanes::Lanes;
use super::receipt;
use crate::actor::Part;
use crate::backend::{Limits, Receipt};
use crate::panics::caught;
use crate::runtime::core::{Core, Stage};

/// The lanes of a board.
#[derive(Default)]
pub(crate) struct SharedLanes(Mutex<State>);

#[derive(Default)]
struct State {
    lanes: Lanes,
    /// Somebody is changing them, or was when it panicked: then they may be half changed.
    in_hand: bool,
    /// The queue actor has left nothing undone, so that a push may be committed past it.
    at_rest: bool,
}

/// The lanes, held.
pub(crate) struct Hold<'a>(MutexGuard<'a, State>);

impl SharedLanes {
    /// Puts fresh lanes in place of those that nobody looks after any more. They are made under the lock, so that no push
    /// gets by between the count of what runs and the lanes that go by it.
    pub(super) fn renew(&self, make: impl FnOnce(&Lanes) -> Lanes) {
        let mut state = self.0.lock();
        *state = State { lanes: make(&state.lanes), in_hand: false, at_rest: false };
    }

    /// Takes the lanes up for the queue actor.
    ///
    /// # Panics
    /// When whoever held them last has panicked: the actor dies, and its successor makes them anew.
    pub(super) fn lock(&self) -> Hold<'_> {
        let mut state = self.0.lock();
        assert!(!state.in_hand, "the lanes were left half changed by a panic; they are made anew");
        state.in_hand = true;
        Hold(state)
    }

    /// Lets everyone go who waits for a lane: the board has stopped.
    pub(crate) fn let_go(&self) {
        let mut state = self.0.lock();
        let mut waiting = std::mem::take(&mut state.lanes.quiet_watchers);
        let mut pullers = Vec::new();
        for lane in state.lanes.iter_mut() {
            waiting.append(&mut lane.idle_watchers);
            pullers.push(std::mem::take(&mut lane.pullers));
        }
        // Not under the lock: the drop tells them.
        drop(state);
        drop((waiting, pullers));
    }

    /// Takes the lanes up for somebody else, if the queue actor is at rest and nobody has them.
    fn try_lock(&self) -> Option<Hold<'_>> {
        Hold::for_guest(self.0.try_lock()?)
    }

    /// The same for who may wait until they are put down.
    fn lock_if_free(&self) -> Option<Hold<'_>> {
        Hold::for_guest(self.0.lock())
    }
}

impl<'a> Hold<'a> {
    fn for_guest(mut state: MutexGuard<'a, State>) -> Option<Self> {
        let free = state.at_rest && !state.in_hand;
        state.in_hand |= free;
        free.then_some(Self(state))
    }

    /// Puts the lanes down as they should be. A hold that is dropped instead, by a panic, leaves them in hand.
    pub(super) fn release(mut self, at_rest: bool) {
        self.0.in_hand = false;
        self.0.at_rest = at_rest;
    }
}

impl Deref for Hold<'_> {
    type Target = Lanes;
    fn deref(&self) -> &Lanes {
        &self.0.lanes
    }
}

impl DerefMut for Hold<'_> {
    fn deref_mut(&mut self) -> &mut Lanes {
        &mut self.0.lanes
    }
}

/// What holds for a commit that is composed now.
pub(super) fn rules<'a>(core: &'a Core, limits: Option<&'a Arc<Limits>>) -> Rules<'a> {
    Rules {
        node: core.node,
        now: core.clock.now(),
        may_claim: core.may_claim(),
        types: core.registry.types(),
        limits,
    }
}

/// Sends a push of one task to storage from the caller's thread, with whatever has gathered, if the queue actor has nothing
/// to do and storage has no commit; gives the push back otherwise.
pub(crate) fn send_here(core: &Arc<Core>, push: PushRequest) -> Result<(), PushRequest> {
    if push.specs.len() > 1 || core.inbox.is_poked() || core.stage() != Stage::Running {
        return Err(push);
    }
    let Some(mut lanes) = core.lanes.try_lock() else { return Err(push) };
    if lanes.in_flight > 0 {
        lanes.release(true);
        return Err(push);
    }
    let gathered = match core.inbox.take_with(push) {
        Ok(gathered) => gathered,
        Err(push) => {
            lanes.release(true);
            return Err(push);
        }
    };
    // A panic must not reach the application, and the lanes stay in hand: the actor that finds them so is replaced.
    let send = || {
        let limits = core.limits.lock().clone();
        let batch = Box::new(compose(&mut lanes, gathered, &rules(core, limits.as_ref())));
        if core.persistence.is_direct() {
            commit(core, lanes, batch);
        } else {
            lanes.in_flight += 1;
            core.persistence.commit(batch, core);
            lanes.release(true);
        }
    };
    if caught(send).is_err() {
        core.poke_queue();
    }
    Ok(())
}

/// Commits to storage that never blocks.
fn commit(core: &Arc<Core>, lanes: Hold<'_>, batch: Box<Batch>) {
    match core.persistence.commit_here(&batch.commit) {
        Ok(receipt) => {
            if !deliver(core, lanes, batch, receipt) {
                core.poke_queue();
            }
        }
        Err(error) => {
            lanes.release(false);
            core.inbox.give_back(Returned::Batch(batch, Err(error)));
        }
    }
}

/// Tells everyone what became of a batch, on the storage thread that brings it, if the lanes are free: whoever waits need
/// not wait for the queue actor's thread to wake up as well. Returns what is left for the actor to do, if anything.
pub(crate) fn deliver_here(core: &Arc<Core>, batch: Box<Batch>, receipt: Receipt) -> Option<Returned> {
    let Some(lanes) = core.lanes.lock_if_free() else { return Some(Returned::Batch(batch, Ok(receipt))) };
    // As above: the queue actor, which is told of the return then, finds the lanes in hand.
    let done = caught(|| deliver(core, lanes, batch, receipt)).unwrap_or(false);
    (!done).then_some(Returned::Delivered)
}

/// Tells everyone, and puts the lanes down; false when the queue actor has something to do then, the count of commits that
/// storage has included.
fn deliver(core: &Arc<Core>, mut lanes: Hold<'_>, batch: Box<Batch>, receipt: Receipt) -> bool {
    receipt::deliver(core, &mut lanes, *batch, receipt);
    // Before the look: whoever hands something in after it must say so.
    core.inbox.listen();
    let done = !lanes.want_more() && core.inbox.again().is_empty() && core.inbox.peek(Gathered::is_empty);
    if done {
        lanes.in_flight = lanes.in_flight.saturating_sub(1);
        core.persistence.taken_back(1);
        core.parts.pulse(Part::Queue).tick(&core.clock);
    }
    lanes.release(true);
    done
}

#[cfg(test)]
mod tests {
    use crate::task::{NewTask, TaskState};
    use crate::{Board, Outcome, Part};

    #[actix_rt::test]
    async fn lanes_that_a_panic_left_in_hand_are_made_anew() {
        let builder = Board::builder().queue("default", 2).handler("x", |_, _| async { Ok(Outcome::done()) });
        let board = builder.start().await.unwrap();
        let first = board.push(NewTask::new("x", &())).await.unwrap();
        board.wait(first.task_id).await.unwrap();
        let core = board.core();
        // At rest once the queue actor has taken the end of the run.
        let held = loop {
            match core.lanes.try_lock() {
                Some(lanes) => break lanes,
                None => tokio::task::yield_now().await,
            }
        };
        drop(held);
        // It is handed in at the inbox, and whoever looks there finds the lanes as they were left.
        let second = board.push(NewTask::new("x", &())).await.unwrap();
        assert_eq!(board.wait(second.task_id).await.unwrap().state, TaskState::Completed);
        let health = board.health().await;
        let queue = health.parts.iter().find(|part| part.part == Part::Queue).unwrap();
        assert_eq!(queue.restarts, 1);
        board.stop().await;
    }

    /// Otherwise a queue actor that starts at this moment would give back what a receipt has claimed.
    #[cfg(feature = "testing")]
    #[actix_rt::test]
    async fn a_commit_is_under_way_until_the_lanes_have_what_it_brings() {
        use std::sync::Arc;
        use std::time::Duration;

        use crate::backend::Backend;

        let stored = Arc::new(crate::backend::memory::Memory::new());
        let storage = crate::testing::Faulty::new(stored.clone(), true);
        let builder = Board::builder().backend(storage.clone()).queue("default", 2);
        let board = builder.handler("x", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
        let core = Arc::clone(board.core());
        let first = board.push(NewTask::new("x", &())).await.unwrap();
        board.wait(first.task_id).await.unwrap();
        // Longer than it takes from here to the next line but one.
        storage.slow_down(Duration::from_millis(200));
        while core.lanes.try_lock().map(|lanes| lanes.release(true)).is_none() {
            tokio::task::yield_now().await;
        }
        let mut push = Box::pin(board.push(NewTask::new("x", &())));
        assert!(futures_util::FutureExt::now_or_never(&mut push).is_none(), "storage takes its time");
        let lanes = core.lanes.lock();
        assert_eq!(core.persistence.commits_in_flight(), 1);
        let tasks = || stored.counts().unwrap().iter().map(|count| count.tasks).sum::<u64>();
        while tasks() < 2 {
            std::thread::yield_now();
        }
        // The storage thread has the receipt, and waits for the lanes.
        for _ in 0..10_000 {
            std::thread::yield_now();
            assert_eq!(core.persistence.commits_in_flight(), 1, "nobody has its claims yet");
        }
        lanes.release(true);
        let second = push.await.unwrap();
        assert_eq!(board.wait(second.task_id).await.unwrap().state, TaskState::Completed);
        board.stop().await;
        assert_eq!(core.persistence.commits_in_flight(), 0);
    }

    #[actix_rt::test]
    async fn a_push_to_a_queue_at_rest_is_committed_by_whoever_pushes() {
        let board = Board::builder().queue("default", 2).start().await.unwrap();
        let core = board.core();
        while core.lanes.try_lock().map(|lanes| lanes.release(true)).is_none() {
            tokio::task::yield_now().await;
        }
        let mut push = Box::pin(board.push(NewTask::new("x", &())));
        let answer = futures_util::FutureExt::now_or_never(&mut push).expect("nobody else has to wake up").unwrap();
        assert_eq!(answer.state, TaskState::Pending, "nobody here has a handler for it");
        board.stop().await;
    }
}
