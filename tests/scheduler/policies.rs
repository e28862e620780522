//! The rules of a schedule for missed times, overlapping runs and failed runs.

use std::sync::Arc;

use callboard::testing::{TestBoard, at};
use callboard::{
    Board, Coalesce, ExecutionStatus, FiringStatus, Overlap, Resume, Schedule, ScheduleStatus, TaskError, TaskFilter,
    TaskOrder, TaskState,
};
use tokio::sync::Semaphore;

use crate::support::{DAY, HOUR, MINUTE, builder, every, fired, history, schedule, start, with};

/// A board whose tasks run until they get a permit or are cancelled. Returns the permits too.
async fn gated(schedule: Schedule) -> (TestBoard, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inner = Arc::clone(&gate);
    let builder = Board::builder().handler("work", move |_, cx| {
        let gate = Arc::clone(&inner);
        async move {
            tokio::select! {
                permit = gate.acquire() => permit.unwrap().forget(),
                () = cx.cancelled() => return Err(TaskError::new("called off").into()),
            }
            Ok(())
        }
    });
    (start(builder.schedule(schedule)).await, gate)
}

/// The states of all tasks, in push order.
async fn states(board: &Board) -> Vec<TaskState> {
    let page = board.list(TaskFilter::default(), TaskOrder::OldestFirst, None, 100).await.unwrap();
    page.tasks.iter().map(|task| task.state).collect()
}

/// Polls until the tasks are in these states, because runs begin and end on threads of their own.
async fn until(board: &TestBoard, wanted: &[TaskState]) {
    let real = std::time::Instant::now();
    loop {
        board.jump(std::time::Duration::ZERO).await;
        let found = states(board).await;
        if found == wanted {
            return;
        }
        assert!(real.elapsed().as_secs() < 20, "expected {wanted:?}, found {found:?}");
        tokio::task::yield_now().await;
    }
}

/// Moves the clock by ten minutes, even during runs.
async fn step(board: &TestBoard) {
    board.jump(10 * MINUTE).await;
}

#[actix_rt::test]
async fn skip_passes_by_what_overlaps() {
    use TaskState::{Completed, Running};
    let (board, gate) = gated(schedule("s", every(10 * MINUTE))).await;
    step(&board).await;
    until(&board, &[Running]).await;
    step(&board).await;
    assert_eq!(states(&board).await, [Running]);
    gate.add_permits(2);
    until(&board, &[Completed]).await;
    step(&board).await;
    until(&board, &[Completed, Completed]).await;
    assert_eq!(
        (fired(&board, "s").await, with(&board, "s", FiringStatus::Skipped).await),
        (vec![600, 1800], vec![1200])
    );
}

#[actix_rt::test]
async fn buffered_runs_follow_each_other() {
    use TaskState::{Completed, Running, Waiting};
    let (board, gate) = gated(schedule("s", every(10 * MINUTE)).overlap(Overlap::BufferAll)).await;
    step(&board).await;
    until(&board, &[Running]).await;
    step(&board).await;
    until(&board, &[Running, Waiting]).await;
    step(&board).await;
    until(&board, &[Running, Waiting, Waiting]).await;
    gate.add_permits(1);
    until(&board, &[Completed, Running, Waiting]).await;
    gate.add_permits(2);
    until(&board, &[Completed, Completed, Completed]).await;
}

#[actix_rt::test]
async fn one_is_buffered_and_no_more() {
    use TaskState::{Completed, Running, Waiting};
    let (board, gate) = gated(schedule("s", every(10 * MINUTE)).overlap(Overlap::BufferOne)).await;
    step(&board).await;
    until(&board, &[Running]).await;
    step(&board).await;
    step(&board).await;
    until(&board, &[Running, Waiting]).await;
    assert_eq!(with(&board, "s", FiringStatus::Skipped).await, [1800]);
    gate.add_permits(2);
    until(&board, &[Completed, Completed]).await;
}

#[actix_rt::test]
async fn the_other_is_called_off_and_the_new_one_waits_for_its_end() {
    use TaskState::{Cancelled, Completed, Running};
    let (board, gate) = gated(schedule("s", every(10 * MINUTE)).overlap(Overlap::CancelOther)).await;
    step(&board).await;
    until(&board, &[Running]).await;
    step(&board).await;
    until(&board, &[Cancelled, Running]).await;
    gate.add_permits(1);
    until(&board, &[Cancelled, Completed]).await;
    let first = history(&board, "s").await[0].clone();
    let runs = board.executions(first.task_id.unwrap()).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.status).collect::<Vec<_>>(), [ExecutionStatus::Cancelled]);
}

#[actix_rt::test]
async fn allowed_runs_go_side_by_side() {
    use TaskState::{Completed, Running};
    let (board, gate) = gated(schedule("s", every(10 * MINUTE)).overlap(Overlap::Allow)).await;
    step(&board).await;
    until(&board, &[Running]).await;
    step(&board).await;
    until(&board, &[Running, Running]).await;
    gate.add_permits(2);
    until(&board, &[Completed, Completed]).await;
}

#[actix_rt::test]
async fn an_outage_is_made_up_as_the_rules_say() {
    let outage = |name, change: fn(Schedule) -> Schedule| change(schedule(name, every(HOUR)).overlap(Overlap::Allow));
    let board = start(
        builder()
            .schedule(outage("latest", |s| s))
            .schedule(outage("earliest", |s| s.coalesce(Coalesce::Earliest)))
            .schedule(outage("all", |s| s.coalesce(Coalesce::All(2))))
            .schedule(outage("none", |s| s.coalesce(Coalesce::None)))
            .schedule(outage("grace", |s| s.misfire_grace(90 * MINUTE).coalesce(Coalesce::All(10)))),
    )
    .await;
    // The process was suspended from its first minute until four and a half hours later.
    board.jump(4 * HOUR + 30 * MINUTE).await;
    board.settle().await;
    assert_eq!(fired(&board, "latest").await, [14_400]);
    assert_eq!(fired(&board, "earliest").await, [3_600]);
    assert_eq!(fired(&board, "all").await, [10_800, 14_400]);
    assert!(fired(&board, "none").await.is_empty());
    assert_eq!(fired(&board, "grace").await, [10_800, 14_400]);
    assert_eq!(with(&board, "grace", FiringStatus::Missed).await, [3_600, 7_200]);
    assert_eq!(with(&board, "latest", FiringStatus::Coalesced).await, [3_600, 7_200, 10_800]);
    board.advance(HOUR).await;
    for name in ["latest", "earliest", "all", "none", "grace"] {
        assert_eq!(fired(&board, name).await.last(), Some(&18_000), "{name} goes on");
    }
}

#[actix_rt::test]
async fn failures_in_a_row_pause_it_and_count_anew_when_it_is_resumed() {
    let failing = Board::builder().handler("work", |_, _| async { Err::<(), _>(TaskError::fatal("broken").into()) });
    let board = start(failing.schedule(schedule("s", every(HOUR)).pause_after(3))).await;
    board.advance(DAY).await;
    assert_eq!(fired(&board, "s").await, [3_600, 7_200, 10_800]);
    let record = board.schedules().get("s").await.unwrap().schedule;
    assert_eq!(record.status, ScheduleStatus::Paused);
    assert!(record.status_reason.unwrap().contains("3 runs in a row failed"));
    board.schedules().resume("s", Resume::FromNow).await.unwrap();
    board.advance(DAY).await;
    assert_eq!(fired(&board, "s").await.len(), 6);
}

#[actix_rt::test]
async fn failures_of_what_is_made_up_for_count_and_those_before_do_not() {
    let failing =
        || Board::builder().handler("work", |_, _| async { Err::<(), _>(TaskError::fatal("broken").into()) });
    let catching_up = || {
        let schedule = schedule("s", every(MINUTE)).pause_after(3).run_limit(61);
        schedule.coalesce(Coalesce::All(1_000)).overlap(Overlap::BufferAll)
    };
    let board = start(failing().schedule(catching_up())).await;
    board.schedules().pause("s").await.unwrap();
    board.jump(HOUR).await;
    board.schedules().resume("s", Resume::CatchUp).await.unwrap();
    board.settle().await;
    let record = board.schedules().get("s").await.unwrap().schedule;
    assert_eq!(record.status, ScheduleStatus::Paused);
    assert!(record.status_reason.unwrap().contains("3 runs in a row failed"));
    // These runs have failed before the schedule is resumed, so they do not pause it again at once. They include a run
    // that was asked for by hand, and runs that lie ahead of a cursor that was moved back.
    board.schedules().trigger("s").await.unwrap();
    board.settle().await;
    board.schedules().move_cursor("s", at(0)).await.unwrap();
    board.schedules().resume("s", Resume::CatchUp).await.unwrap();
    board.settle().await;
    assert_eq!(board.schedules().get("s").await.unwrap().schedule.status, ScheduleStatus::Active);
    board.advance(MINUTE).await;
    let record = board.schedules().get("s").await.unwrap().schedule;
    assert_eq!((record.status, record.run_count), (ScheduleStatus::Finished, 61));
}

#[actix_rt::test]
async fn a_run_limit_finishes_it() {
    let board = start(builder().schedule(schedule("s", every(HOUR)).run_limit(2))).await;
    board.advance(DAY).await;
    assert_eq!(fired(&board, "s").await, [3_600, 7_200]);
    let record = board.schedules().get("s").await.unwrap().schedule;
    assert_eq!((record.status, record.run_count), (ScheduleStatus::Finished, 2));
    assert_eq!(record.last_run_at, Some(at(7_200)));
}

#[actix_rt::test]
async fn history_keeps_what_it_is_told_to() {
    let board = start(builder().schedule(schedule("s", every(MINUTE)).keep_firings(5))).await;
    board.advance(2 * HOUR).await;
    let kept = fired(&board, "s").await;
    assert!((5..=21).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept.last(), Some(&7_200));
}
