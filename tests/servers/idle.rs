//! The statements that an idle board sends to its server.

use std::time::{Duration, Instant};

use callboard::{Board, NewTask, Outcome, TaskState};
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::json;

use crate::own::Own;
use crate::servers::{Database, Schema};
use crate::waiting::{eventually, soon};

/// Time over which statements are counted. It covers two heartbeats and several rounds of all other periodic work.
const SPAN: Duration = Duration::from_secs(10);

/// A board that has run a task and is idle now.
async fn at_rest(url: &str) -> Board {
    let board =
        Board::builder().url(url).handler("work", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
    let task_id = board.push(NewTask::new("work", &json!({}))).await.unwrap().task_id;
    assert_eq!(soon("its end", board.wait(task_id)).await.unwrap().state, TaskState::Completed);
    // By its next heartbeat the board has finished its start, such as making connections.
    let beat = async || board.nodes().await.unwrap()[0].heartbeat_at;
    let first = beat().await;
    eventually("a heartbeat", async || (beat().await > first).then_some(())).await;
    board
}

#[actix_rt::test]
async fn postgres_hears_less_than_two_statements_a_second() {
    // The server writes each statement to its log, simple or prepared.
    let server = Own::with::<Schema>(|_| vec!["-c".into(), "log_statement=all".into()]);
    let place = Schema::at(server.url());
    let log = || std::fs::read_to_string(server.folder().join("log")).unwrap();
    let board = at_rest(&place.url()).await;
    let (before, begun) = (log().len(), Instant::now());
    tokio::time::sleep(SPAN).await;
    let (heard, span) = (log().split_off(before), begun.elapsed());
    soon("the stop", board.stop()).await;
    let is_statement = |line: &&str| line.contains("LOG:  statement: ") || line.contains("LOG:  execute ");
    let statements: Vec<_> = heard.lines().filter(is_statement).collect();
    println!("{} statements in {span:?}", statements.len());
    assert!((statements.len() as f64) < 2.0 * span.as_secs_f64(), "{statements:#?}");
    // Check the count itself: the log must contain heartbeats.
    assert!(statements.iter().any(|statement| statement.contains("INTO node")), "{heard}");
}

#[derive(QueryableByName)]
struct Variable {
    #[diesel(sql_type = Text)]
    #[diesel(column_name = Value)]
    value: String,
}

/// Number of statements that the server received. A prepared statement counts each time it runs.
fn questions(conn: &mut MysqlConnection) -> u64 {
    let row: Variable = diesel::sql_query("SHOW GLOBAL STATUS LIKE 'Questions'").get_result(conn).unwrap();
    row.value.parse().unwrap()
}

#[actix_rt::test]
async fn mysql_hears_less_than_fifteen_statements_a_second() {
    let server = Own::new::<Database>();
    let place = Database::at(server.url());
    let board = at_rest(&place.url()).await;
    let mut conn = place.by_hand();
    let (before, begun) = (questions(&mut conn), Instant::now());
    tokio::time::sleep(SPAN).await;
    // The test sent this statement itself, so it does not count.
    let (asked, span) = (questions(&mut conn) - before - 1, begun.elapsed());
    soon("the stop", board.stop()).await;
    println!("{asked} statements in {span:?}");
    assert!((asked as f64) < 15.0 * span.as_secs_f64(), "{asked} statements in {span:?}");
    // Check the count itself: a board looks at storage at least once in 0.8 s.
    assert!(asked > 5, "{asked} statements in {span:?}");
}
