//! Foreign locks on the tasks of a single schedule.

use std::time::Duration;

use callboard::{Board, NewTask, Outcome, Overlap, Schedule, Trigger};
use diesel::connection::SimpleConnection;

use crate::place::{Place, on_both};
use crate::waiting::eventually;

on_both!(a_locked_task_holds_up_its_schedule_alone);

const OFTEN: Duration = Duration::from_millis(50);

async fn run_count(board: &Board, name: &'static str) -> u64 {
    board.schedules().get(name).await.unwrap().schedule.run_count
}

async fn reaches(board: &Board, name: &'static str, count: u64) {
    eventually(name, async || (run_count(board, name).await >= count).then_some(())).await;
}

/// Locks the newest task of the schedule, which the schedule has to cancel before it makes the next. Earlier tasks are
/// cancelled already, so locks on them hold up nothing.
fn lock_newest<P: Place>(place: &P, other: &mut P::Conn) {
    let newest =
        || place.text("SELECT task_id AS text FROM task_queue WHERE type = 'long' ORDER BY seq DESC LIMIT 1");
    loop {
        let task_id = newest();
        other.batch_execute("BEGIN").unwrap();
        // Waits for a firing that cancels the task at this moment.
        other.batch_execute(&format!("UPDATE task_queue SET priority = 7 WHERE task_id = '{task_id}'")).unwrap();
        if newest() == task_id {
            return;
        }
        other.batch_execute("ROLLBACK").unwrap();
    }
}

async fn a_locked_task_holds_up_its_schedule_alone<P: Place>() {
    let place = P::new();
    let schedule =
        |name, kind: &'static str| Schedule::new(name, Trigger::every(OFTEN).unwrap(), NewTask::new(kind, &()));
    let board = Board::builder()
        .url(place.url())
        // A cancelled run must not write its end here, because that write would wait for the lock.
        .configure(|c| c.cancel_grace = Duration::from_secs(600))
        .configure(|c| c.drain = Duration::ZERO)
        .handler("long", |_, _| async {
            std::future::pending::<()>().await;
            Ok(Outcome::done())
        })
        .handler("short", |_, _| async { Ok(Outcome::done()) })
        .schedule(schedule("held", "long").overlap(Overlap::CancelOther))
        .schedule(schedule("good", "short").overlap(Overlap::Allow))
        .start()
        .await
        .unwrap();
    reaches(&board, "held", 3).await;
    let mut other = place.by_hand();
    lock_newest(&place, &mut other);
    let held = run_count(&board, "held").await;
    let good = run_count(&board, "good").await;
    reaches(&board, "good", good + 20).await;
    assert!(run_count(&board, "held").await <= held + 1, "one may have been under way");
    other.batch_execute("COMMIT").unwrap();
    reaches(&board, "held", held + 3).await;
}
