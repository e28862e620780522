//! The times at which schedules fire.

use callboard::testing::at;
use callboard::{Board, HealthWarning, ScheduleStatus, TaskFilter, TaskOrder, TaskState, Timestamp, Trigger};
use serde_json::json;

use crate::support::{DAY, HOUR, MINUTE, builder, every, fired, schedule, start};

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

/// The silent schedules that `health()` reports: the name, `leaves_out` and `until` of each.
async fn silent(board: &Board) -> Vec<(String, Timestamp, Timestamp)> {
    let warnings = board.health().await.warnings.into_iter();
    let silent = warnings.filter_map(|warning| match warning {
        HealthWarning::ScheduleSilent { schedule, leaves_out, until } => {
            Some((schedule.to_string(), leaves_out, until))
        }
        _ => None,
    });
    silent.collect()
}

#[actix_rt::test]
async fn health_names_schedules_that_a_clock_set_ahead_and_back_silences_and_a_moved_cursor_lets_them_go_on() {
    const HOURS: u64 = 3_600;
    let schedule = |name, span| schedule(name, every(span)).keep_firings(10_000);
    let paused = schedule("paused", HOUR).paused();
    let board = builder().schedule(schedule("tick", HOUR)).schedule(schedule("daily", DAY)).schedule(paused);
    let board = start(board).await;
    board.advance(HOUR).await;
    assert_eq!(silent(&board).await, []);
    // The clock is set ahead by ten days, and then back.
    board.clock().set_wall(at(240 * HOURS));
    board.settle().await;
    board.clock().set_wall(at(2 * HOURS + 60));
    board.advance(2 * MINUTE).await;
    let tick = ("tick".to_owned(), at(3 * HOURS), at(241 * HOURS));
    let daily = ("daily".to_owned(), at(24 * HOURS), at(264 * HOURS));
    let mut found = silent(&board).await;
    found.sort();
    assert_eq!(found, [daily.clone(), tick]);
    let warnings = board.health().await.warnings;
    let text = warnings.iter().map(ToString::to_string).find(|text| text.contains("\"tick\"")).unwrap();
    assert!(
        text.contains("silent until 2026-01-11T01:00:00.000000Z") && text.contains("schedules().move_cursor"),
        "{text}"
    );
    // The remedy that the warning names helps at once.
    board.schedules().move_cursor("tick", board.clock().now()).await.unwrap();
    board.settle().await;
    assert_eq!(silent(&board).await, [daily]);
    board.advance(2 * HOUR).await;
    assert_eq!(
        fired(&board, "tick").await,
        [HOURS, 3 * HOURS, 4 * HOURS, 240 * HOURS],
        "240 by the clock that was ahead"
    );
    board.schedules().move_cursor("daily", board.clock().now()).await.unwrap();
    board.advance(2 * DAY).await;
    assert_eq!(
        (silent(&board).await, fired(&board, "daily").await),
        (vec![], vec![24 * HOURS, 48 * HOURS, 240 * HOURS])
    );
    // A time that ran while the clock was ahead does not run again.
    board.advance(10 * DAY).await;
    let all = fired(&board, "tick").await;
    assert_eq!(all.iter().filter(|time| **time == 240 * HOURS).count(), 1);
    assert_eq!(all.last(), Some(&(292 * HOURS)));
}
