//! What a board asks of its server when there is nothing to do.

use std::time::{Duration, Instant};

use callboard::{Board, NewTask, Outcome, TaskState};
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::json;

use crate::own::Own;
use crate::servers::{Database, Schema};
use crate::waiting::{eventually, soon};

/// Over which statements are counted: two heartbeats, and some of everything else that is done now and then.
const SPAN: Duration = Duration::from_secs(10);

/// A board that has had something to do, and has it no more.
async fn at_rest(url: &str) -> Board {
    let board =
        Board::builder().url(url).handler("work", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
    let task_id = board.push(NewTask::new("work", &json!({}))).await.unwrap().task_id;
    assert_eq!(soon("its end", board.wait(task_id)).await.unwrap().state, TaskState::Completed);
    // Until its next heartbeat it has done all that belongs to a start, such as making connections.
    let beat = async || board.nodes().await.unwrap()[0].heartbeat_at;
    let first = beat().await;
    eventually("a heartbeat", async || (beat().await > first).then_some(())).await;
    board
}

#[actix_rt::test]
async fn postgres_hears_less_than_two_statements_a_second() {
    // What it is sent, simple and prepared, is written to its log.
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
    // Or this does not count what it should: there were heartbeats.
    assert!(statements.iter().any(|statement| statement.contains("INTO node")), "{heard}");
}

#[derive(QueryableByName)]
struct Variable {
    #[diesel(sql_type = Text)]
    #[diesel(column_name = Value)]
    value: String,
}

/// Statements that the server was sent, prepared ones each time they are run.
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
    // This one question is not the board's.
    let (asked, span) = (questions(&mut conn) - before - 1, begun.elapsed());
    soon("the stop", board.stop()).await;
    println!("{asked} statements in {span:?}");
    assert!((asked as f64) < 15.0 * span.as_secs_f64(), "{asked} statements in {span:?}");
    // Or this does not count what it should: a board looks at least once in 0.8 s.
    assert!(asked > 5, "{asked} statements in {span:?}");
}
