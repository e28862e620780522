//! Work that no node runs. The board reports it at the start, and while the work waits.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::{Backend, memory::Memory};
use callboard::{
    Board, BoardBuilder, Clock, Context, Event, HealthWarning, NewTask, Outcome, Schedule, Task, TaskResult,
    Timestamp, Trigger, UnrunReason, UnrunTasks,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{HOUR, soon};

#[derive(Serialize, Deserialize)]
struct Mail {}

impl Task for Mail {
    const TYPE: &'static str = "mail";
    const QUEUE: &'static str = "post";
    type Output = Outcome;
    async fn run(self, _: &Context) -> TaskResult<Outcome> {
        Ok(Outcome::done())
    }
}

/// A node with a manual clock, and a channel with its reports of tasks that no node runs.
async fn node(builder: BoardBuilder, clock: &Clock) -> (Board, mpsc::UnboundedReceiver<UnrunTasks>) {
    let (tell, told) = mpsc::unbounded_channel();
    let builder = builder.clock(clock.clone()).lease(HOUR).on_event(move |event| {
        if let Event::TasksUnrun(tasks) = event {
            tell.send(tasks.clone()).unwrap_or(());
        }
    });
    (builder.start().await.unwrap(), told)
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_700_000_000_000_000))
}

/// Reads the warnings until they are as `wanted`, and returns them. If that never happens, the time limit fails the
/// test.
async fn until(board: &Board, wanted: impl Fn(&[HealthWarning]) -> bool) -> Vec<HealthWarning> {
    let look = async {
        loop {
            let warnings = board.health().await.warnings;
            if wanted(&warnings) {
                return warnings;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(look).await
}

fn handled(builder: BoardBuilder, kind: &'static str) -> BoardBuilder {
    builder.handler(kind, |_, _| async { Ok(Outcome::done()) })
}

#[actix_rt::test]
async fn a_handler_whose_queue_the_node_does_not_have_is_warned_of() {
    let default = || HealthWarning::DefaultQueueNotRun { types: vec!["x".into()] };
    let post = || HealthWarning::QueueNotRun { kind: "mail".into(), queue: "post".into() };
    for (queues, wanted) in [
        (&[][..], vec![post()]),
        (&[("default", 1), ("post", 1)], vec![]),
        (&[("post", 1)], vec![default()]),
        (&[("other", 1)], vec![post(), default()]),
        // A concurrency of 0 is set on purpose, so there is no warning.
        (&[("other", 1), ("post", 0), ("default", 0)], vec![]),
    ] {
        let builder = handled(Board::builder(), "x").task::<Mail>();
        let builder = queues.iter().fold(builder, |builder, (queue, tasks)| builder.queue(*queue, *tasks));
        let board = builder.start().await.unwrap();
        let health = board.health().await;
        assert_eq!(health.warnings, wanted, "{queues:?}");
        assert!(health.healthy);
        for warning in health.warnings {
            assert!(warning.to_string().contains(".queue("), "{warning}");
        }
        board.stop().await;
    }
}

#[actix_rt::test]
async fn pending_tasks_that_nobody_runs_are_told_of_until_somebody_does() {
    let clock = clock();
    let (board, mut told) = node(handled(Board::builder(), "known"), &clock).await;
    let from = clock.now();
    let tasks = ["foreign", "known", "foreign"].map(|kind| NewTask::new(kind, &()));
    board.push_many(tasks).await.unwrap();
    board.push(NewTask::new("known", &()).queue("nowhere")).await.unwrap();
    board.pause("paused").await.unwrap();
    board.push(NewTask::new("foreign", &()).queue("paused")).await.unwrap();
    clock.advance(Duration::from_secs(30));
    let found = [soon(told.recv()).await.unwrap(), soon(told.recv()).await.unwrap()];
    let seen = found.each_ref().map(|tasks| (&*tasks.queue, &*tasks.kind, tasks.tasks, tasks.reason));
    assert_eq!(seen, [("default", "foreign", 2, UnrunReason::Type), ("nowhere", "known", 1, UnrunReason::Queue)]);
    assert!(found.iter().all(|tasks| tasks.oldest == from && !tasks.more), "{found:?}");
    let warnings = board.health().await.warnings;
    assert_eq!(warnings, found.map(HealthWarning::TasksNotRun));
    assert!(warnings[0].to_string().contains(".handler(\"foreign\""), "{}", warnings[0]);
    assert!(warnings[1].to_string().contains(".queue(\"nowhere\""), "{}", warnings[1]);
    // Each finding is reported once. Its warning ends when a caller pulls from the queue.
    let somewhere = soon(board.pop("nowhere", None)).await.unwrap().unwrap();
    soon(somewhere.ack()).await.unwrap();
    clock.advance(Duration::from_secs(20));
    until(&board, |warnings| warnings.len() == 1).await;
    soon(board.pop("default", None)).await.unwrap().unwrap().ack().await.unwrap();
    clock.advance(Duration::from_secs(20));
    until(&board, <[_]>::is_empty).await;
    assert!(told.try_recv().is_err());
    board.stop().await;
}

#[actix_rt::test]
async fn a_schedule_whose_tasks_nobody_runs_is_warned_of() {
    let hourly = |name: &'static str, kind, queue| {
        Schedule::new(name, Trigger::cron("@hourly", None).unwrap(), NewTask::new(kind, &()).queue(queue))
    };
    let builder = handled(Board::builder(), "x").schedule(hourly("good", "x", "default"));
    let builder = builder.schedule(hourly("bad queue", "x", "nowhere")).schedule(hourly("bad type", "y", "default"));
    let clock = clock();
    let (board, _told) = node(builder, &clock).await;
    let warnings = until(&board, |warnings| !warnings.is_empty()).await;
    let of = |schedule: &'static str, kind: &'static str, queue: &'static str, reason| {
        HealthWarning::ScheduleNotRun { schedule: schedule.into(), kind: kind.into(), queue: queue.into(), reason }
    };
    let queue = of("bad queue", "x", "nowhere", UnrunReason::Queue);
    assert_eq!(warnings, [queue, of("bad type", "y", "default", UnrunReason::Type)]);
    board.stop().await;
}

/// Two nodes with different queues and types.
async fn two_nodes(storage: impl Fn(BoardBuilder) -> BoardBuilder) {
    let clock = clock();
    let (first, mut told) = node(handled(storage(Board::builder()).queue("a", 1), "x"), &clock).await;
    let (second, mut second_told) = node(handled(storage(Board::builder()).queue("b", 1), "y"), &clock).await;
    // These runs are over before the second node pulls from the same queues.
    for (board, kind, queue) in [(&first, "x", "a"), (&second, "y", "b")] {
        let pushed = board.push(NewTask::new(kind, &()).queue(queue)).await.unwrap();
        soon(board.wait(pushed.task_id)).await.unwrap();
    }
    for (kind, queue) in [("x", "b"), ("y", "a"), ("x", "c")] {
        first.push(NewTask::new(kind, &()).queue(queue)).await.unwrap();
    }
    clock.advance(Duration::from_secs(30));
    for told in [&mut told, &mut second_told] {
        for wanted in [("a", "y", UnrunReason::Type), ("b", "x", UnrunReason::Type), ("c", "x", UnrunReason::Queue)] {
            let tasks = soon(told.recv()).await.unwrap();
            assert_eq!((&*tasks.queue, &*tasks.kind, tasks.reason), wanted);
        }
    }
    let nodes = first.nodes().await.unwrap();
    let mut types: Vec<_> = nodes.into_iter().flat_map(|node| node.types).collect();
    types.sort_unstable();
    assert_eq!(types, ["x", "y"]);
    // The second node pulls from each queue with tasks that the first node cannot run.
    let pulls = ["a", "b", "c"].map(|queue| second.pop(queue, None));
    for delivery in soon(futures_util::future::join_all(pulls)).await {
        delivery.unwrap().unwrap().ack().await.unwrap();
    }
    clock.advance(Duration::from_secs(20));
    until(&first, |warnings| !warnings.iter().any(|warning| matches!(warning, HealthWarning::TasksNotRun(_)))).await;
    first.stop().await;
    second.stop().await;
}

#[actix_rt::test]
async fn nodes_know_what_the_others_run() {
    let storage: Arc<dyn Backend> = Arc::new(Memory::new());
    two_nodes(|builder| builder.backend(Arc::clone(&storage))).await;
}

#[cfg(feature = "sqlite")]
#[actix_rt::test]
async fn nodes_on_one_file_know_what_the_others_run() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasks.db").display());
    two_nodes(|builder| builder.url(&url)).await;
}
