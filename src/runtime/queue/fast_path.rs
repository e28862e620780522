//! The lanes under their lock, and the fast path past the queue actor. A single holder has the lanes at a time: the
//! queue actor, or for a moment a caller that pushes or a thread that brings a receipt.
//!
//! A push on the inbox waits until the queue actor's thread has woken up, and its receipt waits for a second wake-up.
//! On a queue at rest, these waits are half of the time that a task needs to start. So a caller that pushes sends the
//! commit itself when there is nothing else to do. Where storage never blocks, the caller also makes the commit. The
//! storage thread that brings a receipt answers all waiting callers itself. Both call the same functions as the actor,
//! and leave to the actor everything out of the ordinary.

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

/// The lanes of a board, under their lock.
#[derive(Default)]
pub(crate) struct SharedLanes(Mutex<State>);

#[derive(Default)]
struct State {
    lanes: Lanes,
    /// A holder is changing the lanes, or panicked while it changed them. After a panic they may be half changed.
    in_hand: bool,
    /// The queue actor has left nothing undone, so that a push may be committed past it.
    at_rest: bool,
}

/// The locked lanes.
pub(crate) struct Hold<'a>(MutexGuard<'a, State>);

impl SharedLanes {
    /// Replaces the lanes of a dead queue actor with fresh lanes. They are made under the lock. Otherwise a push could
    /// get by between the count of running tasks and the lanes that rely on this count.
    pub(super) fn renew(&self, make: impl FnOnce(&Lanes) -> Lanes) {
        let mut state = self.0.lock();
        *state = State { lanes: make(&state.lanes), in_hand: false, at_rest: false };
    }

    /// Locks the lanes for the queue actor.
    ///
    /// # Panics
    /// When the last holder has panicked: the actor dies, and its successor makes the lanes anew.
    pub(super) fn lock(&self) -> Hold<'_> {
        let mut state = self.0.lock();
        assert!(!state.in_hand, "the lanes were left half changed by a panic; they are made anew");
        state.in_hand = true;
        Hold(state)
    }

    /// Turns away all callers that wait for a lane: the board has stopped.
    pub(crate) fn let_go(&self) {
        let mut state = self.0.lock();
        let mut waiting = std::mem::take(&mut state.lanes.quiet_watchers);
        let mut pullers = Vec::new();
        for lane in state.lanes.iter_mut() {
            waiting.append(&mut lane.idle_watchers);
            pullers.push(std::mem::take(&mut lane.pullers));
        }
        // Dropped after the lock is released, because the drop tells the callers.
        drop(state);
        drop((waiting, pullers));
    }

    /// Locks the lanes for a thread other than the queue actor's, if the actor is at rest and the lanes have no holder.
    fn try_lock(&self) -> Option<Hold<'_>> {
        Hold::for_guest(self.0.try_lock()?)
    }

    /// Like [`try_lock`](Self::try_lock), for a thread that may wait until the lanes are released.
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

    /// Releases the lanes in a consistent state. A hold that a panic drops instead leaves `in_hand` set.
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

/// The rules for a commit that is composed now.
pub(super) fn rules<'a>(core: &'a Core, limits: Option<&'a Arc<Limits>>) -> Rules<'a> {
    Rules {
        node: core.node,
        now: core.clock.now(),
        may_claim: core.may_claim(),
        types: core.registry.types(),
        limits,
    }
}

/// Sends a push of a single task to storage from the caller's thread, together with the gathered work. It does so if
/// the queue actor has nothing to do and storage has no commit. Otherwise it gives the push back.
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
    // A panic must not reach the application. It leaves `in_hand` set, and the actor that finds it set is replaced.
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

/// Delivers the receipt of a batch on the storage thread that brings it, if the lanes are free. So waiting callers need
/// not wait for the queue actor's thread to wake up as well. Returns the work that is left for the actor, if any.
pub(crate) fn deliver_here(core: &Arc<Core>, batch: Box<Batch>, receipt: Receipt) -> Option<Returned> {
    let Some(lanes) = core.lanes.lock_if_free() else { return Some(Returned::Batch(batch, Ok(receipt))) };
    // As in `send_here`, a panic leaves `in_hand` set. The queue actor is then told of the return and finds it set.
    let done = caught(|| deliver(core, lanes, batch, receipt)).unwrap_or(false);
    (!done).then_some(Returned::Delivered)
}

/// Answers all waiting callers and releases the lanes. False when the queue actor has something to do then; it must
/// also lower the count of commits in flight.
fn deliver(core: &Arc<Core>, mut lanes: Hold<'_>, batch: Box<Batch>, receipt: Receipt) -> bool {
    receipt::deliver(core, &mut lanes, *batch, receipt);
    // Called before the look: a caller that hands something in after the look must poke the actor.
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
        // The lanes are at rest once the queue actor has taken the end of the run.
        let held = loop {
            match core.lanes.try_lock() {
                Some(lanes) => break lanes,
                None => tokio::task::yield_now().await,
            }
        };
        drop(held);
        // The push is handed in at the inbox, and the queue actor that looks there finds the lanes as they were left.
        let second = board.push(NewTask::new("x", &())).await.unwrap();
        assert_eq!(board.wait(second.task_id).await.unwrap().state, TaskState::Completed);
        let health = board.health().await;
        let queue = health.parts.iter().find(|part| part.part == Part::Queue).unwrap();
        assert_eq!(queue.restarts, 1);
        board.stop().await;
    }

    /// The count of commits in flight must not drop before the lanes have the receipt. Otherwise a queue actor that
    /// starts at this moment would give back the claims of the receipt.
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
        // Longer than the test takes to push below and to lock the lanes.
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
