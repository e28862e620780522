//! Helpers that the tests share.

use std::time::Duration;

use callboard::testing::TestBoard;
use callboard::{Board, BoardBuilder, Firing, FiringStatus, NewTask, Outcome, Schedule, Timestamp, Trigger, Zone};
use serde_json::json;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Parses a moment in the format of RFC 3339.
pub(crate) fn moment(text: &str) -> Timestamp {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc().into()
}

pub(crate) fn every(span: Duration) -> Trigger {
    Trigger::every(span).unwrap()
}

pub(crate) fn cron(line: &str, zone: &str) -> Trigger {
    Trigger::cron(line, zone.parse::<Zone>().unwrap()).unwrap()
}

/// A schedule whose tasks carry their nominal time in their params.
pub(crate) fn schedule(name: &'static str, trigger: Trigger) -> Schedule {
    Schedule::new(name, trigger, NewTask::new("work", &json!({"at": "{{nominal_time}}"})).max_attempts(1))
}

/// A board whose tasks end at once.
pub(crate) fn builder() -> BoardBuilder {
    Board::builder().handler("work", |_, _| async { Ok(Outcome::done()) })
}

pub(crate) async fn start(builder: BoardBuilder) -> TestBoard {
    TestBoard::start(builder).await.unwrap()
}

/// The whole history of a schedule's firings, the earliest first.
pub(crate) async fn history(board: &Board, name: &'static str) -> Vec<Firing> {
    let mut firings = board.schedules().firings(name, None, 10_000).await.unwrap();
    firings.reverse();
    firings
}

/// The nominal times that made a task, in seconds since the board began.
pub(crate) async fn fired(board: &TestBoard, name: &'static str) -> Vec<u64> {
    with(board, name, FiringStatus::Fired).await
}

/// The nominal times of the firings with `status`, in seconds since the board began.
pub(crate) async fn with(board: &TestBoard, name: &'static str, status: FiringStatus) -> Vec<u64> {
    let firings = history(board, name).await;
    let of_status = firings.iter().filter(|firing| firing.status == status);
    of_status.map(|firing| firing.nominal_at.since(callboard::testing::at(0)).as_secs()).collect()
}
