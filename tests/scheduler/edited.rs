//! Rows of schedules that were edited by hand. All other schedules must go on beside them.

use std::sync::{Arc, Mutex};

use callboard::{Board, Event, Resume, ScheduleFilter, ScheduleStatus};

use crate::storage::{File, OFTEN, assert_whole, complete, until};
use crate::support::{builder, every, history, schedule};

/// Waits until the schedule "good" has fired more than `times` times from now on.
async fn good_goes_on(board: &Board, times: u64) {
    let before = board.schedules().get("good").await.unwrap().schedule.run_count;
    until(board, "good", |record, _| record.run_count > before + times).await;
}

#[actix_rt::test]
async fn a_row_edited_into_nonsense_is_parked_and_stops_no_other() {
    let file = File::new();
    let names = ["trigger", "zone", "params", "policy", "status", "options", "coalesce", "retry", "good"];
    let board = names.iter().fold(builder(), |builder, name| builder.schedule(schedule(name, every(OFTEN))));
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let hear = Arc::clone(&told);
    let board = board.on_event(move |event| {
        if let Event::ScheduleStopped { schedule, .. } = event {
            hear.lock().unwrap().push(schedule.to_string());
        }
    });
    let board = file.start(board).await;
    until(&board, "good", |record, _| record.run_count > 2).await;
    for (name, change) in [
        ("trigger", "trigger_expr = 'every now and then'"),
        ("zone", "timezone = 'Europe/Nowhere'"),
        ("params", "params = '{'"),
        ("policy", "overlap_policy = 'both'"),
        ("status", "status = 'awake'"),
        ("options", "options = 'none', misfire_grace = 'x'"),
        ("coalesce", "coalesce = 'some'"),
        ("retry", "retry = 'never'"),
    ] {
        file.execute(&format!("UPDATE scheduler_task SET {change} WHERE name = '{name}'"));
    }
    let bad = &names[..names.len() - 1];
    for name in bad {
        until(&board, name, |record, _| {
            record.status == ScheduleStatus::Paused && record.status_reason.as_ref().is_some_and(|why| why.len() > 10)
        })
        .await;
        println!("{}", board.schedules().get(*name).await.unwrap().schedule.status_reason.unwrap());
    }
    let before = board.schedules().get("good").await.unwrap().schedule.run_count;
    until(&board, "good", |record, _| record.run_count > before + 3).await;
    until(&board, "good", |_, _| told.lock().unwrap().len() >= bad.len()).await;
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    told.sort_unstable();
    let mut bad = bad.to_vec();
    bad.sort_unstable();
    assert_eq!(told, bad, "of each that was parked everyone hears once");
    assert!(board.schedules().resume("trigger", Resume::FromNow).await.is_err(), "it makes no sense yet");
    board.schedules().update("trigger", schedule("trigger", every(OFTEN))).await.unwrap();
    board.schedules().resume("trigger", Resume::FromNow).await.unwrap();
    let before = board.schedules().get("trigger").await.unwrap().schedule.run_count;
    until(&board, "trigger", |record, _| record.run_count > before).await;
    board.stop().await;
}

#[actix_rt::test]
async fn the_largest_numbers_and_a_schedule_that_storage_refuses_stop_no_other() {
    let file = File::new();
    let names = ["large", "refused", "locked", "good"];
    let board =
        names.iter().fold(builder(), |builder, name| builder.schedule(complete(schedule(name, every(OFTEN)))));
    let board = file.start(board).await;
    until(&board, "good", |record, _| record.run_count > 2).await;
    let largest = i64::MAX;
    file.execute(&format!("UPDATE scheduler_task SET run_count = {largest}, turn = {largest} WHERE name = 'large'"));
    let id = board.schedules().get("refused").await.unwrap().schedule.schedule_id;
    file.execute(&format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON schedule_firing WHEN new.schedule_id = '{id}'
        BEGIN SELECT raise(ABORT, 'refused'); END"
    ));
    file.execute(
        "CREATE TRIGGER keep BEFORE UPDATE ON scheduler_task WHEN old.name = 'locked'
        BEGIN SELECT raise(ABORT, 'kept as it is'); END",
    );
    let fired = history(&board, "large").await.len();
    good_goes_on(&board, 20).await;
    until(&board, "large", |record, firings| {
        record.run_count == largest.unsigned_abs() && record.turn < largest && firings.len() > fired
    })
    .await;
    board.stop().await;
    assert_whole(&{
        let board = file.start(builder()).await;
        let firings = history(&board, "good").await;
        board.stop().await;
        firings
    });
}

#[actix_rt::test]
async fn an_id_edited_by_hand_is_mended_or_parks_its_schedule() {
    let file = File::new();
    let names = ["upper", "lost", "twin", "good"];
    let code = || names.iter().fold(builder(), |builder, name| builder.schedule(schedule(name, every(OFTEN))));
    let board = file.start(code()).await;
    for name in names {
        until(&board, name, |record, _| record.run_count > 2).await;
    }
    let upper = board.schedules().get("upper").await.unwrap().schedule;
    board.stop().await;
    file.execute("UPDATE scheduler_task SET schedule_id = upper(schedule_id) WHERE name = 'upper'");
    file.execute("UPDATE scheduler_task SET schedule_id = 'my own' WHERE name = 'lost'");
    file.execute(
        "UPDATE scheduler_task SET schedule_id = (SELECT upper(schedule_id) FROM scheduler_task WHERE name = 'good')
        WHERE name = 'twin'",
    );
    let board = file.start(code()).await;
    good_goes_on(&board, 3).await;
    until(&board, "upper", |record, _| record.schedule_id == upper.schedule_id && record.run_count > upper.run_count)
        .await;
    for (name, told) in [("lost", "\"my own\" is no id"), ("twin", "that of another schedule")] {
        until(&board, name, |record, _| {
            record.status == ScheduleStatus::Paused
                && record.next_run_at.is_none()
                && record.status_reason.as_ref().is_some_and(|why| why.contains(told))
        })
        .await;
        board.schedules().update(name, schedule(name, every(OFTEN))).await.unwrap();
        board.schedules().resume(name, Resume::FromNow).await.unwrap();
        until(&board, name, |_, firings| firings.len() > 1).await;
    }
    board.stop().await;
}

#[actix_rt::test]
async fn a_deleted_schedule_stays_deleted_whatever_its_row_says() {
    let file = File::new();
    let code = builder().schedule(schedule("gone", every(OFTEN))).schedule(schedule("good", every(OFTEN)));
    let board = file.start(code).await;
    until(&board, "gone", |record, _| record.run_count > 2).await;
    // The version stays the same, so this node believes that the schedule is due. The turn is new, because otherwise a
    // firing in flight would overwrite the row.
    file.execute(
        "UPDATE scheduler_task SET status = 'deleted', overlap_policy = 'both', turn = turn + 1 WHERE name = 'gone'",
    );
    good_goes_on(&board, 5).await;
    let deleted = ScheduleFilter { statuses: vec![ScheduleStatus::Deleted], ..ScheduleFilter::default() };
    assert_eq!(board.schedules().list(deleted, None, 10).await.unwrap().len(), 1);
    board.stop().await;
}
