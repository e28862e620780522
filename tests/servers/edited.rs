//! Rows of schedules that were edited by hand.

use std::time::Duration;

use callboard::{Board, NewTask, Outcome, Schedule, ScheduleStatus, Trigger};

use crate::place::{Place, on_both};
use crate::waiting::eventually;

on_both!(an_id_that_is_none_parks_its_schedule_alone);

async fn start(url: String) -> Board {
    let often = || Trigger::every(Duration::from_millis(50)).unwrap();
    let schedule = |name| Schedule::new(name, often(), NewTask::new("work", &()));
    let board = Board::builder().url(url).handler("work", |_, _| async { Ok(Outcome::done()) });
    board.schedule(schedule("upper")).schedule(schedule("lost")).schedule(schedule("good")).start().await.unwrap()
}

async fn fires(board: &Board, name: &'static str) {
    let run_count = async || board.schedules().get(name).await.unwrap().schedule.run_count;
    let before = run_count().await;
    eventually(name, async || (run_count().await > before + 2).then_some(())).await;
}

async fn an_id_that_is_none_parks_its_schedule_alone<P: Place>() {
    let place = P::new();
    let board = start(place.url()).await;
    fires(&board, "good").await;
    board.stop().await;
    place.execute("UPDATE scheduler_task SET schedule_id = upper(schedule_id) WHERE name = 'upper'");
    place.execute("UPDATE scheduler_task SET schedule_id = 'my own' WHERE name = 'lost'");
    let board = start(place.url()).await;
    fires(&board, "good").await;
    fires(&board, "upper").await;
    let parked = async || {
        let lost = board.schedules().get("lost").await.unwrap().schedule;
        let told = lost.status_reason.is_some_and(|why| why.contains("is no id"));
        (told && lost.status == ScheduleStatus::Paused && lost.next_run_at.is_none()).then_some(())
    };
    eventually("the other is parked", parked).await;
    board.stop().await;
}
