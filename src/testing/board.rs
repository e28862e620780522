//! A board for tests of programs that use callboard.

mod rest;
mod show;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use self::show::{failed, shown, shown_all};
use super::at;
use crate::backend::TaskFilter;
use crate::board::{Board, BoardBuilder};
use crate::clock::{Clock, Timestamp};
use crate::error::StartError;
use crate::runtime::core::Core;
use crate::runtime::supervise::beat;
use crate::runtime::worker::Task;
use crate::task::{TaskId, TaskRecord, TaskState};

/// No second node could take the tasks over, and a test may jump over centuries.
const LEASE: Duration = Duration::from_secs(1_000 * 365 * 24 * 3_600);

/// A [`Board`] on memory with a clock that moves by hand: a wait of an hour in production takes no time in a test.
///
/// The clock starts at 2026-01-01T00:00:00Z. Everything that a board does by time follows this clock: delays,
/// retries, expiry, timeouts, the public store, the timeout of a [`pop`](Board::pop).
///
/// A test must account for its tasks. Dropping the board stops it, threads included. The drop panics if any task is
/// neither completed, dead nor cancelled. [`leave_rest`](Self::leave_rest) declares that leftover tasks are intended.
///
/// ```
/// use std::time::Duration;
/// use callboard::testing::TestBoard;
/// use callboard::{Board, Context, Retry, Task, TaskResult, TaskState};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Fetch { page: u32 }
///
/// impl Task for Fetch {
///     const TYPE: &'static str = "fetch";
///     type Output = ();
///     fn retry() -> Retry { Retry::fixed(Duration::from_secs(3600)) }
///     async fn run(self, cx: &Context) -> TaskResult<()> {
///         if cx.attempt() == 1 { Err("busy".into()) } else { Ok(()) }
///     }
/// }
///
/// # actix_rt::System::new().block_on(async {
/// let board = TestBoard::start(Board::builder().task::<Fetch>()).await?;
/// let fetch = board.push(Fetch { page: 7 }).await.expect("pushed").task_id;
/// board.settle().await;
/// board.assert_state(fetch, TaskState::Retrying);
/// board.advance(Duration::from_secs(3600)).await;
/// board.assert_state(fetch, TaskState::Completed);
/// board.assert_pushed::<Fetch>(|fetch| fetch.page == 7);
/// # Ok::<(), callboard::StartError>(())
/// # }).expect("started");
/// ```
#[derive(Debug)]
pub struct TestBoard {
    board: Board,
    clock: Clock,
    started_at: Timestamp,
    /// Notified of every event.
    stirred: Arc<Notify>,
    leaves_rest: AtomicBool,
}

impl TestBoard {
    /// Starts the board that `builder` describes, but on memory and with its own clock.
    ///
    /// # Errors
    /// As [`BoardBuilder::start`].
    pub async fn start(builder: BoardBuilder) -> Result<Self, StartError> {
        let started_at = at(0);
        let clock = Clock::manual(started_at);
        let stirred = Arc::new(Notify::new());
        let bell = Arc::clone(&stirred);
        let builder = builder.on_memory().clock(clock.clone()).lease(LEASE).on_event(move |_| bell.notify_waiters());
        let board = builder.start().await?;
        Ok(Self { board, clock, started_at, stirred, leaves_rest: AtomicBool::new(false) })
    }

    /// The board.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The clock of the board. Set its wall clock to test a clock that is set back or forward. To let time pass, use
    /// [`advance`](Self::advance) or [`jump`](Self::jump).
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Lets time pass, and runs everything that is due in this time, in order. First, the tasks that may run now are
    /// run. Then each task runs at the moment at which it is due. So a task that retries every hour runs three times
    /// in three hours. Returns at the end of the span, when all these tasks have run.
    ///
    /// # Panics
    /// As [`settle`](Self::settle). Time cannot pass during a run that itself waits for the clock; see
    /// [`jump`](Self::jump).
    pub async fn advance(&self, span: Duration) {
        let end = self.clock.elapsed().saturating_add(span);
        loop {
            let due = self.settle_until_due().await;
            let left = end.saturating_sub(self.clock.elapsed());
            if left.is_zero() {
                return;
            }
            self.shift(due.map_or(left, |due| due.min(left)));
        }
    }

    /// Moves the clock at once, also during runs, and waits for nothing. It is meant for runs that wait for the
    /// clock, in a sleep or for their timeout. [`settle`](Self::settle) or [`Board::wait`] tell when they have ended.
    ///
    /// # Panics
    /// When storage fails.
    pub async fn jump(&self, span: Duration) {
        self.shift(span);
        self.sweep().await;
    }

    /// Waits until no task is left that may run now, no task runs, and every event has reached its subscribers. Tasks
    /// that this board does not run do not count: tasks of an unknown type, of a paused queue, or held by a
    /// [`Delivery`](crate::Delivery).
    ///
    /// # Panics
    /// When tasks have not come to rest after 120 s of real time; the message lists them.
    pub async fn settle(&self) {
        self.settle_until_due().await;
    }

    /// The tasks of a type that were pushed and not deleted, in push order and in any state.
    ///
    /// # Panics
    /// When the params of a task are no `T`.
    #[track_caller]
    pub fn pushed<T: Task>(&self) -> Vec<T> {
        let decode = |task: TaskRecord| match serde_json::from_str(&task.params) {
            Ok(params) => params,
            Err(error) => failed(&format!("{} is no {:?}: {error}", shown(&task), T::TYPE)),
        };
        self.list(&of_type::<T>()).into_iter().map(decode).collect()
    }

    /// Fails the test unless a task of type `T` was pushed for which `is_wanted` returns true.
    ///
    /// # Panics
    /// When there is no such task; the message lists the existing tasks.
    #[track_caller]
    pub fn assert_pushed<T: Task>(&self, is_wanted: impl FnMut(&T) -> bool) {
        if !self.pushed::<T>().iter().any(is_wanted) {
            let there = self.list(&of_type::<T>());
            failed(&format!("no such task of type {:?} was pushed; there are {}", T::TYPE, shown_all(&there)));
        }
    }

    /// Fails the test unless the task is in `state`.
    ///
    /// # Panics
    /// When it is in a different state, or does not exist.
    #[track_caller]
    pub fn assert_state(&self, task_id: TaskId, state: TaskState) {
        match self.core().backend.get(task_id) {
            Ok(Some(task)) if task.state == state => {}
            Ok(Some(task)) => failed(&format!("expected {state}, found {}", shown(&task))),
            Ok(None) => failed(&format!("expected {state}, but there is no task {task_id}")),
            Err(error) => failed(&format!("storage failed: {error}")),
        }
    }

    /// Declares that the test does not care about leftover tasks: dropping the board then does not fail the test.
    pub fn leave_rest(&self) {
        self.leaves_rest.store(true, Ordering::Relaxed);
    }

    fn core(&self) -> &Arc<Core> {
        self.board.core()
    }

    /// Moves the clock and renews the lease, before any part can find that the lease has run out.
    fn shift(&self, span: Duration) {
        self.clock.advance(span);
        if let Err(error) = beat(self.core(), self.started_at) {
            failed(&format!("storage failed: {error}"));
        }
    }
}

impl Deref for TestBoard {
    type Target = Board;
    fn deref(&self) -> &Board {
        &self.board
    }
}

impl Drop for TestBoard {
    fn drop(&mut self) {
        let stopped = self.stop_now();
        if std::thread::panicking() {
            // The test has already failed, and a second panic would end the process without the message of the test.
            return;
        }
        if let Err(error) = stopped {
            failed(&format!("the board could not be stopped: {error}"));
        }
        if !self.leaves_rest.load(Ordering::Relaxed) {
            let states = TaskState::ALL.iter().copied().filter(|state| !state.is_terminal()).collect();
            let rest = self.list(&TaskFilter { states, ..TaskFilter::default() });
            if !rest.is_empty() {
                failed(&format!(
                    "the test ends and leaves tasks; settle(), advance(), cancel() them, or leave_rest() if that is \
                     meant: {}",
                    shown_all(&rest)
                ));
            }
        }
    }
}

fn of_type<T: Task>() -> TaskFilter {
    TaskFilter { types: vec![T::TYPE.into()], ..TaskFilter::default() }
}
