//! A load on a board of this process, and the ledger that checks it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix_rt::task::JoinHandle;
use callboard::backend::BackendError;
use callboard::{
    Board, BoardBuilder, Context, Event, ExecutionStatus, NewTask, Outcome, PushError, Retry, TaskError, TaskId,
    TaskState,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::Rng;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ledger::{Ledger, Stored};
use crate::waiting::{eventually, soon};

const PRODUCERS: usize = 4;
const GROUP: usize = 3;

/// State that the producers and the handlers share.
#[derive(Default)]
struct Notes {
    ledger: Mutex<Ledger>,
    ended: AtomicBool,
    /// Pushes with an unknown outcome. They were repeated with the same ids.
    unknown: AtomicUsize,
    fenced: AtomicUsize,
}

/// A board with producers that repeat each push until it is acknowledged.
pub(crate) struct Load {
    pub(crate) board: Board,
    notes: Arc<Notes>,
    producers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts with a lease that outlasts the test. So no task is rescued, and no task may run twice.
    pub(crate) async fn start(url: &str) -> Self {
        let notes = Arc::<Notes>::default();
        // Retry, because a busy machine may fail to connect in time.
        let board = eventually("a start", async || {
            let told = |error: &_| println!("not started: {error}");
            builder(url, &notes).start().await.inspect_err(told).ok()
        })
        .await;
        let producer = |_| actix_rt::spawn(produce(board.clone(), Arc::clone(&notes)));
        let producers = (0..PRODUCERS).map(producer).collect();
        Self { board, notes, producers }
    }

    /// Number of pushes with an unknown outcome.
    pub(crate) fn unknown(&self) -> usize {
        self.notes.unknown.load(Ordering::Relaxed)
    }

    /// Adds tasks to the ledger that the producers have not pushed.
    pub(crate) fn expect(&self, tasks: impl Iterator<Item = TaskId>) {
        self.notes.ledger.lock().tried.extend(tasks);
    }

    /// Waits until 5 more tasks have been acknowledged and 5 more tasks have started.
    pub(crate) async fn goes_on(&self) {
        let count = || {
            let ledger = self.notes.ledger.lock();
            (ledger.acknowledged.len(), ledger.runs.len())
        };
        let (acknowledged, runs) = count();
        eventually("the load goes on", async || {
            let now = count();
            (now.0 >= acknowledged + 5 && now.1 >= runs + 5).then_some(())
        })
        .await;
    }

    /// Ends the load, waits until all tasks have run, and compares the ledger with the rows at `url`.
    pub(crate) async fn end(self, url: &str) {
        self.notes.ended.store(true, Ordering::Release);
        soon("the producers' end", join_all(self.producers)).await;
        let board = &self.board;
        eventually("everything has run", async || {
            let counts = board.counts().await.ok()?;
            counts.iter().all(|count| count.state.is_terminal()).then_some(())
        })
        .await;
        let (last, task) = task(&mut rand::rng());
        soon("one more push", push(board, &self.notes, HashMap::from([(last, task)]))).await;
        assert_eq!(soon("one more", board.wait(last)).await.unwrap().state, TaskState::Completed);
        soon("the stop", board.stop()).await;
        let ledger = &mut *self.notes.ledger.lock();
        ledger.tried.insert(last);
        let stored = Stored::at(url);
        let extra = stored.check(ledger);
        println!(
            "{} tasks, {} runs, {} pushes repeated because their outcome was unknown",
            stored.tasks.len(),
            ledger.runs.values().sum::<usize>(),
            self.notes.unknown.load(Ordering::Relaxed),
        );
        assert_eq!((extra, stored.runs(ExecutionStatus::Lost)), (0, 0), "runs more than once, lost runs");
        assert_eq!(self.notes.fenced.load(Ordering::Relaxed), 0, "outcomes were refused");
    }
}

fn builder(url: &str, notes: &Arc<Notes>) -> BoardBuilder {
    let (runs, facts) = (Arc::clone(notes), Arc::clone(notes));
    Board::builder()
        .url(url)
        .lease(Duration::from_secs(300))
        // The deadline is so short that the producers see most failures.
        .configure(|c| c.push_deadline = Duration::from_millis(1))
        .on_event(move |event| {
            if let Event::Fenced(_) = event {
                facts.fenced.fetch_add(1, Ordering::Relaxed);
            }
        })
        .handler("work", move |params, cx| work(Arc::clone(&runs), params, cx))
}

/// Runs for a few milliseconds. Some tasks fail in their first attempt.
async fn work(notes: Arc<Notes>, params: Value, cx: Context) -> callboard::TaskResult {
    *notes.ledger.lock().runs.entry(cx.task_id()).or_default() += 1;
    tokio::time::sleep(Duration::from_millis(params["ms"].as_u64().unwrap_or(0))).await;
    if params["fails"] == true && cx.attempt() == 1 {
        return Err(TaskError::new("not yet").into());
    }
    Ok(Outcome::done())
}

async fn produce(board: Board, notes: Arc<Notes>) {
    while !notes.ended.load(Ordering::Acquire) {
        let tasks: HashMap<TaskId, NewTask> = {
            let rng = &mut rand::rng();
            let count = if rng.random_bool(0.2) { GROUP } else { 1 };
            (0..count).map(|_| task(rng)).collect()
        };
        let ids: Vec<TaskId> = tasks.keys().copied().collect();
        {
            let mut ledger = notes.ledger.lock();
            ledger.tried.extend(&ids);
            if ids.len() > 1 {
                ledger.groups.push(ids.clone());
            }
        }
        push(&board, &notes, tasks).await;
        notes.ledger.lock().acknowledged.extend(ids);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn task(rng: &mut impl Rng) -> (TaskId, NewTask) {
    let id: TaskId = Uuid::from_u128(rng.random()).into();
    let params = json!({"ms": rng.random_range(0..10), "fails": rng.random_bool(0.1)});
    (id, NewTask::new("work", &params).task_id(id).retry(Retry::fixed(Duration::from_millis(20))))
}

/// Repeats a push with the same ids until it is acknowledged. An unexpected error goes into the ledger and ends the
/// push.
async fn push(board: &Board, notes: &Notes, tasks: HashMap<TaskId, NewTask>) {
    loop {
        let error = match board.push_many(tasks.values().cloned()).await {
            Ok(pushed) => {
                assert!(pushed.iter().all(|pushed| tasks.contains_key(&pushed.task_id)), "another task: {pushed:?}");
                return;
            }
            Err(error) => error,
        };
        match &error {
            PushError::Unknown | PushError::Storage(BackendError::Unknown { .. }) => {
                notes.unknown.fetch_add(1, Ordering::Relaxed);
            }
            PushError::Storage(BackendError::Transient { .. }) => {}
            _ => return notes.ledger.lock().errors.push(error.to_string()),
        }
    }
}
