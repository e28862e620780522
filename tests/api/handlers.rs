//! Results of handlers, and the threads on which handlers run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use callboard::testing::at;
use callboard::{
    Board, BoardBuilder, BoardError, BoxError, Context, ExecutionStatus, NewTask, Outcome, StartError, Task,
    TaskError, TaskResult, TaskState,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slog::{Drain, OwnedKVList, Record};

use crate::{HOUR, ids, soon, start};

#[actix_rt::test]
async fn a_result_that_was_set_is_kept_unless_the_handler_returns_one() {
    let board = start(Board::builder().handler("sets", |params: Value, cx: Context| async move {
        cx.set_result(&json!({"set": 1}))?;
        Ok::<_, BoxError>(if params == json!("returns") { Outcome::Done(Some(json!(2))) } else { Outcome::done() })
    }))
    .await;
    for (params, kept) in [("sets", json!({"set": 1})), ("returns", json!(2))] {
        let pushed = board.push(json!({"type": "sets", "params": params})).await.unwrap();
        assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().result, Some(kept));
    }
}

#[actix_rt::test]
async fn a_result_that_was_set_before_a_failure_is_not_kept() {
    let board = start(Board::builder().handler("fails", |_, cx: Context| async move {
        cx.set_result(&1)?;
        Err::<(), _>(TaskError::fatal("after all").into())
    }))
    .await;
    let pushed = board.push(json!({"type": "fails"})).await.unwrap();
    let task = soon(board.wait(pushed.task_id)).await.unwrap();
    assert_eq!((task.state, task.result), (TaskState::Dead, None));
}

#[derive(Serialize, Deserialize)]
struct Patient;

impl Task for Patient {
    const TYPE: &'static str = "patient";
    type Output = Outcome;
    const MAX_ATTEMPTS: u32 = 4;

    fn retry_delay(failures: u32, error: &TaskError) -> Option<Duration> {
        assert_eq!(error.message(), "not yet");
        Some(Duration::from_secs(10) * failures)
    }

    async fn run(self, cx: &Context) -> TaskResult {
        let error = TaskError::new("not yet");
        // The delay of the error takes precedence over `retry_delay`.
        Err(if cx.attempt() == 3 { error.retry_after(HOUR) } else { error }.into())
    }
}

#[actix_rt::test]
async fn a_type_chooses_its_own_waits_and_an_error_comes_before_it() {
    let board = start(Board::builder().task::<Patient>()).await;
    let task = board.push(Patient).await.unwrap().task_id;
    board.advance(2 * HOUR).await;
    board.assert_state(task, TaskState::Dead);
    let starts: Vec<_> = board.executions(task).await.unwrap().iter().map(|run| run.started_at).collect();
    assert_eq!(starts, [at(0), at(10), at(30), at(3630)]);
}

#[derive(Serialize, Deserialize)]
struct Reckless;

impl Task for Reckless {
    const TYPE: &'static str = "reckless";
    type Output = Outcome;
    const MAX_ATTEMPTS: u32 = 2;

    fn retry_delay(failures: u32, _: &TaskError) -> Option<Duration> {
        assert_eq!(failures, 0, "on purpose");
        None
    }

    async fn run(self, _: &Context) -> TaskResult {
        Err(TaskError::new("the handler's own words").into())
    }
}

/// The log of a program. It sends each message with its level to the test.
struct Messages(mpsc::Sender<String>);

impl Drain for Messages {
    type Ok = ();
    type Err = mpsc::SendError<String>;
    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Self::Err> {
        self.0.send(format!("{} {}", record.level().as_short_str(), record.msg()))
    }
}

#[actix_rt::test]
async fn a_panic_in_the_choice_of_a_wait_costs_neither_the_error_nor_the_worker() {
    let (tell, told) = mpsc::channel();
    let log = slog::Logger::root(std::sync::Mutex::new(Messages(tell)).fuse(), slog::o!());
    let board = start(Board::builder().logger(log).task::<Reckless>()).await;
    let task = board.push(NewTask::of(&Reckless).retry_count(1, 20)).await.unwrap().task_id;
    board.advance(HOUR).await;
    board.assert_state(task, TaskState::Dead);
    let runs = board.executions(task).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.started_at).collect::<Vec<_>>(), [at(0), at(20)], "as the policy says");
    assert!(runs.iter().all(|run| run.error_message.as_deref() == Some("the handler's own words")), "{runs:?}");
    let health = board.health().await;
    assert!(health.parts.iter().all(|part| part.restarts == 0), "{health:?}");
    let warnings = told.try_iter().filter(|text| text.starts_with("WARN the retry_delay of a type panicked"));
    assert_eq!(warnings.count(), 1);
}

#[actix_rt::test]
async fn a_handler_calls_its_task_off() {
    let builder = Board::builder().handler("quits", |_, _| async { Ok(Outcome::Cancel("no need".into())) });
    let board = start(builder).await;
    let pushed = board.push(json!({"type": "quits"})).await.unwrap();
    let task = soon(board.wait(pushed.task_id)).await.unwrap();
    assert_eq!((task.state, task.last_error.as_deref()), (TaskState::Cancelled, Some("no need")));
    assert_eq!(board.executions(pushed.task_id).await.unwrap()[0].status, ExecutionStatus::Cancelled);
}

#[actix_rt::test]
async fn two_handlers_for_one_type_are_refused_at_the_start() {
    let handle = |_, _| async { Ok(Outcome::done()) };
    let started = Board::builder().handler("n", handle).handler("other", handle).handler("n", handle).start().await;
    assert!(matches!(&started, Err(StartError::TwoHandlers(kind)) if kind == "n"), "{started:?}");
}

#[derive(Serialize, Deserialize)]
struct Block {
    panics: bool,
}

impl Task for Block {
    const TYPE: &'static str = "block";
    type Output = Outcome;
    const MAX_ATTEMPTS: u32 = 1;
}

#[actix_rt::test]
async fn a_blocking_handler_that_panics_fails_and_leaves_its_thread_to_the_next() {
    let builder = Board::builder().configure(|c| c.blocking_threads = 1).blocking(|block: Block, _: &Context| {
        assert!(!block.panics, "on purpose");
        Ok(Outcome::done())
    });
    let board = start(builder).await;
    let pushed = ids(&board.push_many([true, false].map(|panics| Block { panics })).await.unwrap());
    let dead = soon(board.wait(pushed[0])).await.unwrap();
    assert_eq!(dead.state, TaskState::Dead);
    assert!(dead.last_error.unwrap().contains("on purpose"));
    assert_eq!(soon(board.wait(pushed[1])).await.unwrap().state, TaskState::Completed);
}

#[actix_rt::test]
async fn blocking_handlers_share_a_bounded_number_of_threads() {
    const THREADS: usize = 2;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // The barrier opens only for `THREADS` handlers together. So the test ends only if that many handlers run at the
    // same time.
    let all = Arc::new(Barrier::new(THREADS));
    let seen = Arc::clone(&most);
    let block = move |_: Block, _: &Context| {
        seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        all.wait();
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(Outcome::done())
    };
    let builder = Board::builder().configure(|c| c.blocking_threads = THREADS).blocking(block);
    let board = start(builder).await;
    board.push_many((0..6 * THREADS).map(|_| Block { panics: false })).await.unwrap();
    board.settle().await;
    assert_eq!(most.load(Ordering::SeqCst), THREADS);
}

/// A board with a single blocking thread. The first run sends to the receiver, and then holds the thread until the
/// sender lets it go. `begun` counts the runs that have begun.
fn hung(begun: &Arc<AtomicUsize>) -> (BoardBuilder, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((tell, told), (go, gate)) = (mpsc::channel(), mpsc::channel());
    let ends = Arc::new(Mutex::new((tell, gate)));
    let begun = Arc::clone(begun);
    let builder = Board::builder().configure(|c| c.blocking_threads = 1).blocking(move |_: Block, _: &Context| {
        if begun.fetch_add(1, Ordering::SeqCst) == 0 {
            let ends = ends.lock();
            ends.0.send(())?;
            ends.1.recv()?;
        }
        Ok(Outcome::done())
    });
    (builder, told, go)
}

#[actix_rt::test]
async fn a_blocking_run_that_was_given_up_before_it_began_never_begins() {
    let begun = Arc::default();
    let (builder, told, go) = hung(&begun);
    let board = start(builder).await;
    let first = board.push(Block { panics: false }).await.unwrap().task_id;
    told.recv().unwrap();
    let second = board.push(Block { panics: false }).await.unwrap().task_id;
    assert!(board.cancel(second, "not wanted").await.unwrap());
    // The cancel grace begins only when the run learns of the cancellation. So the clock jumps until the run is over.
    soon(async {
        while board.get(second).await.unwrap().unwrap().state == TaskState::Running {
            board.jump(HOUR).await;
        }
    })
    .await;
    board.assert_state(second, TaskState::Cancelled);
    go.send(()).unwrap();
    let third = board.push(Block { panics: false }).await.unwrap().task_id;
    for task in [first, third] {
        assert_eq!(soon(board.wait(task)).await.unwrap().state, TaskState::Completed);
    }
    assert_eq!(begun.load(Ordering::SeqCst), 2, "the first and the third");
}

#[actix_rt::test]
async fn logs_are_removed_although_handlers_block_all_their_threads() {
    let logs = tempfile::tempdir().unwrap();
    let begun = Arc::default();
    let (builder, told, go) = hung(&begun);
    let builder = builder.task_logs(logs.path()).handler("writes", |_, cx: Context| async move {
        slog::info!(cx.log(), "here");
        Ok(Outcome::done())
    });
    let board = start(builder).await;
    let written = board.push(json!({"type": "writes"})).await.unwrap().task_id;
    assert_eq!(soon(board.wait(written)).await.unwrap().state, TaskState::Completed);
    let hangs = board.push(Block { panics: false }).await.unwrap().task_id;
    told.recv().unwrap();
    assert!(board.delete(written).await.unwrap());
    soon(async {
        while logs.path().join(written.to_string()).exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    go.send(()).unwrap();
    assert_eq!(soon(board.wait(hangs)).await.unwrap().state, TaskState::Completed);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Measure {
    text: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the text is empty")]
struct Empty;

impl Task for Measure {
    const TYPE: &'static str = "measure";
    const MAX_ATTEMPTS: u32 = 1;
    type Output = usize;

    async fn run(self, _: &Context) -> TaskResult<usize> {
        match self.text.as_str() {
            "" => Err(Empty)?,
            "anyhow" => Err(anyhow::anyhow!("of anyhow"))?,
            "boxed" => Err(BoxError::from("boxed"))?,
            "text" => Err("a text".to_owned())?,
            "fatal" => Err(anyhow::Error::new(TaskError::fatal("for good")).context("around"))?,
            text => Ok(text.len()),
        }
    }
}

#[actix_rt::test]
async fn a_handler_returns_a_value_of_its_own_or_any_error() {
    let board = start(Board::builder().task::<Measure>()).await;
    let pushed = async |text: &str| board.push(Measure { text: text.into() }).await.unwrap().task_id;
    let task = pushed("four").await;
    assert_eq!(soon(board.wait_as::<usize>(task)).await.unwrap(), 4);
    let wrong = soon(board.wait_as::<String>(task)).await.unwrap_err();
    assert!(matches!(wrong, BoardError::Result { task_id, .. } if task_id == task), "{wrong}");
    let record = soon(board.wait(task)).await.unwrap();
    assert_eq!(record.params::<Measure>().unwrap(), Measure { text: "four".into() });
    assert_eq!(record.result::<usize>().unwrap(), 4);
    assert_eq!(board.executions(task).await.unwrap()[0].result::<usize>().unwrap(), 4);
    for (text, error) in [
        ("", "the text is empty"),
        ("anyhow", "of anyhow"),
        ("boxed", "boxed"),
        ("text", "a text"),
        ("fatal", "around: for good"),
    ] {
        let task = pushed(text).await;
        let failed = soon(board.wait_as::<usize>(task)).await.unwrap_err();
        let BoardError::NotCompleted { task_id, state, reason } = failed else { panic!("{failed}") };
        assert_eq!((task_id, state, reason.as_str()), (task, TaskState::Dead, error));
    }
}

#[actix_rt::test]
async fn a_fatal_error_is_fatal_whatever_is_put_around_it() {
    let board = start(Board::builder().task::<Measure>()).await;
    let task = board.push(NewTask::of(&Measure { text: "fatal".into() }).max_attempts(5)).await.unwrap().task_id;
    assert_eq!(soon(board.wait(task)).await.unwrap().state, TaskState::Dead);
    assert_eq!(board.executions(task).await.unwrap().len(), 1);
}

#[actix_rt::test]
async fn nothing_returned_is_no_result_and_is_read_as_nothing() {
    let board = start(Board::builder().handler("nothing", |_, _| async { Ok(()) })).await;
    let task = board.push(json!({"type": "nothing"})).await.unwrap().task_id;
    soon(board.wait_as::<()>(task)).await.unwrap();
    assert_eq!(soon(board.wait_as::<Option<u8>>(task)).await.unwrap(), None);
    assert_eq!(board.get(task).await.unwrap().unwrap().result, None);
}

#[actix_rt::test]
async fn a_run_that_blocks_past_its_timeout_is_told_of() {
    let (tell, told) = mpsc::channel();
    let log = slog::Logger::root(std::sync::Mutex::new(Messages(tell)).fuse(), slog::o!());
    let board = start(Board::builder().logger(log).handler("blocks", |_, cx: Context| async move {
        // Time passes before this poll of the future returns, as in a handler that blocks its thread.
        cx.clock().advance(Duration::from_secs(3));
        Ok(())
    }))
    .await;
    let in_time = board.push(NewTask::new("blocks", &()).timeout(Duration::from_secs(3))).await.unwrap().task_id;
    soon(board.wait(in_time)).await.unwrap();
    assert_eq!(board.health().await.late_runs, 0);
    let late = board.push(NewTask::new("blocks", &()).timeout(Duration::from_secs(1))).await.unwrap().task_id;
    assert_eq!(soon(board.wait(late)).await.unwrap().state, TaskState::Completed);
    let run = &board.executions(late).await.unwrap()[0];
    let said = run.error_message.as_deref().unwrap_or_default();
    assert_eq!(run.status, ExecutionStatus::Success);
    assert!(said.starts_with("ended 2s after its timeout of 1s"), "{said}");
    assert_eq!(board.health().await.late_runs, 1);
    assert_eq!(told.try_iter().filter(|text| text == "WARN a run went on past its timeout").count(), 1);
}

#[actix_rt::test]
async fn a_delivery_is_given_back_without_using_up_an_attempt() {
    let board = start(Board::builder()).await;
    let pushed = board.push(json!({"type": "pulled"})).await.unwrap();
    for _ in 0..2 {
        let delivery = soon(board.pop("default", None)).await.unwrap().unwrap();
        assert_eq!((delivery.task_id(), delivery.attempt()), (pushed.task_id, 1));
        delivery.release().await.unwrap();
    }
    let record = board.get(pushed.task_id).await.unwrap().unwrap();
    assert_eq!((record.state, record.attempt), (TaskState::Pending, 0));
    assert!(board.executions(pushed.task_id).await.unwrap().is_empty());
    soon(board.pop("default", None)).await.unwrap().unwrap().ack().await.unwrap();
}

/// Pushes a task to a queue, pauses the queue, and counts its stored settings. The names are borrowed text, as a
/// program reads it at run time.
async fn pushed_to(board: &Board, queue: &str, kind: &str) -> usize {
    board.push(NewTask::new(kind, &()).queue(queue)).await.unwrap();
    board.pause(queue).await.unwrap();
    board.queue_settings().await.unwrap().iter().filter(|settings| settings.queue == *queue).count()
}

#[actix_rt::test]
async fn a_name_is_any_text() {
    let (queue, kind) = (String::from("own"), String::from("x"));
    let board = Board::builder().queue(queue.as_str(), 1).start().await.unwrap();
    assert_eq!(pushed_to(&board, &queue, &kind).await, 1);
    board.stop().await;
}
