//! A completion is stored if and only if the transaction of its handler commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use callboard::backend::{OpenOptions, Opened, open};
use callboard::{
    Board, BoardBuilder, CompleteError, Context, Event, NewTask, Outcome, Retry, TaskError, TaskRecord, TaskResult,
    TaskState,
};
use diesel::connection::{Connection, SimpleConnection};
use std::time::Duration;

use super::{Place, on_each, regret};

on_each!(
    what_commits_is_completed_once,
    whatever_comes_after_the_commit_changes_nothing,
    after_a_rollback_the_handler_decides,
    a_panic_in_the_transaction_is_a_failure,
    a_run_that_lost_its_task_is_fenced,
);

/// A board that runs a single task at a time, and a counter of completed tasks. `run` is the handler; it gets the
/// number of the run, counted from 1.
fn running<P: Place>(
    place: &Arc<P>,
    run: impl Fn(&P, &Context, u32) -> TaskResult + Send + Sync + 'static,
) -> (BoardBuilder, Arc<AtomicU32>) {
    let (place, ended) = (Arc::clone(place), Arc::new(AtomicU32::new(0)));
    let (runs, counter) = (AtomicU32::new(0), Arc::clone(&ended));
    let builder = Board::builder()
        .queue("default", 1)
        .handler("work", move |_, cx: Context| {
            let number = runs.fetch_add(1, Ordering::Relaxed) + 1;
            let outcome = run(&place, &cx, number);
            async move { outcome }
        })
        .on_event(move |event| {
            if matches!(event, Event::Completed(_)) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    (builder, ended)
}

/// Inserts the order and completes its task in a transaction. The result of `end` then decides whether the transaction
/// commits.
fn complete<P: Place>(place: &P, cx: &Context, end: impl FnOnce() -> Result<(), TaskError>) -> Result<(), TaskError> {
    P::transaction(&mut place.connect(), |conn| {
        conn.batch_execute(&place.order())?;
        cx.complete_in(conn, &"in the transaction")?;
        end()
    })
}

/// Pushes a task, and a second task when the first has ended. The second run shows that the lane has its room back.
/// Returns the first task, and the statuses of its runs.
async fn run_two<P: Place>(place: &P, board: &Board) -> (TaskRecord, Vec<&'static str>) {
    let again = NewTask::new("work", &()).retry(Retry::fixed(Duration::ZERO));
    let first = board.push(again.clone()).await.unwrap().task_id;
    let task = board.wait(first).await.unwrap();
    let before = place.count();
    let second = board.push(again).await.unwrap().task_id;
    assert_eq!(board.wait(second).await.unwrap().state, TaskState::Completed);
    assert_eq!(place.count(), before + 1);
    let runs = board.executions(first).await.unwrap();
    (task, runs.iter().map(|run| run.status.as_str()).collect())
}

async fn what_commits_is_completed_once<P: Place>() {
    let place = Arc::new(P::new());
    let (builder, completed) = running(&place, |place, cx, _| {
        complete(place, cx, || Ok(()))?;
        Ok(Outcome::done())
    });
    let board = place.start(builder).await;
    let (task, runs) = run_two(&*place, &board).await;
    assert_eq!((task.state, task.result), (TaskState::Completed, Some("in the transaction".into())));
    assert_eq!((runs, task.attempt, task.crash_count), (vec!["success"], 1, 0));
    assert_eq!(board.health().await.fenced, 0);
    board.stop().await;
    assert_eq!((place.count(), completed.load(Ordering::Relaxed)), (2, 2));
}

async fn whatever_comes_after_the_commit_changes_nothing<P: Place>() {
    let place = Arc::new(P::new());
    let (builder, completed) = running(&place, |place, cx, number| {
        complete(place, cx, || Ok(()))?;
        if number == 1 { panic!("after the commit") } else { Err(TaskError::fatal("after the commit").into()) }
    });
    let board = place.start(builder).await;
    let (task, runs) = run_two(&*place, &board).await;
    assert_eq!((task.state, task.last_error, runs), (TaskState::Completed, None, vec!["success"]));
    assert_eq!(board.health().await.fenced, 0);
    board.stop().await;
    assert_eq!((place.count(), completed.load(Ordering::Relaxed)), (2, 2));
}

async fn after_a_rollback_the_handler_decides<P: Place>() {
    let place = Arc::new(P::new());
    let (builder, completed) = running(&place, |place, cx, number| match number {
        1 => {
            complete(place, cx, regret)?;
            Ok(Outcome::done())
        }
        2 => {
            complete(place, cx, regret).unwrap_err();
            Outcome::output(&"by the handler")
        }
        _ => {
            complete(place, cx, || Ok(()))?;
            Ok(Outcome::done())
        }
    });
    let board = place.start(builder).await;
    let (task, runs) = run_two(&*place, &board).await;
    assert_eq!((task.state, task.result), (TaskState::Completed, Some("by the handler".into())));
    assert_eq!((runs, task.last_error.as_deref()), (vec!["failed", "success"], Some("regretted")));
    assert_eq!(board.health().await.fenced, 0);
    board.stop().await;
    assert_eq!((place.count(), completed.load(Ordering::Relaxed)), (1, 2));
}

async fn a_panic_in_the_transaction_is_a_failure<P: Place>() {
    let place = Arc::new(P::new());
    let (builder, _) = running(&place, |place, cx, number| {
        complete(place, cx, || if number == 1 { panic!("in the transaction") } else { Ok(()) })?;
        Ok(Outcome::done())
    });
    let board = place.start(builder).await;
    let (task, runs) = run_two(&*place, &board).await;
    assert_eq!((task.state, runs), (TaskState::Completed, vec!["failed", "success"]));
    assert_eq!(board.health().await.fenced, 0);
    board.stop().await;
    assert_eq!(place.count(), 2);
}

async fn a_run_that_lost_its_task_is_fenced<P: Place>() {
    let place = Arc::new(P::new());
    let other: Opened = open(&place.url(), &OpenOptions::default()).unwrap();
    let (builder, _) = running(&place, move |place, cx, number| {
        if number == 1 {
            let node = other.get(cx.task_id())?.unwrap().node.unwrap();
            assert_eq!(other.release(node, &[], false, cx.clock().now())?.tasks, 1);
            let mut conn = place.connect();
            let lost = conn.transaction(|conn| {
                conn.batch_execute(&place.order())?;
                cx.complete_in(conn, &()).map_err(|error| {
                    assert!(matches!(error, CompleteError::Fenced(task) if task == cx.task_id()), "{error}");
                    diesel::result::Error::RollbackTransaction
                })
            });
            lost?;
        }
        complete(place, cx, || Ok(()))?;
        Ok(Outcome::done())
    });
    let board = place.start(builder).await;
    let (task, runs) = run_two(&*place, &board).await;
    assert_eq!((task.state, runs, task.attempt), (TaskState::Completed, vec!["success"], 1));
    assert_eq!(board.health().await.fenced, 1);
    board.stop().await;
    assert_eq!(place.count(), 2, "nothing is left of the run that was fenced");
}
