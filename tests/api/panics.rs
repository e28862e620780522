//! Panics in all code that a board calls: the logger, storage, handlers and their values, callbacks. After each panic
//! the board does its work, or says that it has failed.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use callboard::backend::memory::Memory;
use callboard::testing::{Fault, Faulty, crash};
use callboard::{
    Board, BoardBuilder, BoxError, Context, Health, NewTask, Outcome, Part, Run, Stage, Task, TaskError, TaskResult,
    TaskState,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use slog::{Drain, Logger, OwnedKVList, Record, o};

/// Awaits `work`, and fails the test at a time limit. The limit is generous: work that exceeds it would never end.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(Duration::from_secs(60), work).await;
    answer.unwrap_or_else(|_| panic!("{what}: no answer in time"))
}

/// Resolves when `is_so` returns true. It yields after each check, so that all other futures of the thread make
/// progress.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let look = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    soon(what, look).await;
}

/// Asserts that the board does its work: new tasks run, and every part is up. Returns its health.
async fn works(board: &Board, what: &str) -> Health {
    for _ in 0..3 {
        let pushed = soon(what, board.push(json!({"type": "plain"}))).await.unwrap();
        assert_eq!(soon(what, board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed, "{what}");
    }
    let up = async |board: &Board| board.health().await.healthy;
    until(what, async || up(board).await).await;
    board.health().await
}

fn plain() -> BoardBuilder {
    Board::builder().handler("plain", |_, _| async { Ok(Outcome::done()) })
}

/// A logger that counts its records and panics at each of them, as `Fuse` does on a full disk.
struct Full(Arc<AtomicUsize>);

impl Drain for Full {
    type Ok = ();
    type Err = slog::Never;
    fn log(&self, _: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("slog::Fuse Drain: no space left on device, on purpose")
    }
    fn is_enabled(&self, _: slog::Level) -> bool {
        panic!("no space left to answer, on purpose")
    }
}

fn full() -> (Logger, Arc<AtomicUsize>) {
    let records = Arc::default();
    (Logger::root(Full(Arc::clone(&records)), o!("app" => "test")), records)
}

/// Every part that has work to do on storage in memory. The watch is absent, because it needs storage that several
/// processes share.
const PARTS: [Part; 8] = [
    Part::Queue,
    Part::Store,
    Part::Maintenance,
    Part::Scheduler,
    Part::Events,
    Part::Worker,
    Part::Guardian,
    Part::Heartbeat,
];

async fn restarts_of(board: &Board, part: Part) -> u32 {
    board.health().await.parts.iter().find(|of| of.part == part).unwrap().restarts
}

#[actix_rt::test]
async fn a_logger_that_panics_kills_no_part() {
    for part in PARTS {
        let (log, records) = full();
        let what = format!("{part} and its log");
        let board = plain()
            .logger(log)
            .handler("fails", |_, _| async { Err::<Outcome, BoxError>(TaskError::fatal("on purpose").into()) })
            .on_event(|_| panic!("a callback panics on purpose"))
            .start()
            .await
            .unwrap();
        let before = records.load(Ordering::SeqCst);
        assert!(crash(&board, part));
        // The guardian logs the death. If the guardian itself died, the heartbeat thread logs it.
        until(&what, async || restarts_of(&board, part).await == 1).await;
        let failed = soon(&what, board.push(json!({"type": "fails"}))).await.unwrap();
        assert_eq!(soon(&what, board.wait(failed.task_id)).await.unwrap().state, TaskState::Dead, "{what}");
        let health = works(&board, &what).await;
        assert!(records.load(Ordering::SeqCst) > before, "{what}: nothing was logged");
        assert!(health.lost_log_records > 0, "{what}");
        assert_eq!(health.parts.iter().map(|of| of.restarts).sum::<u32>(), 1, "{what}: {:?}", health.parts);
        board.stop().await;
    }
}

#[actix_rt::test]
async fn a_logger_that_panics_stops_no_heartbeat_and_no_commit() {
    for blocks in [true, false] {
        let (log, records) = full();
        let storage = Faulty::new(Arc::new(Memory::new()), blocks);
        let board = plain().backend(storage.clone()).logger(log).lease(Duration::from_secs(3)).start().await.unwrap();
        let before = records.load(Ordering::SeqCst);
        storage.next_heartbeats([Fault::Away, Fault::Panic]);
        storage.next_commits([Fault::Away, Fault::Panic, Fault::PanicAfter, Fault::AnswerLost]);
        let what = format!("blocks: {blocks}");
        until(&what, async || restarts_of(&board, Part::Heartbeat).await == 1).await;
        works(&board, &what).await;
        assert_eq!(storage.left(), 0, "{what}");
        assert!(records.load(Ordering::SeqCst) > before, "{what}: nothing was logged");
        assert_eq!(board.health().await.stage, Stage::Running, "{what}");
        board.stop().await;
    }
}

#[actix_rt::test]
async fn a_logger_that_panics_ends_no_run_and_leaves_the_log_of_the_task() {
    let (log, _) = full();
    let folder = tempfile::tempdir().unwrap();
    for logs in [None, Some(folder.path())] {
        let board = Board::builder().logger(log.clone()).handler("says", |_, cx| async move {
            slog::info!(cx.log(), "one line"; "bad" => Bad(On::Show));
            slog::info!(cx.log(), "another line");
            Ok(Outcome::done())
        });
        let board = match logs {
            Some(folder) => board.task_logs(folder),
            None => board,
        };
        let board = board.start().await.unwrap();
        let pushed = board.push(json!({"type": "says"})).await.unwrap();
        assert_eq!(soon("says", board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
        board.stop().await;
        if let Some(folder) = logs {
            let file = folder.join(pushed.task_id.to_string()).join("attempt-1.log");
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.contains("another line"), "{text}");
        }
    }
}

#[actix_rt::test]
async fn a_thread_or_a_guardian_that_dies_again_and_again_makes_the_board_fail() {
    let folder = tempfile::tempdir().unwrap();
    for part in [Part::Heartbeat, Part::Watch, Part::Guardian] {
        let url = format!("sqlite:{}", folder.path().join(format!("{part}.db")).display());
        let board = Board::builder().url(url).start().await.unwrap();
        let killer = actix_rt::spawn({
            let board = board.clone();
            async move {
                while board.health().await.stage == Stage::Running {
                    crash(&board, part);
                    tokio::task::yield_now().await;
                }
            }
        });
        assert!(soon("the end", board.ended()).await, "{part}: the board must say that it failed");
        soon("the end", killer).await.unwrap();
        board.stop().await;
    }
}

#[actix_rt::test]
async fn a_board_whose_storage_panics_at_the_start_does_not_start() {
    for method in ["time", "heartbeat", "limits", "queues"] {
        let storage = Faulty::new(Arc::new(Memory::new()), true);
        storage.panic_at(method);
        let started = soon(method, plain().backend(storage.clone()).start()).await;
        assert_eq!((started.is_err(), storage.panics_left()), (true, 0), "{method}");
        // The same storage serves the next board.
        let board = plain().backend(storage).start().await.unwrap();
        works(&board, method).await;
        board.stop().await;
    }
}

/// The place in the application's code that panics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum On {
    /// When the params of the task are read.
    Read,
    /// In the handler.
    Run,
    /// In the handler. The payload of the panic panics again when it is dropped.
    Twice,
    /// When the params of the task are dropped.
    Drop,
    /// When the result is written, or a value of a log record.
    Show,
    /// In `retry_delay`, the rule for the waits between attempts.
    Wait,
    /// When the handler's values are dropped at its timeout.
    Timeout,
}

const EACH: [On; 7] = [On::Read, On::Run, On::Twice, On::Drop, On::Show, On::Wait, On::Timeout];

/// A value that panics at the given place.
struct Bad(On);

impl Drop for Bad {
    fn drop(&mut self) {
        assert!(!matches!(self.0, On::Drop | On::Timeout), "dropped on purpose");
    }
}

/// The payload of a panic. Its drop panics with a new payload of the same type, again and again.
struct Twice;

impl Drop for Twice {
    fn drop(&mut self) {
        panic_any(Self);
    }
}

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, On::Show, "written on purpose");
        self.0.serialize(to)
    }
}

impl slog::Value for Bad {
    fn serialize(&self, _: &Record<'_>, _: slog::Key, _: &mut dyn slog::Serializer) -> slog::Result {
        panic!("shown on purpose")
    }
}

impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let on = On::deserialize(from)?;
        assert_ne!(on, On::Read, "read on purpose");
        Ok(Self(on))
    }
}

/// The work of every handler before it waits.
fn act(on: On) -> TaskResult {
    match on {
        On::Run => panic!("run on purpose"),
        On::Twice => panic_any(Twice),
        On::Wait => Err(TaskError::new("wait on purpose").into()),
        On::Show => Outcome::output(&Bad(On::Show)),
        On::Read | On::Drop | On::Timeout => Ok(Outcome::done()),
    }
}

fn wait_rule(on: &str) -> Option<Duration> {
    assert!(!on.contains("wait"), "waited on purpose");
    None
}

macro_rules! bad_task {
    ($name:ident, $kind:literal, {$($run:tt)*}) => {
        #[derive(Serialize, Deserialize)]
        struct $name(Bad);

        impl Task for $name {
            const TYPE: &'static str = $kind;
            type Output = Outcome;
            const MAX_ATTEMPTS: u32 = 1;
            const TIMEOUT: Option<Duration> = Some(Duration::from_millis(200));

            fn retry_delay(_: u32, error: &TaskError) -> Option<Duration> {
                wait_rule(error.message())
            }

            $($run)*
        }
    };
}

bad_task!(Typed, "typed", {
    async fn run(self, _: &Context) -> TaskResult {
        let result = act(self.0.0);
        if self.0.0 == On::Timeout {
            std::future::pending::<()>().await;
        }
        result
    }
});
bad_task!(Blocking, "blocking", {});
bad_task!(Acted, "acted", {});

/// An actor that handles tasks. A panic ends the actor, and the application is its supervisor.
struct Hand;

impl Actor for Hand {
    type Context = actix::Context<Self>;
}

impl Handler<Run<Acted>> for Hand {
    type Result = ResponseFuture<TaskResult>;
    fn handle(&mut self, run: Run<Acted>, _: &mut Self::Context) -> Self::Result {
        // Panics of the actor itself end the actor, and are up to the application. Only the board's treatment of the
        // task is tested here.
        let on = run.task.0.0;
        Box::pin(async move {
            let result = if on == On::Show { Ok(Outcome::done()) } else { act(on) };
            if on == On::Timeout {
                std::future::pending::<()>().await;
            }
            drop(run);
            result
        })
    }
}

fn bad(on: On) -> serde_json::Value {
    serde_json::to_value(on).unwrap()
}

#[actix_rt::test]
async fn a_panic_of_anything_that_a_handler_brings_along_ends_its_run_and_nothing_else() {
    for on in EACH {
        for kind in ["typed", "closure", "blocking", "acted"] {
            if (kind, on) == ("acted", On::Twice) {
                // Protection against this panic is up to the application's own actor.
                continue;
            }
            let what = format!("{kind}, {on:?}");
            let (log, _) = full();
            let board = plain()
                .logger(log)
                // There is a single worker, worker thread and blocking thread. If a panic costs any of them, the next
                // task cannot run.
                .queue("default", 1)
                .configure(|c| (c.worker_threads, c.blocking_threads) = (1, 1))
                .task::<Typed>()
                .blocking(|task: Blocking, cx: &Context| {
                    let result = act(task.0.0);
                    while task.0.0 == On::Timeout && !cx.is_cancelled() {
                        std::thread::yield_now();
                    }
                    result
                })
                .actor::<Acted>(Hand.start())
                .handler("closure", |params, _| async move {
                    let bad: Bad = serde_json::from_value(params)?;
                    let result = act(bad.0);
                    if bad.0 == On::Timeout {
                        std::future::pending::<()>().await;
                    }
                    result
                })
                .start()
                .await
                .unwrap();
            // The rule for the waits is called only if a further attempt is allowed.
            let task = NewTask::new(kind, &bad(on)).timeout(Duration::from_millis(200));
            let task = task.retry_count(u32::from(on == On::Wait), 0);
            let pushed = soon(&what, board.push(task)).await.unwrap();
            let ended = soon(&what, board.wait(pushed.task_id)).await.unwrap();
            assert!(ended.state.is_terminal(), "{what}: {ended:?}");
            // The blocking pool and the workers are complete.
            let again = NewTask::new("blocking", &bad(On::Wait)).retry_count(0, 0);
            let pushed = soon(&what, board.push(again)).await.unwrap();
            let ended = soon(&what, board.wait(pushed.task_id)).await.unwrap();
            assert_eq!(ended.last_error.as_deref(), Some("wait on purpose"), "{what}");
            let health = works(&board, &what).await;
            assert_eq!(health.parts.iter().map(|of| of.restarts).sum::<u32>(), 0, "{what}: {:?}", health.parts);
            board.stop().await;
        }
    }
}
