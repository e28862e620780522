//! A node of the torture program (`tests/torture`). It pushes in every way, edits tasks, and runs schedules of every
//! policy. It notes all of this in its own ledger, outside the database.

#![allow(dead_code, reason = "the process and the test that starts it each use a part")]

pub(crate) mod edits;
pub(crate) mod handlers;
pub(crate) mod load;
pub(crate) mod note;
pub(crate) mod schedules;
pub(crate) mod tasks;
pub(crate) mod transactions;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callboard::{Board, BoardBuilder, BoardError, Event, StartError, TaskState};
use serde::{Deserialize, Serialize};

use note::{Ledger, Note};

/// Queues with their concurrency on each node. Only `held` is ever paused.
pub(crate) const QUEUES: [(&str, usize); 4] = [("default", 8), ("side", 4), ("held", 4), ("ticks", 12)];
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// The interval at which a node checks storage without a wake-up.
pub(crate) const CHECK: Duration = Duration::from_secs(1);

/// The longest wait for a drain.
const DRAIN: Duration = Duration::from_secs(20);

/// The plan of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) url: String,
    /// The URL with which Diesel opens the same database, for the application's own transactions.
    pub(crate) app_url: Option<String>,
    /// The ledger file, used by this process alone.
    pub(crate) ledger: PathBuf,
    /// The number of producers. A node with zero producers only runs the tasks that are left, and ends when none are
    /// left.
    pub(crate) producers: u64,
    pub(crate) seed: u64,
    /// How far its clock is ahead of the machine's clock, in milliseconds.
    pub(crate) clock_ahead_ms: i64,
}

/// A board under load.
pub(crate) struct Member {
    pub(crate) board: Board,
    pub(crate) ledger: Arc<Ledger>,
    ended: Arc<AtomicBool>,
    work: Vec<actix_rt::task::JoinHandle<()>>,
    transactions: Option<std::thread::JoinHandle<()>>,
}

/// Starts a board with retries, like a service manager. On a busy machine a server may not accept a session before its
/// timeout.
async fn start_in_the_end(builder: impl Fn() -> BoardBuilder) -> Result<Board, StartError> {
    let mut tries = 0..5;
    loop {
        match builder().start().await {
            Err(StartError::Storage(error)) if error.is_transient() && tries.next().is_some() => {}
            outcome => return outcome,
        }
    }
}

impl Member {
    /// Starts the board and its load.
    pub(crate) async fn start(plan: &Plan, builder: impl Fn() -> BoardBuilder) -> Result<Self, StartError> {
        let ledger = Arc::new(Ledger::open(&plan.ledger)?);
        let board = start_in_the_end(|| describe(plan, builder(), &ledger)).await?;
        ledger.note(Note::Node { node: board.node() });
        let ended = Arc::<AtomicBool>::default();
        let mut work = vec![actix_rt::spawn(watch::watch(board.clone(), Arc::clone(&ledger), Arc::clone(&ended)))];
        let mut transactions = None;
        if plan.producers > 0 {
            let (pushed, done) = (Arc::default(), Arc::clone(&ended));
            work.extend(load::produce(&board, plan, &ledger, &pushed, &done));
            work.push(actix_rt::spawn(edits::produce(board.clone(), plan.seed, Arc::clone(&ledger), pushed, done)));
            transactions = transactions::produce(&board, plan, &ledger, &ended);
        }
        Ok(Self { board, ledger, ended, work, transactions })
    }

    /// Ends the load and stops the board, even while work is in flight.
    pub(crate) async fn stop(self) {
        self.ended.store(true, Ordering::Release);
        self.board.stop().await;
        for work in self.work {
            drop(work.await);
        }
        if let Some(transactions) = self.transactions {
            drop(actix_rt::task::spawn_blocking(|| transactions.join()).await);
        }
        self.ledger.note(Note::Stopped {});
    }

    /// Executes a command of the test, and notes when it is done.
    pub(crate) async fn obey(board: &Board, ledger: &Ledger, order: &str) -> Result<(), BoardError> {
        match order.split_once(' ') {
            Some(("drain", queue)) => {
                repeated(async || board.pause(queue.to_owned()).await).await?;
                ledger.note(Note::Paused { queue: queue.into() });
                // Storage may be unavailable for long; the pause holds nevertheless.
                let drain = repeated(async || board.drain(queue.to_owned()).await);
                if let Ok(drained) = tokio::time::timeout(DRAIN, drain).await {
                    drained?;
                    ledger.note(Note::Drained { queue: queue.into() });
                }
            }
            Some(("resume", queue)) => {
                ledger.note(Note::Resuming { queue: queue.into() });
                repeated(async || board.resume(queue.to_owned()).await).await?;
            }
            _ => return Err(BoardError::Invalid(format!("an unknown order: {order}"))),
        }
        Ok(())
    }
}

/// Retries while storage is unavailable.
async fn repeated(work: impl AsyncFn() -> Result<(), BoardError>) -> Result<(), BoardError> {
    loop {
        match work().await {
            Err(BoardError::Storage(error)) if error.is_transient() => {}
            done => return done,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn describe(plan: &Plan, mut builder: BoardBuilder, ledger: &Arc<Ledger>) -> BoardBuilder {
    let facts = Arc::clone(ledger);
    // With a short deadline, many pushes end without an answer during an outage.
    let push = Duration::from_secs(if plan.producers > 0 { 2 } else { 60 });
    builder = builder
        .lease(LEASE)
        .drain(Duration::from_millis(1_000))
        .cancel_grace(Duration::from_millis(500))
        .configure(|c| (c.check_interval, c.push_deadline) = (CHECK, push))
        .on_event(move |event| match event {
            Event::Rescued(fact) => facts.note(Note::Rescued { task: fact.task_id }),
            Event::Fenced(fact) => facts.note(Note::Fenced { task: fact.task_id }),
            _ => {}
        });
    if plan.url != "memory:" {
        builder = builder.url(&plan.url);
    }
    for (queue, concurrency) in QUEUES {
        builder = builder.queue(queue, concurrency);
    }
    if plan.clock_ahead_ms != 0 {
        builder = builder.clock(callboard::testing::skewed(plan.clock_ahead_ms * 1_000));
    }
    if plan.producers > 0 {
        builder = schedules::KINDS.iter().fold(builder, |builder, kind| builder.schedule(kind.schedule()));
    }
    handlers::register(builder, ledger)
}

/// Resolves when all tasks are in a terminal state.
pub(crate) async fn nothing_left(board: &Board) {
    loop {
        if let Ok(counts) = board.counts().await
            && counts.iter().all(|count| TaskState::is_terminal(count.state))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
