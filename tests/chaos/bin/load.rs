//! A mixed load: every kind of push, and some cancels.

use std::sync::Arc;
use std::time::Duration;

use callboard::{Board, NewTask, PushError, Retry, TaskId, Unique, UniqueMode};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use uuid::Uuid;

use crate::Plan;
use crate::ledger::Ledger;

/// The number of tasks in a group.
const GROUP: usize = 5;
/// The longest pause between two pushes of a producer.
const PACE_MS: u64 = 5;

/// Runs the producers of the plan.
pub(crate) async fn produce(board: Board, plan: Plan, ledger: Arc<Ledger>) {
    let producers = (0..plan.producers).map(|number| {
        let rng = StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000).wrapping_add(number));
        let (board, plan, ledger) = (board.clone(), plan.clone(), Arc::clone(&ledger));
        Producer { board, plan, ledger, rng, pushed: Vec::new() }.work()
    });
    join_all(producers).await;
}

struct Producer {
    board: Board,
    plan: Plan,
    ledger: Arc<Ledger>,
    rng: StdRng,
    pushed: Vec<TaskId>,
}

impl Producer {
    async fn work(mut self) {
        let (mut done, pushes) = (0, self.plan.pushes);
        while pushes == 0 || done < pushes {
            done += 1;
            if !self.push().await {
                return;
            }
            if !self.pushed.is_empty() && self.rng.random_bool(0.05) {
                self.cancel().await;
            }
            // The load stays below the capacity of storage, so that the ledger does not grow too large for the test.
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..PACE_MS))).await;
        }
    }

    /// Pushes a task or a group; returns false when the board accepts no more pushes.
    async fn push(&mut self) -> bool {
        let count = if self.rng.random_bool(0.1) { GROUP } else { 1 };
        let ids: Vec<TaskId> = (0..count).map(|_| self.id()).collect();
        let tasks: Vec<NewTask> = ids.iter().map(|id| self.task(*id, count == 1)).collect();
        self.ledger.note("try", &ids);
        match self.board.push_many(tasks).await {
            Ok(pushed) => {
                let pushed: Vec<TaskId> = pushed.iter().map(|pushed| pushed.task_id).collect();
                self.ledger.note("ack", &pushed);
                self.pushed.extend(pushed);
            }
            Err(PushError::Closed) => return false,
            Err(error) => self.ledger.error("push", &error),
        }
        true
    }

    fn id(&mut self) -> TaskId {
        Uuid::from_u128(self.rng.random()).into()
    }

    fn task(&mut self, id: TaskId, alone: bool) -> NewTask {
        let kind = self.rng.random_range(0..100);
        let ms = self.rng.random_range(0..15);
        let plain = || NewTask::new("plain", &json!({"ms": ms}));
        let task = match kind {
            0..40 => plain(),
            40..50 => plain().delay(Duration::from_millis(ms * 40)).priority(1),
            50..65 => NewTask::new("flaky", &json!({"fail": ms % 4})).max_attempts(3),
            65..75 => NewTask::new("snooze", &json!({"ms": ms * 10})),
            75..80 => NewTask::new("fatal", &json!({})),
            80..95 if alone => self.unique(plain()),
            _ => plain().priority(-1),
        };
        task.task_id(id).retry(Retry::fixed(Duration::from_millis(20)))
    }

    fn unique(&mut self, task: NewTask) -> NewTask {
        let modes = [UniqueMode::ReturnExisting, UniqueMode::Replace, UniqueMode::KeepLatest];
        let mode = modes[self.rng.random_range(0..modes.len())];
        let key = format!("key {}", self.rng.random_range(0..4));
        task.unique(Unique::key(key).mode(mode)).delay(Duration::from_millis(self.rng.random_range(0..30)))
    }

    async fn cancel(&mut self) {
        // A recently pushed task, which is probably still waiting or running.
        let back = self.rng.random_range(0..self.pushed.len().min(8));
        let id = self.pushed[self.pushed.len() - 1 - back];
        self.ledger.note("cancel", &[id]);
        if let Err(error) = self.board.cancel(id, "by the load").await {
            self.ledger.error("cancel", &error);
        }
    }
}
