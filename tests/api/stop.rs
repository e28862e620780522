//! The effect of a stop on waiting callers, and on runs in progress.

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::backend::memory::Memory;
use callboard::testing::{Fault, Faulty, crash};
use callboard::{
    Backend, BackfillOrder, Board, BoardBuilder, BoardError, BoxError, CancelReason, Clock, Context, DeliveryError,
    EditAction, Limit, LimitScope, NewTask, Outcome, Part, PushError, Resume, Schedule, ScheduleFilter, Stage,
    StoreError, TaskError, TaskFilter, TaskOrder, TaskState, Timestamp, Trigger, Zone,
};
use serde_json::json;
use slog::Drain;
use tokio::sync::{Notify, mpsc};

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("no answer in time")
}

#[actix_rt::test]
async fn whoever_waits_for_a_task_is_told_that_the_board_has_stopped() {
    let board = Board::builder().start().await.unwrap();
    let pushed = board.push(json!({"type": "nobody_runs_this"})).await.unwrap();
    let waiter = actix_rt::spawn({
        let board = board.clone();
        async move { board.wait(pushed.task_id).await }
    });
    tokio::task::yield_now().await;
    soon(board.stop()).await;
    assert!(matches!(soon(waiter).await.unwrap(), Err(BoardError::Closed)));
    assert!(matches!(soon(board.wait(pushed.task_id)).await, Err(BoardError::Closed)));
    assert!(matches!(soon(board.pop("default", None)).await, Err(BoardError::Closed)));
}

#[actix_rt::test]
async fn a_stop_waits_for_a_delivery_as_long_as_for_a_run() {
    let storage = Arc::new(Memory::new());
    let board = Board::builder().backend(storage.clone()).start().await.unwrap();
    let pushed = board.push(json!({"type": "x"})).await.unwrap();
    let delivery = soon(board.pop("default", None)).await.unwrap().unwrap();
    let stopping = actix_rt::spawn({
        let board = board.clone();
        async move { board.stop().await }
    });
    // A refused push shows that the stop has begun.
    while board.push(json!({"type": "y"})).await.is_ok() {}
    delivery.ack().await.unwrap();
    soon(stopping).await.unwrap();
    let record = storage.get(pushed.task_id).unwrap().unwrap();
    assert_eq!(record.state, TaskState::Completed);
}

#[actix_rt::test]
async fn a_delivery_that_outlasts_the_stop_learns_that_its_task_was_given_back() {
    let board = Board::builder().drain(Duration::ZERO).cancel_grace(Duration::ZERO).start().await.unwrap();
    board.push(json!({"type": "x"})).await.unwrap();
    let delivery = soon(board.pop("default", None)).await.unwrap().unwrap();
    soon(board.stop()).await;
    assert!(matches!(delivery.extend(Duration::from_secs(1)), Err(DeliveryError::Closed(_))));
    assert!(matches!(soon(delivery.ack()).await, Err(DeliveryError::Closed(_))));
}

#[actix_rt::test]
async fn a_run_may_push_while_the_board_is_stopping() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go));
    let storage = Arc::new(Memory::new());
    let board = Board::builder()
        .backend(storage.clone())
        .handler("first", move |_, cx| {
            let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
            async move {
                tell.notify_one();
                wait.notified().await;
                cx.push(json!({"type": "next"})).await?;
                Ok(Outcome::done())
            }
        })
        .start()
        .await
        .unwrap();
    let first = board.push(NewTask::new("first", &()).max_attempts(1)).await.unwrap();
    soon(begun.notified()).await;
    let stopping = actix_rt::spawn({
        let board = board.clone();
        async move { board.stop().await }
    });
    while board.push(json!({"type": "y"})).await.is_ok() {}
    go.notify_one();
    soon(stopping).await.unwrap();
    assert_eq!(storage.get(first.task_id).unwrap().unwrap().state, TaskState::Completed);
    let counts = storage.counts().unwrap();
    assert!(counts.iter().any(|c| c.state == TaskState::Pending && c.tasks >= 1), "{counts:?}");
}

#[actix_rt::test]
async fn a_stop_that_was_given_up_half_way_can_be_called_again() {
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let storage = Arc::new(Memory::new());
    let board = Board::builder()
        .backend(storage.clone())
        .cancel_grace(Duration::from_millis(1))
        .handler("long", move |_, _| {
            tell.notify_one();
            async {
                std::future::pending::<()>().await;
                Ok::<_, BoxError>(Outcome::done())
            }
        })
        .drain(Duration::from_millis(200))
        .start()
        .await
        .unwrap();
    let pushed = board.push(json!({"type": "long"})).await.unwrap();
    soon(begun.notified()).await;
    assert!(tokio::time::timeout(Duration::from_millis(1), board.stop()).await.is_err());
    soon(board.stop()).await;
    assert!(!soon(board.ended()).await);
    let record = storage.get(pushed.task_id).unwrap().unwrap();
    assert_eq!((record.state, record.attempt), (TaskState::Pending, 0), "given back without using up an attempt");
}

#[actix_rt::test]
async fn an_error_in_the_grace_of_a_stop_uses_up_no_attempt_unless_it_is_fatal() {
    let storage = Arc::new(Memory::new());
    let begun = Arc::new(tokio::sync::Semaphore::new(0));
    let tell = Arc::clone(&begun);
    let board = Board::builder()
        .backend(storage.clone())
        .drain(Duration::ZERO)
        .handler("fails", move |params, cx| {
            tell.add_permits(1);
            async move {
                cx.cancelled().await;
                let fatal = params == json!("fatal");
                Err::<Outcome, BoxError>(
                    if fatal { TaskError::fatal("bad input") } else { TaskError::new("cut short") }.into(),
                )
            }
        })
        .start()
        .await
        .unwrap();
    let task = |params| board.push(NewTask::new("fails", &params));
    let (fatal, other) = (task("fatal").await.unwrap(), task("other").await.unwrap());
    drop(soon(begun.acquire_many(2)).await.unwrap());
    soon(board.stop()).await;
    let record = |pushed: callboard::Pushed| storage.get(pushed.task_id).unwrap().unwrap();
    let (fatal, other) = (record(fatal), record(other));
    assert_eq!((fatal.state, fatal.attempt, fatal.last_error.as_deref()), (TaskState::Dead, 1, Some("bad input")));
    assert_eq!((other.state, other.attempt, other.last_error), (TaskState::Pending, 0, None));
}

#[actix_rt::test]
async fn who_pulls_goes_on_waiting_when_the_queue_actor_dies() {
    let board = Board::builder().start().await.unwrap();
    let puller = actix_rt::spawn({
        let board = board.clone();
        async move { board.pop("default", None).await }
    });
    tokio::task::yield_now().await;
    assert!(crash(&board, Part::Queue));
    let pushed = soon(board.push(json!({"type": "x"}))).await.unwrap();
    let delivery = soon(puller).await.unwrap().unwrap().unwrap();
    assert_eq!(delivery.task_id(), pushed.task_id);
    delivery.ack().await.unwrap();
    board.stop().await;
}

#[actix_rt::test]
async fn a_batch_that_waits_for_storage_outlives_the_queue_actor() {
    let (ran, mut runs) = mpsc::unbounded_channel();
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let board = Board::builder()
        .backend(storage.clone())
        .handler("n", move |_, _| {
            ran.send(()).unwrap_or(());
            async { Ok(Outcome::done()) }
        })
        .start()
        .await
        .unwrap();
    // The push succeeds. Storage is then away for the settlement of the run, and the queue actor dies meanwhile.
    let pushed = board.push(json!({"type": "n"})).await.unwrap();
    storage.next_commits([Fault::Away; 4]);
    soon(runs.recv()).await;
    assert!(crash(&board, Part::Queue));
    assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
    board.stop().await;
    assert!(runs.try_recv().is_err(), "it ran twice");
}

#[actix_rt::test]
async fn a_slow_callback_holds_up_nobody() {
    let release = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let held = Arc::clone(&release);
    let board = Board::builder()
        .handler("n", |_, _| async { Ok(Outcome::done()) })
        .on_completed("n", move |_| {
            let (open, changed) = &*held;
            let guard = open.lock().unwrap();
            drop(changed.wait_while(guard, |open| !*open).unwrap());
        })
        .start()
        .await
        .unwrap();
    for _ in 0..20 {
        let pushed = soon(board.push(json!({"type": "n"}))).await.unwrap();
        soon(board.wait(pushed.task_id)).await.unwrap();
    }
    soon(board.store().set_public("k", json!(1), None)).await.unwrap();
    *release.0.lock().unwrap() = true;
    release.1.notify_all();
    board.stop().await;
}

thread_local! {
    static END: RefCell<Option<End>> = const { RefCell::new(None) };
}

/// Counts the end of its thread.
struct End(Arc<AtomicUsize>);

impl Drop for End {
    fn drop(&mut self) {
        // Yields many times, so that a stop that does not wait for this thread would return first.
        (0..50).for_each(|_| std::thread::yield_now());
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[actix_rt::test]
async fn a_stop_waits_for_the_threads_of_the_workers() {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&ended));
    let board = Board::builder()
        .configure(|c| c.worker_threads = 4)
        .handler("n", move |_, _| {
            END.with_borrow_mut(|end| {
                end.get_or_insert_with(|| {
                    begins.fetch_add(1, Ordering::SeqCst);
                    End(Arc::clone(&ends))
                });
            });
            async { Ok(Outcome::done()) }
        })
        .start()
        .await
        .unwrap();
    for pushed in board.push_many((0..100).map(|_| json!({"type": "n"}))).await.unwrap() {
        soon(board.wait(pushed.task_id)).await.unwrap();
    }
    soon(board.stop()).await;
    assert!(begun.load(Ordering::SeqCst) > 0);
    assert_eq!(ended.load(Ordering::SeqCst), begun.load(Ordering::SeqCst));
}

/// Stops a board during a run that then returns `ends`. Returns the task's state and attempt in storage, and the number
/// of its executions.
async fn stopped(on: &dyn Fn(BoardBuilder) -> BoardBuilder, ends: fn() -> Outcome) -> (TaskState, u32, usize) {
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let board = on(Board::builder().drain(Duration::ZERO))
        .handler("long", move |_, cx: Context| {
            tell.notify_one();
            async move {
                cx.cancelled().await;
                assert_eq!(cx.cancel_reason(), Some(CancelReason::Shutdown));
                Ok(ends())
            }
        })
        .start()
        .await
        .unwrap();
    let pushed = board.push(json!({"type": "long"})).await.unwrap();
    soon(begun.notified()).await;
    soon(board.stop()).await;
    // This board has no handler for the task, so it leaves the task unchanged.
    let next = on(Board::builder()).start().await.unwrap();
    let task = next.get(pushed.task_id).await.unwrap().unwrap();
    let runs = next.executions(pushed.task_id).await.unwrap().len();
    next.stop().await;
    (task.state, task.attempt, runs)
}

#[actix_rt::test]
async fn a_run_that_a_stop_interrupts_gives_its_task_back_whether_it_says_release_or_cancel() {
    let stopped_on_each = async |ends: fn() -> Outcome, expected| {
        let (memory, folder) = (Arc::new(Memory::new()), tempfile::tempdir().unwrap());
        let url = format!("sqlite:{}", folder.path().join("tasks.db").display());
        let on_memory = move |builder: BoardBuilder| builder.backend(Arc::clone(&memory) as _);
        let on_sqlite = move |builder: BoardBuilder| builder.url(url.clone());
        let storages: [&dyn Fn(BoardBuilder) -> BoardBuilder; 2] = [&on_memory, &on_sqlite];
        for on in storages {
            assert_eq!(stopped(on, ends).await, expected);
        }
    };
    stopped_on_each(|| Outcome::Release, (TaskState::Pending, 0, 0)).await;
    stopped_on_each(|| Outcome::Cancel("asked to end".into()), (TaskState::Pending, 0, 0)).await;
    // A run that ends as done completes its task even during a stop.
    stopped_on_each(Outcome::done, (TaskState::Completed, 1, 1)).await;
}

macro_rules! refused {
    ($error:pat, $($call:expr),+ $(,)?) => {$(
        let answer = soon($call).await;
        assert!(matches!(answer, Err($error)), "{}: {answer:?}", stringify!($call));
    )+};
}

async fn every_call_is_refused(builder: BoardBuilder) {
    let board = builder.start().await.unwrap();
    let task = board.push(json!({"type": "nobody_runs_this"})).await.unwrap().task_id;
    let hourly = || {
        let trigger = Trigger::cron("@hourly", Zone::UTC).unwrap();
        Schedule::new("hourly", trigger, NewTask::new("nobody_runs_this", &()))
    };
    board.schedules().create(hourly()).await.unwrap();
    board.store().set_public("k", 1, None).await.unwrap();
    soon(board.stop()).await;
    let (cancelled, one) =
        (EditAction::Cancel("late".into()), TaskFilter { text: Some("a".into()), ..Default::default() });
    let now = Timestamp::from_micros(0);
    refused!(
        PushError::Closed,
        board.push(json!({"type": "x"})),
        board.try_push(json!({"type": "x"})),
        board.push_many([json!({"type": "x"})]),
    );
    refused!(
        BoardError::Closed,
        board.pop("default", None),
        board.pop("default", Some(Duration::ZERO)),
        board.get(task),
        board.executions(task),
        board.list(TaskFilter::default(), TaskOrder::NewestFirst, None, 1),
        board.counts(),
        board.nodes(),
        board.wait(task),
        board.wait_as::<()>(task),
        board.cancel(task, "late"),
        board.retry(task),
        board.delete(task),
        board.reprioritise(task, 1),
        board.reschedule(task, now),
        board.edit_all(one, cancelled.clone()),
        board.edit_everything(cancelled),
        board.pause("default"),
        board.resume("default"),
        board.drain("default"),
        board.set_concurrency("default", Some(1)),
        board.queue_settings(),
        board.set_limit(Limit::of_type("x").running(1)),
        board.remove_limit(LimitScope::Type, "x"),
        board.limits(),
    );
    let schedules = board.schedules();
    refused!(
        BoardError::Closed,
        schedules.create(hourly()),
        schedules.update("hourly", hourly()),
        schedules.upsert(hourly()),
        schedules.pause("hourly"),
        schedules.pause_until("hourly", now),
        schedules.resume("hourly", Resume::FromNow),
        schedules.trigger("hourly"),
        schedules.backfill("hourly", now, now, BackfillOrder::OneByOne),
        schedules.move_cursor("hourly", now),
        schedules.get("hourly"),
        schedules.list(ScheduleFilter::default(), None, 1),
        schedules.firings("hourly", None, 1),
        schedules.preview("hourly", 1),
        schedules.delete("hourly"),
    );
    let store = board.store();
    refused!(
        StoreError::Closed,
        store.set_public("k", 1, None),
        store.get_public("k"),
        store.delete_public("k"),
        store.cleanup(),
        store.set("k", &1, None),
        store.get::<u8>("k"),
        store.get_entry("k"),
        store.set_if_absent("k", 1, None),
        store.compare_and_set("k", 1, 2, None),
        store.increment("k", 1),
        store.keys("", None, 1),
        store.stats(),
    );
    assert_eq!(board.health().await.stage, Stage::Stopped);
}

#[actix_rt::test]
async fn every_call_after_a_stop_is_refused_as_closed() {
    every_call_is_refused(Board::builder()).await;
    let folder = tempfile::tempdir().unwrap();
    every_call_is_refused(Board::builder().url(format!("sqlite:{}", folder.path().join("tasks.db").display()))).await;
}

/// The log records, each a JSON object on a line of its own.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn logger(&self) -> slog::Logger {
        let json = slog_json::Json::new(self.clone()).add_default_keys().build();
        slog::Logger::root(Mutex::new(json).fuse(), slog::o!())
    }

    fn find(&self, text: &str) -> Option<serde_json::Value> {
        let bytes = self.0.lock().unwrap().clone();
        let records = std::str::from_utf8(&bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap());
        records.into_iter().find(|record: &serde_json::Value| record["msg"].as_str().unwrap().contains(text))
    }
}

#[actix_rt::test]
async fn a_handler_that_blocks_for_ever_does_not_hang_the_stop() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let (lines, clock) = (Lines::default(), Clock::manual(Timestamp::from_micros(0)));
    let board = Board::builder()
        .logger(lines.logger())
        .clock(clock.clone())
        .configure(|c| c.worker_threads = 3)
        .handler("blocks", move |_, _| {
            tell.notify_one();
            // An error also ends the wait: the sender is dropped when the test is over.
            gate.lock().unwrap().recv().ok();
            async { Ok(Outcome::done()) }
        })
        .start()
        .await
        .unwrap();
    board.push(json!({"type": "blocks"})).await.unwrap();
    soon(begun.notified()).await;
    let hurry = async {
        loop {
            clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
    };
    soon(async {
        tokio::select! {
            () = board.stop() => {}
            () = hurry => {}
        }
    })
    .await;
    let told = lines.find("left behind").expect("the stop says what it leaves");
    assert_eq!(told["count"], 1, "{told}");
    assert!(lines.find("the board has stopped").is_some());
    drop(go);
}
