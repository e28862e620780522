//! When schedules fire.

use callboard::testing::at;
use callboard::{ScheduleStatus, TaskFilter, TaskOrder, TaskState, Trigger};
use serde_json::json;

use crate::support::{HOUR, MINUTE, builder, every, fired, schedule, start};

#[actix_rt::test]
async fn an_interval_fires_at_its_times_and_each_task_knows_its_own() {
    let board = start(builder().schedule(schedule("tick", every(10 * MINUTE)))).await;
    board.advance(HOUR).await;
    assert_eq!(fired(&board, "tick").await, [600, 1200, 1800, 2400, 3000, 3600]);
    let tasks = board.list(TaskFilter::default(), TaskOrder::OldestFirst, None, 100).await.unwrap().tasks;
    assert_eq!(tasks.len(), 6);
    assert!(tasks.iter().all(|task| task.state == TaskState::Completed));
    assert_eq!(tasks[1].params, json!({"at": "2026-01-01T00:20:00Z"}).to_string());
    assert_eq!(tasks[1].firing.unwrap().nominal_at, at(1200));
    assert_eq!(tasks[1].started_at, Some(at(1200)));
}

#[actix_rt::test]
async fn a_date_fires_once_and_the_schedule_is_finished() {
    let once = schedule("once", Trigger::at(at(5)).unwrap());
    let board = start(builder().schedule(once)).await;
    board.advance(MINUTE).await;
    assert_eq!(fired(&board, "once").await, [5]);
    let record = board.schedules().get("once").await.unwrap().schedule;
    assert_eq!((record.status, record.next_run_at, record.run_count), (ScheduleStatus::Finished, None, 1));
}

#[actix_rt::test]
async fn a_clock_set_ahead_a_day_runs_what_coalesce_says_and_one_set_back_runs_nothing_twice() {
    let board = start(builder().schedule(schedule("tick", every(HOUR)))).await;
    board.advance(2 * HOUR).await;
    board.clock().set_wall(at(26 * 3600 + 60));
    board.settle().await;
    assert_eq!(fired(&board, "tick").await, [3600, 7200, 26 * 3600], "the latest of the backlog");
    board.clock().set_wall(at(25 * 3600));
    board.settle().await;
    board.advance(HOUR + 2 * MINUTE).await;
    assert_eq!(fired(&board, "tick").await, [3600, 7200, 26 * 3600], "each time once");
    board.advance(HOUR).await;
    assert_eq!(fired(&board, "tick").await, [3600, 7200, 26 * 3600, 27 * 3600]);
}
