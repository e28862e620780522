//! Producers that await each push.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_rt::task::JoinHandle;
use callboard::{Board, NewTask, PushError, TaskId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Plan;
use super::note::{Ledger, Note};
use super::tasks::{self, Made};

const GROUP: usize = 5;
/// The longest pause between two pushes of a producer. The load stays below the capacity of storage, so that the
/// ledgers stay small.
const PACE_MS: u64 = 60;

/// Recently pushed tasks, which may be edited.
pub(crate) type Lately = Arc<Mutex<VecDeque<TaskId>>>;

/// Runs the producers of the plan.
pub(crate) fn produce(
    board: &Board,
    plan: &Plan,
    ledger: &Arc<Ledger>,
    lately: &Lately,
    ended: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    let producer = |number| Producer {
        board: board.clone(),
        ledger: Arc::clone(ledger),
        rng: StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000).wrapping_add(number)),
        lately: Arc::clone(lately),
        ended: Arc::clone(ended),
    };
    (0..plan.producers).map(|number| actix_rt::spawn(producer(number).work())).collect()
}

struct Producer {
    board: Board,
    ledger: Arc<Ledger>,
    rng: StdRng,
    lately: Lately,
    ended: Arc<AtomicBool>,
}

/// True for an error that a storage fault may cause. It is then unknown whether the tasks of the push are stored.
pub(crate) fn is_open(error: &PushError) -> bool {
    match error {
        PushError::Unknown => true,
        PushError::Storage(error) | PushError::Transaction(error) => error.is_transient(),
        _ => false,
    }
}

impl Producer {
    async fn work(mut self) {
        while !self.ended.load(Ordering::Acquire) && self.push().await {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..PACE_MS))).await;
        }
    }

    fn choose(&mut self) -> Vec<Made> {
        match self.rng.random_range(0..10) {
            0 => (0..GROUP).map(|_| tasks::plain(&mut self.rng)).collect(),
            // Several hot keys in a single transaction, in any order.
            1 => {
                let mut group = vec![tasks::unique(&mut self.rng), tasks::unique(&mut self.rng)];
                // Without `mixed` keys, because a rejection would apply to the whole group.
                group.retain(|made| !made.wanted.key.as_ref().is_some_and(|key| key.starts_with("mixed")));
                group
            }
            2..4 => vec![tasks::unique(&mut self.rng)],
            _ => vec![tasks::plain(&mut self.rng)],
        }
    }

    /// Pushes a task or a group; returns false when the board accepts no more pushes.
    async fn push(&mut self) -> bool {
        let made = self.choose();
        let ids: Vec<TaskId> = made.iter().map(|made| made.wanted.id).collect();
        let tasks: Vec<NewTask> = made.iter().map(|made| made.task.clone()).collect();
        self.ledger.note(Note::Pushing { tasks: made.iter().map(|made| made.wanted.clone()).collect() });
        loop {
            match self.board.push_many(tasks.clone()).await {
                Ok(pushed) => {
                    let got: Vec<TaskId> = pushed.iter().map(|pushed| pushed.task_id).collect();
                    self.remember(&made);
                    self.ledger.note(Note::Pushed { ids, got });
                    return true;
                }
                Err(PushError::Closed) => return false,
                Err(PushError::UniqueKeyHeld { .. }) if ids.len() == 1 => {
                    self.ledger.note(Note::Refused { id: ids[0] });
                    return true;
                }
                Err(error) if is_open(&error) => {
                    // With the same ids a retry gives the same tasks, whether or not they were stored the first time.
                    if self.ended.load(Ordering::Acquire) || self.rng.random_bool(0.5) {
                        self.ledger.note(Note::Open { ids });
                        return true;
                    }
                }
                Err(error) => {
                    self.ledger.error("push", &error);
                    return true;
                }
            }
        }
    }

    /// Remembers only tasks without a unique key for edits. For a `keep_latest` key the latest task is promised to run.
    /// A cancellation would excuse a missing run, so that the judge could not find the fault.
    fn remember(&self, made: &[Made]) {
        let mut lately = self.lately.lock().expect("nobody panics with it");
        lately.extend(made.iter().filter(|made| made.wanted.key.is_none()).map(|made| made.wanted.id));
        let over = lately.len().saturating_sub(100);
        lately.drain(..over);
    }
}
