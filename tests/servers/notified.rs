//! A listener on PostgreSQL is told that there is work, but not of each task.

use std::time::{Duration, Instant};

use callboard::{Board, NewTask};
use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use futures_util::future::join_all;

use crate::place::Place;
use crate::servers::Schema;
use crate::waiting::until;

const PRODUCERS: u32 = 16;
/// Pushes per producer, in sequence.
const PUSHES: u32 = 250;
/// Shortest time between two notifications, under any load.
const BETWEEN: Duration = Duration::from_millis(20);

#[actix_rt::test]
async fn thousands_of_pushes_are_told_of_by_few_notifications() {
    let place = Schema::new();
    let channel = format!("callboard:{}", place.name());
    let mut ear = place.by_hand();
    ear.batch_execute(&format!("LISTEN \"{channel}\"")).unwrap();
    let begun = Instant::now();
    // The board has no handlers. So rows stay as they were pushed, and each push is work for other nodes.
    let board = Board::builder().url(place.url()).start().await.unwrap();
    let producer = async |_| {
        for n in 0..PUSHES {
            board.push(NewTask::new("work", &n)).await.unwrap();
        }
    };
    join_all((0..PRODUCERS).map(producer)).await;
    board.stop().await;
    place.execute(&format!("SELECT pg_notify('{channel}', 'all')"));
    let mut told = Vec::new();
    until("the last notification", || {
        let new: QueryResult<Vec<_>> = ear.notifications_iter().collect();
        told.extend(new.unwrap().into_iter().map(|notification| notification.payload));
        told.iter().any(|payload| payload == "all").then_some(())
    });
    let (spans, told) = (begun.elapsed().as_millis() / BETWEEN.as_millis(), told.len() as u128 - 1);
    let tasks = u128::from(PRODUCERS * PUSHES);
    let commits = place.text("SELECT count(DISTINCT xmin::text)::text AS text FROM task_queue");
    println!("{tasks} tasks in {commits} commits told of by {told} notifications, in {spans} times {BETWEEN:?}");
    // Two extra notifications are allowed: the first at the beginning of the first span, and a repetition after a lost
    // connection.
    assert!(told <= spans + 2, "{told} notifications in {spans} times {BETWEEN:?}");
    assert!(told > 0 && told < tasks / 4, "{tasks} tasks were told of by {told} notifications");
}
