//! The machine's clock is set while two boards share a file. Tasks run, wait for their time and are retried meanwhile.

use std::sync::Arc;
use std::time::Duration;

use callboard::testing::at;
use callboard::{Board, BoardBuilder, Clock, Context, NewTask, Outcome, Retry, TaskError, TaskId, TaskState};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::{Place, eventually, soon};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Far less than each change of the clock, and more than the time that the tests let pass between two heartbeats.
const LEASE: Duration = Duration::from_secs(999);

#[actix_rt::test]
async fn a_clock_that_is_set_back_and_forth_loses_nothing() {
    let (place, clock) = (Place::new(), Clock::manual(at(0)));
    let builder = || Board::builder().url(place.url()).clock(clock.clone()).lease(LEASE);
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let board = with_handlers(builder(), &begun, &end).start().await.unwrap();
    // This board would rescue the tasks of the first board if it took that board for dead.
    let other = builder().start().await.unwrap();
    let held = push(&board, NewTask::new("held", &json!({}))).await;
    soon("its begin", begun.notified()).await;
    let delayed = push(&board, tried_twice().delay(HOUR)).await;
    beats(&clock, &board).await;

    // A task pushed now goes by the new time. A delayed task waits until the clock reaches its time.
    clock.set_wall(at(0) - HOUR);
    let back = push(&board, tried_twice()).await;
    ends(&clock, &board, back).await;
    beats(&clock, &board).await;
    for (task_id, state) in [(delayed, TaskState::Scheduled), (held, TaskState::Running)] {
        assert_eq!(board.get(task_id).await.unwrap().unwrap().state, state);
    }

    // All stored leases have ended by this time.
    clock.set_wall(at(0) + DAY);
    let ahead = push(&board, tried_twice()).await;
    ends(&clock, &board, delayed).await;
    ends(&clock, &board, ahead).await;
    beats(&clock, &board).await;
    end.notify_one();
    ends(&clock, &board, held).await;
    for (task_id, attempts) in [(held, 1), (delayed, 2), (back, 2), (ahead, 2)] {
        let runs = board.executions(task_id).await.unwrap();
        assert_eq!(runs.len(), attempts, "{runs:?}");
    }
    for board in [board, other] {
        let health = board.health().await;
        assert_eq!((health.rescued, health.fenced), (0, 0));
        soon("the stop", board.stop()).await;
    }
}

fn with_handlers(builder: BoardBuilder, begun: &Arc<Notify>, end: &Arc<Notify>) -> BoardBuilder {
    let (begun, end) = (Arc::clone(begun), Arc::clone(end));
    builder
        .handler("held", move |_, _| {
            let (begun, end) = (Arc::clone(&begun), Arc::clone(&end));
            async move {
                begun.notify_one();
                end.notified().await;
                Ok(Outcome::done())
            }
        })
        .handler("tried twice", |_, cx: Context| async move {
            if cx.attempt() == 1 { Err(TaskError::new("not yet").into()) } else { Ok(Outcome::done()) }
        })
}

fn tried_twice() -> NewTask {
    NewTask::new("tried twice", &json!({})).retry(Retry::fixed(Duration::from_secs(1)))
}

async fn push(board: &Board, task: NewTask) -> TaskId {
    board.push(task).await.unwrap().task_id
}

/// Advances the clock in small steps until the task is completed.
async fn ends(clock: &Clock, board: &Board, task_id: TaskId) {
    eventually("its end", async || {
        clock.advance(Duration::from_millis(100));
        (board.get(task_id).await.unwrap().unwrap().state == TaskState::Completed).then_some(())
    })
    .await;
}

/// Advances the clock until both boards have been healthy long enough to rescue tasks of dead nodes.
async fn beats(clock: &Clock, board: &Board) {
    for _ in 0..3 {
        clock.advance(LEASE / 3);
        eventually("the heartbeats", async || {
            let nodes = board.nodes().await.unwrap();
            (nodes.len() == 2 && nodes.iter().all(|node| node.heartbeat_at == clock.now())).then_some(())
        })
        .await;
    }
}
