//! `TestBoard`: a board for tests, whose clock is moved by the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use callboard::testing::{TestBoard, at};
use callboard::{
    Board, BoardBuilder, Context, ExecutionStatus, NewTask, Outcome, Retry, Task, TaskError, TaskResult, TaskState,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A task whose first `failures` attempts fail.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stubborn {
    failures: u32,
}

impl Task for Stubborn {
    const TYPE: &'static str = "stubborn";
    type Output = Outcome;

    fn retry() -> Retry {
        Retry::fixed(HOUR)
    }

    async fn run(self, cx: &Context) -> TaskResult {
        if cx.attempt() <= self.failures { Err(TaskError::new("no").into()) } else { Ok(Outcome::done()) }
    }
}

async fn start(builder: BoardBuilder) -> TestBoard {
    TestBoard::start(builder).await.unwrap()
}

async fn stubborn_board() -> TestBoard {
    start(Board::builder().task::<Stubborn>()).await
}

/// A board with a handler that signals `begun`, and then runs until the test signals `end`.
fn held(begun: &Arc<Notify>, end: &Arc<Notify>) -> BoardBuilder {
    let (begun, end) = (Arc::clone(begun), Arc::clone(end));
    Board::builder().handler("held", move |_, _| {
        let (begun, end) = (Arc::clone(&begun), Arc::clone(&end));
        async move {
            begun.notify_one();
            end.notified().await;
            Ok(())
        }
    })
}

#[actix_rt::test]
async fn a_retry_after_an_hour_runs_when_the_hour_has_passed() {
    let board = stubborn_board().await;
    let task = board.push(Stubborn { failures: 1 }).await.unwrap().task_id;
    board.settle().await;
    board.assert_state(task, TaskState::Retrying);
    board.advance(HOUR - Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Retrying);
    board.advance(Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Completed);
}

#[actix_rt::test]
async fn each_retry_runs_at_its_own_time_within_one_advance() {
    let board = stubborn_board().await;
    let task = board.push(Stubborn { failures: 3 }).await.unwrap().task_id;
    board.advance(DAY).await;
    board.assert_state(task, TaskState::Completed);
    let starts: Vec<_> = board.executions(task).await.unwrap().iter().map(|run| run.started_at).collect();
    assert_eq!(starts, [at(0), at(3600), at(7200), at(10_800)]);
    assert_eq!(board.clock().now(), at(86_400));
}

#[actix_rt::test]
async fn a_delayed_task_does_not_run_early() {
    let board = stubborn_board().await;
    let task = NewTask::of(&Stubborn { failures: 0 }).delay(DAY);
    let task = board.push(task).await.unwrap().task_id;
    board.advance(DAY - Duration::from_micros(1)).await;
    board.assert_state(task, TaskState::Scheduled);
    board.advance(Duration::from_micros(1)).await;
    board.assert_state(task, TaskState::Completed);
}

#[actix_rt::test]
async fn what_expires_before_it_starts_is_cancelled() {
    let board = stubborn_board().await;
    board.pause("default").await.unwrap();
    let task = NewTask::of(&Stubborn { failures: 0 }).expires_in(HOUR);
    let task = board.push(task).await.unwrap().task_id;
    board.advance(HOUR - Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Pending);
    board.advance(Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Cancelled);
    board.resume("default").await.unwrap();
    board.settle().await;
    board.assert_state(task, TaskState::Cancelled);
}

#[actix_rt::test]
async fn a_snoozed_task_runs_again_later_and_uses_up_no_attempt() {
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    let board = start(Board::builder().handler("doze", move |_, _| {
        let run = counter.fetch_add(1, Ordering::Relaxed);
        async move { Ok(if run < 2 { Outcome::Snooze(HOUR) } else { Outcome::done() }) }
    }))
    .await;
    let task = board.push(json!({"type": "doze"})).await.unwrap().task_id;
    board.settle().await;
    board.assert_state(task, TaskState::Scheduled);
    board.advance(2 * HOUR).await;
    board.assert_state(task, TaskState::Completed);
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert_eq!(board.get(task).await.unwrap().unwrap().attempt, 1);
}

#[actix_rt::test]
async fn a_run_and_a_delivery_survive_a_jump_of_a_day() {
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let board = start(held(&begun, &end)).await;
    let running = board.push(json!({"type": "held"})).await.unwrap().task_id;
    begun.notified().await;
    let popped = board.push(json!({"type": "by hand"})).await.unwrap().task_id;
    let delivery = board.pop("default", None).await.unwrap().unwrap();

    board.jump(DAY).await;
    assert!(board.health().await.lease_holds);
    end.notify_one();
    board.settle().await;
    board.assert_state(running, TaskState::Completed);
    delivery.ack().await.unwrap();
    board.assert_state(popped, TaskState::Completed);
    assert_eq!(board.health().await.fenced, 0);
    assert_eq!(board.executions(running).await.unwrap().len(), 1, "nobody rescued it");
}

#[actix_rt::test]
async fn a_run_that_takes_too_long_times_out() {
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let board = start(held(&begun, &end)).await;
    let task = NewTask::new("held", &()).timeout(HOUR).max_attempts(1);
    let task = board.push(task).await.unwrap().task_id;
    begun.notified().await;
    board.jump(HOUR - Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Running);
    board.jump(Duration::from_secs(1)).await;
    board.settle().await;
    board.assert_state(task, TaskState::Dead);
    assert_eq!(board.executions(task).await.unwrap()[0].status, ExecutionStatus::Timeout);
}

#[actix_rt::test]
async fn a_delivery_that_is_not_settled_in_time_is_offered_again() {
    let board = start(Board::builder()).await;
    let task = NewTask::new("by hand", &()).timeout(HOUR);
    let task = board.push(task).await.unwrap().task_id;
    let late = board.pop("default", None).await.unwrap().unwrap();
    board.advance(HOUR).await;
    assert!(late.ack().await.is_err(), "its time ran out");
    let again = board.pop("default", None).await.unwrap().unwrap();
    assert_eq!((again.task_id(), again.attempt()), (task, 2));
    again.snooze(HOUR).await.unwrap();
    board.advance(HOUR).await;
    board.pop("default", None).await.unwrap().unwrap().ack().await.unwrap();
}

#[actix_rt::test]
async fn a_clock_that_is_put_back_and_forth_loses_nothing() {
    let board = stubborn_board().await;
    let delayed = NewTask::of(&Stubborn { failures: 0 }).delay(HOUR);
    let delayed = board.push(delayed).await.unwrap().task_id;

    board.clock().set_wall(at(0) - DAY);
    let retried = board.push(Stubborn { failures: 1 }).await.unwrap().task_id;
    board.advance(2 * HOUR).await;
    board.assert_state(retried, TaskState::Completed);
    // The task becomes due by the wall clock, which is a day behind.
    board.assert_state(delayed, TaskState::Scheduled);

    board.clock().set_wall(at(0) + DAY);
    board.settle().await;
    board.assert_state(delayed, TaskState::Completed);

    board.clock().set_wall(at(0) - 300 * DAY);
    let after = board.push(Stubborn { failures: 2 }).await.unwrap().task_id;
    board.advance(2 * HOUR).await;
    board.assert_state(after, TaskState::Completed);
    assert!(board.health().await.healthy);
}

#[actix_rt::test]
async fn values_of_the_public_store_expire_by_the_clock() {
    let board = start(Board::builder()).await;
    board.store().set_public("session", "k=1", Some(HOUR)).await.unwrap();
    board.advance(HOUR - Duration::from_secs(1)).await;
    assert_eq!(board.store().get_public("session").await.unwrap(), Some("k=1".into()));
    board.advance(Duration::from_secs(1)).await;
    assert_eq!(board.store().get_public("session").await.unwrap(), None);
}

#[actix_rt::test]
async fn settling_waits_for_what_tasks_push_and_for_callbacks() {
    let heard = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&heard);
    let board = start(
        Board::builder()
            .handler("countdown", |params, cx: Context| async move {
                let left = params.as_u64().unwrap_or(0);
                if left > 0 {
                    cx.push(NewTask::new("countdown", &(left - 1))).await.map_err(TaskError::from)?;
                }
                Ok(())
            })
            .on_completed("countdown", move |_| {
                std::thread::yield_now();
                counter.fetch_add(1, Ordering::Relaxed);
            }),
    )
    .await;
    board.push(NewTask::new("countdown", &99)).await.unwrap();
    board.settle().await;
    assert_eq!(heard.load(Ordering::Relaxed), 100);
}

#[actix_rt::test]
async fn tasks_that_nobody_here_runs_do_not_keep_it_from_settling() {
    let board = start(Board::builder().task::<Stubborn>().queue("default", 2).queue("idle", 0)).await;
    board.pause("default").await.unwrap();
    let tasks = ["default", "idle", "elsewhere"].map(|queue| NewTask::of(&Stubborn { failures: 0 }).queue(queue));
    board.push_many(tasks).await.unwrap();
    board.push(json!({"type": "unknown", "queue": "idle"})).await.unwrap();
    board.settle().await;
    board.leave_rest();
}

#[actix_rt::test]
async fn pushed_tasks_can_be_asked_for() {
    let board = stubborn_board().await;
    for failures in [0, 1] {
        board.push(Stubborn { failures }).await.unwrap();
    }
    board.advance(HOUR).await;
    assert_eq!(board.pushed::<Stubborn>(), [Stubborn { failures: 0 }, Stubborn { failures: 1 }]);
    board.assert_pushed::<Stubborn>(|task| task.failures == 1);
    let text = failure(|| board.assert_pushed::<Stubborn>(|task| task.failures == 7));
    assert!(text.contains(r#"{"failures":1}"#), "{text}");
}

#[actix_rt::test]
async fn a_wrong_state_is_told_with_what_is_known_of_the_task() {
    let board = start(Board::builder().task::<Stubborn>()).await;
    let task = NewTask::of(&Stubborn { failures: 1 }).max_attempts(1);
    let task = board.push(task).await.unwrap().task_id;
    board.settle().await;
    let text = failure(|| board.assert_state(task, TaskState::Completed));
    assert!(
        text.starts_with("expected completed, found dead stubborn") && text.ends_with("last error: no"),
        "{text}"
    );
}

#[actix_rt::test]
async fn a_forgotten_task_fails_the_test() {
    let board = stubborn_board().await;
    board.push(Stubborn { failures: 1 }).await.unwrap();
    board.settle().await;
    let text = failure(move || drop(board));
    assert!(text.contains("leaves tasks") && text.contains("retrying stubborn"), "{text}");
}

#[actix_rt::test]
async fn a_run_that_does_not_end_neither_hangs_the_drop_nor_is_forgotten() {
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let board = start(held(&begun, &end)).await;
    board.push(json!({"type": "held"})).await.unwrap();
    begun.notified().await;
    let text = failure(move || drop(board));
    assert!(text.contains("pending held"), "{text}");
}

#[actix_rt::test]
async fn a_test_that_has_failed_keeps_its_own_message() {
    let board = stubborn_board().await;
    board.push(NewTask::of(&Stubborn { failures: 0 }).delay(HOUR)).await.unwrap();
    let text = failure(move || {
        let _board = board;
        panic!("what the test found");
    });
    assert_eq!(text, "what the test found");
}

#[test]
fn a_board_without_a_system_works_too_and_leaves_no_thread() {
    let before = threads();
    let run = async {
        let board = stubborn_board().await;
        let task = board.push(Stubborn { failures: 4 }).await.unwrap().task_id;
        board.advance(4 * HOUR).await;
        board.assert_state(task, TaskState::Completed);
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run);
    // The threads have been told to end, and are about to. A leaked thread would keep this loop from ending.
    while threads() > before {
        std::thread::yield_now();
    }
}

/// The number of system threads of boards, found by their name. The threads of other tests come and go.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(name).filter(|name| name.starts_with("callboard-sys")).count()
}

/// The message with which a closure panics.
fn failure(act: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).expect_err("it should fail");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}
