//! The promises of a board to an application, call by call, on storage in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod board;
mod bounds;
mod edits;
mod event_order;
mod events;
mod handlers;
mod health;
mod last_chance;
#[cfg(feature = "sqlite")]
mod limit_tables;
mod limits;
mod misuse;
mod names;
mod overdue;
#[cfg(feature = "sqlite")]
mod panics;
mod progress;
mod pushes;
mod queues;
mod stop;
mod supervision;
mod test_board;
mod unrun;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use callboard::testing::TestBoard;
use callboard::{Board, BoardBuilder, BoxError, Pushed, TaskId, TaskState};
use tokio::sync::{Semaphore, mpsc};

const HOUR: Duration = Duration::from_secs(3600);

async fn start(builder: BoardBuilder) -> TestBoard {
    TestBoard::start(builder).await.unwrap()
}

/// Awaits `work`, and fails the test at a time limit. The limit is generous: work that exceeds it would never end.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(90), work).await.expect("no answer in time")
}

/// Tasks of type `held`. Each run reports its start, and ends when the test grants a permit.
struct Held {
    begun: mpsc::UnboundedReceiver<TaskId>,
    go: Arc<Semaphore>,
}

impl Held {
    fn new() -> (Self, BoardBuilder) {
        let (tell, begun) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&go);
        let builder = Board::builder().handler("held", move |_, cx| {
            tell.send(cx.task_id()).ok();
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await?.forget();
                Ok::<_, BoxError>(())
            }
        });
        (Self { begun, go }, builder)
    }

    /// Waits for the next run to begin, and returns its task.
    async fn begun(&mut self) -> TaskId {
        soon(self.begun.recv()).await.unwrap()
    }

    fn let_go(&self, tasks: usize) {
        self.go.add_permits(tasks);
    }
}

async fn count(board: &Board, state: TaskState) -> u64 {
    board.counts().await.unwrap().iter().filter(|count| count.state == state).map(|count| count.tasks).sum()
}

fn ids(pushed: &[Pushed]) -> Vec<TaskId> {
    pushed.iter().map(|pushed| pushed.task_id).collect()
}
