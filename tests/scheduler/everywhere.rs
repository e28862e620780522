//! The rules on a whole board, on every database: overlapping runs, cancelled runs, backfills, pauses, and rows that
//! were edited into nonsense.

use std::sync::Arc;
use std::time::Duration;

use callboard::{
    BackfillOrder, Board, Firing, FiringCause, FiringStatus, Outcome, Overlap, Resume, Schedule, ScheduleRecord,
    ScheduleStatus, TaskError, TaskState,
};
use diesel::connection::SimpleConnection;
use tokio::sync::Semaphore;

use crate::support::{HOUR, every, history, schedule};
use crate::waiting::eventually;

const OFTEN: Duration = Duration::from_millis(50);

/// A board whose runs end when they get a permit or are cancelled. Returns the permits too.
async fn gated(url: &str, schedules: Vec<Schedule>) -> (Board, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inner = Arc::clone(&gate);
    let builder = Board::builder().url(url).queue("default", 16).handler("work", move |_, cx| {
        let gate = Arc::clone(&inner);
        async move {
            tokio::select! {
                permit = gate.acquire() => permit.unwrap().forget(),
                () = cx.cancelled() => return Err(TaskError::new("called off").into()),
            }
            Ok(Outcome::done())
        }
    });
    let builder = schedules.into_iter().fold(builder, callboard::BoardBuilder::schedule);
    (builder.start().await.unwrap(), gate)
}

/// Polls a schedule and its firings until they are as `wanted`.
async fn until(board: &Board, name: &'static str, what: &str, wanted: impl Fn(&ScheduleRecord, &[Firing]) -> bool) {
    eventually(what, async || {
        let record = board.schedules().get(name).await.unwrap().schedule;
        wanted(&record, &history(board, name).await).then_some(())
    })
    .await;
}

fn count(firings: &[Firing], wanted: impl Fn(&Firing) -> bool) -> usize {
    firings.iter().filter(|firing| wanted(firing)).count()
}

async fn rules_hold(url: &str, by_hand: &mut impl SimpleConnection) {
    overlaps(url).await;
    backfills_and_pauses(url).await;
    nonsense_is_parked(url, by_hand).await;
}

async fn overlaps(url: &str) {
    let skip = schedule("skip", every(OFTEN));
    let cancel = schedule("cancel", every(OFTEN)).overlap(Overlap::CancelOther);
    let (board, gate) = gated(url, vec![skip, cancel]).await;
    until(&board, "skip", "one runs and others are passed by", |_, firings| {
        count(firings, |firing| firing.status == FiringStatus::Fired) == 1
            && count(firings, |firing| firing.status == FiringStatus::Skipped) >= 3
    })
    .await;
    until(&board, "cancel", "runs are called off for others", |_, firings| {
        count(firings, |firing| firing.state == Some(TaskState::Cancelled)) >= 3
    })
    .await;
    board.schedules().delete("cancel").await.unwrap();
    gate.add_permits(1_000);
    until(&board, "skip", "runs that do not overlap", |_, firings| {
        count(firings, |firing| firing.state == Some(TaskState::Completed)) >= 3
    })
    .await;
    board.schedules().delete("skip").await.unwrap();
    board.stop().await;
}

async fn backfills_and_pauses(url: &str) {
    let (board, gate) = gated(url, vec![schedule("fill", every(HOUR)).overlap(Overlap::CancelOther)]).await;
    let now = board.clock().now();
    let backfill =
        async || board.schedules().backfill("fill", now - 5 * HOUR, now, BackfillOrder::OneByOne).await.unwrap();
    let made = backfill().await.made;
    assert_eq!(made.len(), 5);
    assert_eq!((backfill().await.made.len(), backfill().await.already), (0, 5));
    // Firings by the clock run beside the backfill. They cancel each other, but not the backfill.
    board.schedules().update("fill", schedule("fill", every(OFTEN)).overlap(Overlap::CancelOther)).await.unwrap();
    until(&board, "fill", "the clock goes on beside a backfill", |_, firings| {
        count(firings, |firing| firing.cause == FiringCause::Schedule && firing.state == Some(TaskState::Cancelled))
            >= 3
    })
    .await;
    board.schedules().pause("fill").await.unwrap();
    gate.add_permits(1_000);
    for task_id in made {
        assert_eq!(board.wait(task_id).await.unwrap().state, TaskState::Completed);
    }
    let paused = board.schedules().get("fill").await.unwrap().schedule;
    assert_eq!((paused.status, paused.next_run_at), (ScheduleStatus::Paused, None));
    board.schedules().resume("fill", Resume::FromNow).await.unwrap();
    until(&board, "fill", "it goes on after a pause", |record, _| record.run_count > paused.run_count).await;
    let gone = board.schedules().get("fill").await.unwrap().firings;
    let pause = |firing: &&Firing| firing.cause == FiringCause::Schedule && firing.nominal_at > paused.cursor;
    assert!(gone.iter().filter(pause).all(|firing| firing.status != FiringStatus::Missed));
    board.schedules().delete("fill").await.unwrap();
    board.stop().await;
}

async fn nonsense_is_parked(url: &str, by_hand: &mut impl SimpleConnection) {
    let (board, gate) = gated(url, vec![schedule("bad", every(OFTEN)), schedule("good", every(OFTEN))]).await;
    gate.add_permits(100_000);
    until(&board, "good", "it fires", |record, _| record.run_count > 2).await;
    let nonsense = "UPDATE scheduler_task SET trigger_expr = 'every now and then' WHERE name = 'bad'";
    by_hand.batch_execute(nonsense).unwrap();
    until(&board, "bad", "it is parked with the reason", |record, _| {
        record.status == ScheduleStatus::Paused
            && record.status_reason.as_ref().is_some_and(|why| why.contains("its row makes no sense"))
    })
    .await;
    let before = board.schedules().get("good").await.unwrap().schedule.run_count;
    until(&board, "good", "the other goes on", |record, _| record.run_count > before + 3).await;
    board.schedules().delete("good").await.unwrap();
    board.stop().await;
}

#[actix_rt::test]
async fn the_rules_hold_on_sqlite() {
    use diesel::Connection;
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("tasks.db").display().to_string();
    let mut by_hand = diesel::SqliteConnection::establish(&path).unwrap();
    by_hand.batch_execute("PRAGMA busy_timeout = 10000").unwrap();
    rules_hold(&format!("sqlite:{path}"), &mut by_hand).await;
}

#[cfg(feature = "postgres")]
#[actix_rt::test]
async fn the_rules_hold_on_postgres() {
    let schema = crate::servers::Schema::new();
    // The schema exists once a board has opened it.
    Board::builder().url(schema.url()).start().await.unwrap().stop().await;
    rules_hold(&schema.url(), &mut schema.by_hand()).await;
}

#[cfg(feature = "mysql")]
#[actix_rt::test]
async fn the_rules_hold_on_mysql() {
    let database = crate::servers::Database::new();
    rules_hold(&database.url(), &mut database.by_hand()).await;
}
