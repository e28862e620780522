//! A single run of a task: caught panics, timeout, cancellation, and the settlement that follows from its end.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, LocalBoxFuture};
use slog::{debug, info, warn};

use super::{CancelReason, Context, Handle, RunThread, Slot};
use crate::backend::{Claimed, Settlement};
use crate::logging::keys;
use crate::panics::{self, let_go, said};
use crate::runtime::core::{Core, Stage};
use crate::runtime::events::Fact;
use crate::runtime::persistence::ListExecutions;
use crate::runtime::queue::delivery::{self, ended, released};
use crate::runtime::queue::inbox::{Holder, SettleRequest};
use crate::runtime::queue::uncertain::is_written;
use crate::task::{ExecutionStatus, Outcome, RunResult, TaskError, TaskState};

/// Runs a claimed task and hands in its settlement.
pub(crate) async fn run(core: &Arc<Core>, claimed: Claimed, slot: &Arc<Slot>) {
    let cx = Context::new(Arc::clone(core), claimed, core.clock.now());
    let Some(handler) = core.registry.get(&cx.task().kind) else {
        core.give_back(cx.claimed().clone(), Holder::Worker);
        slot.clear();
        return;
    };
    if core.lease_has_lapsed() {
        // The process stood still, or storage was away. A different node may have taken the task by now.
        core.give_back(cx.claimed().clone(), Holder::Worker);
        slot.clear();
        return;
    }
    slot.set(cx.clone());
    let guard = Guard { core, slot };
    core.events.publish(|| Fact::started(cx.claimed(), cx.started_at()));
    let end = supervise(core, handler, &cx).await;
    let thread = outlasting(&cx, &end);
    if let Some(thread) = thread
        && is_counted(core, &cx)
    {
        Box::pin(freed(core, thread)).await;
    }
    cx.close_log();
    let stored = match cx.completed() {
        None => None,
        Some(settlement) => Box::pin(if_written(core, &cx, settlement)).await,
    };
    // Rarely needed futures are boxed, and the settlement request is built between two awaits. Otherwise the future of
    // each worker would reserve room for all of it, and each run would copy it.
    if let Some(rest) = hand_in_end(core, handler, &cx, slot, end, stored, thread) {
        rest.await;
    }
    guard.disarm();
}

/// Hands in the end of a run. Returns the remaining work if the run's thread goes on.
fn hand_in_end<'a>(
    core: &'a Core,
    handler: &dyn Handle,
    cx: &'a Context,
    slot: &'a Slot,
    end: End,
    stored: Option<Box<Settlement>>,
    thread: Option<&'a RunThread>,
) -> Option<LocalBoxFuture<'a, ()>> {
    let (settlement, holder) = match stored {
        Some(settlement) => (told(core, cx, *settlement, &end), Holder::WorkerDone),
        None => (settle(core, handler, cx, end), Holder::Worker),
    };
    let request = SettleRequest { settlement, spec: Arc::clone(&cx.claimed().spec), holder };
    match thread.filter(|thread| thread.outlasts()) {
        None => {
            hand_in(core, slot, request);
            None
        }
        Some(thread) => Some(Box::pin(settle_before_thread(core, cx, slot, thread, request))),
    }
}

/// Hands in the settlement of a run and empties its slot, in a single step. A claim must be held somewhere at every
/// moment, because a reconciliation releases claims that are held nowhere.
#[inline]
fn hand_in(core: &Core, slot: &Slot, request: SettleRequest) {
    core.inbox.hand_in(|g| {
        g.settles.push(request);
        slot.clear();
    });
}

/// The thread of a blocking run that was given up, if the thread goes on: it cannot be ended from outside.
fn outlasting<'a>(cx: &'a Context, end: &End) -> Option<&'a RunThread> {
    let given_up = matches!(end, End::TimedOut(_) | End::Dropped);
    let thread = cx.thread().filter(|thread| given_up && thread.outlasts())?;
    warn!(
        cx.log(),
        "the run is given up and its thread goes on, in its place in the queue until it ends: let the handler look \
        at is_cancelled()"
    );
    Some(thread)
}

/// True if a limit over all nodes counts the run until it is settled.
fn is_counted(core: &Core, cx: &Context) -> bool {
    core.limits.lock().as_ref().is_some_and(|limits| limits.hold_room_of(cx.task()))
}

/// Resolves when the thread is free or the board stops. A stop does not wait for the thread, because the thread cannot
/// be ended from outside.
async fn freed(core: &Core, thread: &RunThread) {
    let mut stage = core.stage.subscribe();
    tokio::select! {
        () = thread.freed() => {}
        () = async { stage.wait_for(|stage| *stage > Stage::Running).await.ok(); } => {}
    }
}

/// Hands in the end of a run whose thread goes on, because its task must not wait for the thread. The run's place in
/// the lane is given back later, when the thread is free.
async fn settle_before_thread(core: &Core, cx: &Context, slot: &Slot, thread: &RunThread, request: SettleRequest) {
    let SettleRequest { settlement, spec, holder } = request;
    let place = SettleRequest { settlement: settlement.clone(), spec: Arc::clone(&spec), holder: Holder::WorkerDone };
    core.inbox.hand_in(|g| {
        if matches!(holder, Holder::Worker) {
            g.settles.push(SettleRequest { settlement, spec, holder: Holder::WorkerStays });
        }
        slot.outlasted(cx.clone());
    });
    freed(core, thread).await;
    hand_in(core, slot, place);
}

/// The settlement that storage has already, because a transaction of the handler wrote it and has committed.
///
/// A transaction that was rolled back leaves the task running under its token. A fenced transaction leaves nothing. In
/// both cases the run is settled like any other run. The same holds when storage cannot be asked, because storage
/// refuses the second of two settlements.
async fn if_written(core: &Core, cx: &Context, settlement: Settlement) -> Option<Box<Settlement>> {
    let executions = core.ask(ListExecutions { task_id: cx.task_id() }).await;
    let executions = executions.inspect_err(|error| {
        warn!(core.log, "whether the transaction of a run has committed cannot be found out, so the run is settled anew";
            keys::TASK_ID => %cx.task_id(), keys::ERROR => %error);
    });
    is_written(&settlement, &executions.ok()?).then(|| Box::new(settlement))
}

/// Publishes an end that storage has already, and ends the waits for the task.
fn told(core: &Core, cx: &Context, settlement: Settlement, end: &End) -> Settlement {
    if let End::Returned(Err(error)) = end {
        warn!(core.log, "a run failed after it had completed its task"; keys::TASK_ID => %cx.task_id(),
            keys::TYPE => cx.task().kind.as_str(), keys::ERROR => error.message());
    }
    core.events.publish(|| Fact::settled(&settlement, &cx.claimed().spec));
    core.awaited.ended(cx.task_id());
    // Tasks that waited for this task may be free now.
    core.look_for_work();
    settlement
}

/// If the worker itself dies during a run, the run counts as failed.
struct Guard<'a> {
    core: &'a Arc<Core>,
    slot: &'a Slot,
}

impl Guard<'_> {
    /// The run has ended, so the guard has nothing left to do.
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(cx) = self.slot.outlasting() {
            // The run is settled, so only its place in the lane has to be given back.
            let (settlement, spec) = (released(cx.claimed()), Arc::clone(&cx.claimed().spec));
            hand_in(self.core, self.slot, SettleRequest { settlement, spec, holder: Holder::WorkerDone });
        }
        // The slot is empty when the board stops and has already taken the run back.
        if let Some(cx) = self.slot.context() {
            let error = TaskError::new("its worker died");
            let settlement = failure(self.core, None, &cx, &error, ExecutionStatus::Failed);
            let spec = Arc::clone(&cx.claimed().spec);
            hand_in(self.core, self.slot, SettleRequest { settlement, spec, holder: Holder::Worker });
        }
    }
}

/// How a run ended.
enum End {
    Returned(RunResult),
    TimedOut(Duration),
    /// The run was asked to end, and did not end within the grace time.
    Dropped,
}

async fn supervise(core: &Core, handler: &dyn Handle, cx: &Context) -> End {
    // The deadline counts from here and not from the first await, because the time before that await belongs to the run
    // too.
    let deadline = cx.task().timeout.map(|timeout| core.clock.elapsed().saturating_add(timeout));
    // The handler may also panic before it returns its future.
    let mut work = match panics::caught(|| handler.run(cx.clone())) {
        Ok(work) => Work(Some(AssertUnwindSafe(work).catch_unwind())),
        Err(text) => return End::Returned(Err(panicked(&text))),
    };
    // Most short tasks finish at the first poll. They need neither a timer nor cancellation.
    let first = std::future::poll_fn(|task| Poll::Ready(work.poll_unpin(task))).await;
    let end = match first {
        Poll::Ready(result) => End::Returned(result),
        Poll::Pending => slow(core, cx, deadline, &mut work).await,
    };
    tell_if_late(core, cx, deadline, &end);
    end
}

/// Logs and counts a run that ended after its timeout. A timeout cannot end a poll, so a run that blocks its thread
/// past the timeout ends by itself. Its result counts, but the delay is reported.
fn tell_if_late(core: &Core, cx: &Context, deadline: Option<Duration>, end: &End) {
    let (End::Returned(_), Some(deadline)) = (end, deadline) else { return };
    let late = core.clock.elapsed().saturating_sub(deadline);
    if late.is_zero() || cx.cancel_reason().is_some() {
        return;
    }
    let timeout = cx.task().timeout.unwrap_or_default();
    let text = format!(
        "ended {late:?} after its timeout of {timeout:?}, because a handler blocked its thread; register what blocks \
         with .blocking()"
    );
    core.counters.late.fetch_add(1, Ordering::Relaxed);
    warn!(core.log, "a run went on past its timeout"; keys::TASK_ID => %cx.task_id(),
        keys::TYPE => cx.task().kind.as_str(), keys::ERROR => &text);
    cx.note(text);
}

/// The work of a handler. A panic is caught in each poll and also in the drop, because a run that is given up is
/// dropped here.
struct Work(Option<CatchUnwind<AssertUnwindSafe<LocalBoxFuture<'static, RunResult>>>>);

impl Future for Work {
    type Output = RunResult;

    fn poll(mut self: Pin<&mut Self>, task: &mut std::task::Context<'_>) -> Poll<RunResult> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        work.poll_unpin(task).map(|result| result.unwrap_or_else(|panic| Err(panicked(&said(panic)))))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let_go(self.0.take());
    }
}

async fn slow(core: &Core, cx: &Context, deadline: Option<Duration>, work: &mut Work) -> End {
    let deadline = async {
        match deadline {
            Some(deadline) => core.clock.sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = &mut *work => return End::Returned(result),
        () = cx.cancelled() => {}
        () = deadline => {
            cx.cancel(CancelReason::Timeout);
            return End::TimedOut(cx.task().timeout.unwrap_or_default());
        }
    }
    // Cooperative first: the handler may clean up, and its result counts.
    tokio::select! {
        biased;
        result = work => End::Returned(result),
        () = core.clock.sleep(core.config.cancel_grace) => End::Dropped,
    }
}

/// Turns the end of a run into the settlement of its task.
fn settle(core: &Core, handler: &dyn Handle, cx: &Context, end: End) -> Settlement {
    let cancel = cx.cancel_reason();
    match (end, cancel) {
        // A requested cancellation takes precedence, unless the handler returned a result or cancelled the task itself.
        (
            End::Dropped | End::TimedOut(_) | End::Returned(Err(_) | Ok(Outcome::Snooze(_) | Outcome::Release)),
            Some(CancelReason::Requested(reason)),
        ) => cancelled(core, cx, reason),
        (End::TimedOut(timeout), _) => {
            let error = TaskError::new(format!("timed out after {timeout:?}"));
            failure(core, Some(handler), cx, &error, ExecutionStatus::Timeout)
        }
        // Stopped with the board: the task runs again and has used up no attempt. A fatal error counts as fatal also
        // during a stop.
        (End::Dropped, _) => released(cx.claimed()),
        (End::Returned(Err(error)), Some(CancelReason::Shutdown)) if !error.is_fatal() => released(cx.claimed()),
        // A handler may answer every request to end with `Cancel`. During a stop its task is released all the same.
        (End::Returned(Ok(Outcome::Cancel(_))), Some(CancelReason::Shutdown))
        | (End::Returned(Ok(Outcome::Release)), _) => released(cx.claimed()),
        (End::Returned(Ok(Outcome::Done(value))), _) => done(core, cx, value.map(|value| value.to_string().into())),
        (End::Returned(Ok(Outcome::Json(text))), _) => done(core, cx, Some(text)),
        (End::Returned(Ok(Outcome::Snooze(wait))), _) => snoozed(core, cx, wait),
        (End::Returned(Ok(Outcome::Cancel(reason))), _) => cancelled(core, cx, reason),
        (End::Returned(Err(error)), _) => failure(core, Some(handler), cx, &error, ExecutionStatus::Failed),
    }
}

fn done(core: &Core, cx: &Context, text: Option<Box<str>>) -> Settlement {
    let text = text.or_else(|| cx.take_result());
    if let Some(fault) = text.as_deref().and_then(|text| core.config.bounds().result_fault(text)) {
        return failure(core, None, cx, &TaskError::fatal(fault), ExecutionStatus::Failed);
    }
    let now = core.clock.now();
    let note = cx.noted().map(String::into_boxed_str);
    ended(cx.claimed(), cx.started_at(), now, TaskState::Completed, ExecutionStatus::Success, text, note)
}

fn snoozed(core: &Core, cx: &Context, wait: Duration) -> Settlement {
    let now = core.clock.now();
    let (state, status) = (TaskState::Scheduled, ExecutionStatus::Snoozed);
    let mut settlement = ended(cx.claimed(), cx.started_at(), now, state, status, None, None);
    settlement.attempt = cx.claimed().attempt;
    settlement.run_at = now + wait;
    settlement
}

fn cancelled(core: &Core, cx: &Context, reason: String) -> Settlement {
    debug!(core.log, "task cancelled"; keys::TASK_ID => %cx.task_id(), keys::ERROR => &reason);
    delivery::cancelled(cx.claimed(), cx.started_at(), core.clock.now(), reason)
}

fn failure(
    core: &Core,
    handler: Option<&dyn Handle>,
    cx: &Context,
    error: &TaskError,
    status: ExecutionStatus,
) -> Settlement {
    let now = core.clock.now();
    let spec = cx.task();
    let failures = cx.attempt();
    let again = !error.is_fatal() && failures < spec.max_attempts;
    let state = if again { TaskState::Retrying } else { TaskState::Dead };
    let text = Some(error.message().into());
    let mut settlement = ended(cx.claimed(), cx.started_at(), now, state, status, None, text);
    if again {
        let own = error.wait().or_else(|| own_delay(core, handler?, cx, error));
        let wait = own.unwrap_or_else(|| spec.retry.delay(failures, rand::random()));
        settlement.run_at = now + wait;
        info!(core.log, "task failed, runs again"; keys::TASK_ID => %spec.task_id, keys::TYPE => spec.kind.as_str(),
            keys::ATTEMPT => failures, keys::RUN_AT => %settlement.run_at, keys::ERROR => error.message());
    } else {
        warn!(core.log, "task is dead"; keys::TASK_ID => %spec.task_id, keys::TYPE => spec.kind.as_str(),
            keys::ATTEMPT => failures, keys::ERROR => error.message());
    }
    settlement
}

/// The wait that the type's own rule asks for, if any. The rule is user code like the handler, so its panics are caught
/// too. Otherwise a panic would end the worker, and the handler's error would be lost as well.
fn own_delay(core: &Core, handler: &dyn Handle, cx: &Context, error: &TaskError) -> Option<Duration> {
    panics::caught(|| handler.retry_delay(cx.attempt(), error)).unwrap_or_else(|text| {
        warn!(core.log, "the retry_delay of a type panicked, so its task waits as its retry policy says";
            keys::TASK_ID => %cx.task_id(), keys::TYPE => cx.task().kind.as_str(), keys::ATTEMPT => cx.attempt(),
            keys::ERROR => text);
        None
    })
}

fn panicked(text: &str) -> TaskError {
    TaskError::new(format!("the handler panicked: {text}"))
}

/// Runs a blocking handler and turns a panic into an error.
pub(crate) fn caught(work: impl FnOnce() -> RunResult) -> RunResult {
    panics::caught(work).unwrap_or_else(|text| Err(panicked(&text)))
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::backend::memory::Memory;
    use crate::backend::{ClaimRequest, Commit};
    use crate::testing::Faulty;
    use crate::{Board, NewTask};

    #[actix_rt::test]
    async fn nothing_begins_after_the_lease_has_run_out() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&begun);
        let builder =
            Board::builder().backend(Faulty::new(Arc::new(Memory::new()), true)).handler("x", move |_, _| {
                counted.fetch_add(1, Ordering::Relaxed);
                async { Ok(()) }
            });
        let board = builder.start().await.unwrap();
        let core = board.core();
        board.pause("default").await.unwrap();
        let task = board.push(NewTask::new("x", &())).await.unwrap().task_id;
        let mut commit = Commit::new(core.node, core.clock.now());
        commit.claim.push(ClaimRequest { queue: "default".into(), types: None, limit: 1 });
        let claimed = core.backend.commit(&commit).unwrap().claimed.remove(0).remove(0);
        // As after a freeze that was longer than the lease; the next heartbeat comes seconds later.
        core.lease.renew(Duration::ZERO, Duration::ZERO);
        assert!(core.lease_has_lapsed());
        run(core, claimed, &Arc::default()).await;
        let given_back = async {
            while board.get(task).await.unwrap().unwrap().state == TaskState::Running {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), given_back).await.expect("it is given back");
        let record = board.get(task).await.unwrap().unwrap();
        assert_eq!((record.state, record.attempt, begun.load(Ordering::Relaxed)), (TaskState::Pending, 0, 0));
        board.stop().await;
    }
}
