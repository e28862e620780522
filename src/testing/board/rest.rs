//! Detects when a board has come to rest, and stops a board from any thread.

use std::time::Duration;

use tokio::sync::oneshot;

use super::TestBoard;
use super::show::{failed, shown_all};
use crate::backend::{Cursor, Limits, TaskFilter, TaskOrder};
use crate::clock::Clock;
use crate::limit::Labels;
use crate::runtime::maintenance;
use crate::runtime::queue::AwaitIdle;
use crate::runtime::scheduler::{self, RoundEnd};
use crate::task::{TaskRecord, TaskState};

/// Real time that tasks get to come to rest. After that the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Real time after which the state is read again, even if no event reported a change.
const LOOK: Duration = Duration::from_millis(5);
/// Tasks read at a time.
const PAGE: usize = 1_000;

impl TestBoard {
    /// As [`settle`](Self::settle). Returns the time from now to the next due moment.
    pub(super) async fn settle_until_due(&self) -> Option<Duration> {
        let real = Clock::system();
        loop {
            let stirred = self.stirred.notified();
            let mut stirred = std::pin::pin!(stirred);
            // Registered before the state is read, so that a change in between is not missed.
            stirred.as_mut().enable();
            // A task that still runs during upkeep may end later and become due again at a time that upkeep cannot
            // know.
            let was_quiet = self.busy().is_empty();
            let due = self.sweep().await;
            let busy = self.busy();
            // Storage knows the end of a run a moment before the queue reports it. A mailbox is read in order, so
            // this answer comes after the turn that reports it.
            drop(self.core().queue.ask(AwaitIdle(None)).await);
            // In that turn, throttled tasks may have been claimed.
            let busy = if busy.is_empty() { self.busy() } else { busy };
            // A run that began and ended between the two reads has sent events. They have all arrived when `all_told`
            // is true.
            let all_told = self.core().events.all_arrived();
            if was_quiet && busy.is_empty() && all_told && !stirred.as_mut().enable() {
                // Claims set this value, and they may have come after the round.
                let held = self.core().throttled.next().map(|until| until.since(self.clock.now()));
                return due.into_iter().chain(held).min();
            }
            if real.elapsed() > PATIENCE {
                failed(&format!(
                    "after {PATIENCE:?} these still wait or run, or a subscriber to events does not answer; \
                     for a run that waits for the clock use jump(): {}",
                    shown_all(&busy)
                ));
            }
            futures_util::future::select(stirred, self.pause()).await;
        }
    }

    /// Runs rounds of upkeep until nothing more is due now. Returns the time to the next due moment.
    pub(super) async fn sweep(&self) -> Option<Duration> {
        loop {
            match scheduler::round(self.core()).await {
                Ok(RoundEnd::MoreDue) => {}
                Ok(RoundEnd::NothingDue | RoundEnd::Held) => break,
                Err(error) => failed(&format!("storage failed: {error}")),
            }
        }
        loop {
            match maintenance::sweep(self.core()).await {
                Ok(report) if report.more => {}
                Ok(report) => {
                    let task = report.next_due.map(|due| due.since(self.clock.now()));
                    let now = self.clock.elapsed();
                    let deliveries = self.core().deliveries.lock();
                    let deliveries = deliveries.values().filter_map(|held| held.deadline?.checked_sub(now));
                    let schedule = self.core().due_list.next().map(|due| due.since(self.clock.now()));
                    return deliveries.chain(task).chain(schedule).min();
                }
                Err(error) => failed(&format!("storage failed: {error}")),
            }
        }
    }

    /// Some of the tasks that run here, or that could run here.
    fn busy(&self) -> Vec<TaskRecord> {
        let core = self.core();
        let settings = core.backend.queues().unwrap_or_default();
        let is_run = |queue: &str, configured: usize| {
            let own = settings.iter().find(|own| own.queue == *queue);
            !own.is_some_and(|own| own.paused) && own.and_then(|own| own.concurrency).unwrap_or(configured) > 0
        };
        let queues = core.config.queues.iter().filter(|(name, configured)| is_run(name, *configured));
        let queues: Vec<_> = queues.map(|(name, _)| name.to_string()).collect();
        let types: Vec<_> = core.registry.types().iter().map(ToString::to_string).collect();
        let mut busy = Vec::new();
        // An empty list would mean any.
        if !queues.is_empty() && !types.is_empty() {
            let states = vec![TaskState::Pending];
            let limits = Limits::new(core.backend.limits().unwrap_or_default());
            let mut pending = self.list(&TaskFilter { states, queues, types, ..TaskFilter::default() });
            // Tasks that the last claim left throttled wait for time to pass, or for the end of a task.
            pending.retain(|task| {
                let limited = limits.as_ref().is_some_and(|limits| limits.touch(labels(task)));
                !(limited && core.throttled.is_held(&task.queue))
            });
            busy.extend(pending);
        }
        // Running tasks are read after pending tasks. A task that starts between the two reads is then seen twice,
        // and not missed.
        let running = TaskFilter { states: vec![TaskState::Running], ..TaskFilter::default() };
        let mut running = self.list(&running);
        running.retain(|task| !core.deliveries.lock().contains_key(&task.task_id));
        busy.extend(running);
        busy
    }

    pub(super) fn list(&self, filter: &TaskFilter) -> Vec<TaskRecord> {
        let (mut tasks, mut after): (_, Option<Cursor>) = (Vec::new(), None);
        loop {
            match self.core().backend.list(filter, TaskOrder::OldestFirst, after, PAGE) {
                Ok(page) => {
                    tasks.extend(page.tasks);
                    after = page.next;
                }
                Err(error) => failed(&format!("storage failed: {error}")),
            }
            if after.is_none() {
                return tasks;
            }
        }
    }

    /// Resolves after a moment of real time.
    fn pause(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        if let Some(home) = self.core().home.get() {
            home.spawn(async move {
                tokio::time::sleep(LOOK).await;
                drop(tell);
            });
        }
        told
    }

    /// Stops the board from any thread, without waiting for a run that does not end.
    pub(super) fn stop_now(&self) -> std::io::Result<()> {
        let (board, clock) = (self.board.clone(), self.clock.clone());
        let limit = board.core().config.drain.saturating_add(board.core().config.cancel_grace);
        // An executor cannot be entered twice on the same thread, and this thread is in the middle of a test.
        let stop = move || -> std::io::Result<()> {
            let hurry = async {
                loop {
                    tokio::time::sleep(LOOK).await;
                    clock.advance(limit.saturating_add(Duration::from_secs(5)));
                }
            };
            tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
                tokio::select! {
                    () = board.stop() => {}
                    () = hurry => {}
                }
            });
            Ok(())
        };
        let thread = std::thread::Builder::new().name("callboard-stop".into()).spawn(stop)?;
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the stop panicked")))
    }
}

fn labels(task: &TaskRecord) -> Labels<'_> {
    Labels { queue: &task.queue, kind: &task.kind, key: task.limit_key.as_deref() }
}
