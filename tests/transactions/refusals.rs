//! Connections that are not fit for a push. The push is refused, and its error names the cause.

use callboard::{Board, NewTask, PushError};
use diesel::connection::{Connection, SimpleConnection};
use diesel::{MysqlConnection, PgConnection, SqliteConnection};

use super::{InFile, Place, on_each, servers};

on_each!(outside_of_a_transaction_there_is_no_push_in, a_stopped_board_takes_no_push);

fn text<T: std::fmt::Debug>(outcome: Result<T, PushError>) -> String {
    let error = outcome.unwrap_err();
    assert!(matches!(error, PushError::Transaction(_)), "{error:?}");
    error.to_string()
}

/// The URL of a database that every PostgreSQL server has.
fn elsewhere() -> String {
    let url = servers::postgres_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/template1")
}

fn task() -> NewTask {
    NewTask::new("work", &())
}

async fn outside_of_a_transaction_there_is_no_push_in<P: Place>() {
    let place = P::new();
    let board = place.start(Board::builder()).await;
    let mut conn = place.connect();
    let refused = text(board.push_in(&mut conn, task()));
    assert!(refused.contains("no transaction is open") && refused.contains("conn.transaction()"), "{refused}");
    conn.batch_execute("BEGIN").unwrap();
    conn.batch_execute(&place.order()).unwrap();
    assert!(text(board.push_in(&mut conn, task())).contains("no transaction is open"));
    conn.batch_execute("ROLLBACK").unwrap();
    assert_eq!((place.count(), board.counts().await.unwrap().len()), (0, 0));
    // A fault of the task is reported first, and the transaction goes on.
    let invalid = P::transaction(&mut conn, |conn| {
        assert!(matches!(board.push_in(conn, task().max_attempts(0)), Err(PushError::Invalid(_))));
        Ok(board.push_many_in(conn, Vec::<NewTask>::new())?)
    });
    assert_eq!(invalid.unwrap(), []);
    board.stop().await;
}

async fn a_stopped_board_takes_no_push<P: Place>() {
    let place = P::new();
    let board = place.start(Board::builder()).await;
    board.stop().await;
    let refused = P::transaction(&mut place.connect(), |conn| {
        assert!(matches!(board.push_in(conn, task()), Err(PushError::Closed)));
        Ok(())
    });
    refused.unwrap();
}

#[actix_rt::test]
async fn a_connection_of_another_kind_is_refused() {
    let (file, schema) = (InFile::new(), servers::Schema::new());
    let mut conn = file.connect();
    conn.begin_test_transaction().unwrap();
    let on_postgres = schema.start(Board::builder()).await;
    let refused = text(on_postgres.push_in(&mut conn, task()));
    assert!(refused.contains("in postgres") && refused.contains("PgConnection"), "{refused}");
    on_postgres.stop().await;
    let in_memory = Board::builder().start().await.unwrap();
    let refused = text(in_memory.push_in(&mut conn, task()));
    assert!(refused.contains("take part in a transaction"), "{refused}");
    in_memory.stop().await;
}

#[actix_rt::test]
async fn a_connection_that_leads_elsewhere_is_refused() {
    let (file, other) = (InFile::new(), InFile::new());
    let board = file.start(Board::builder()).await;
    for path in [other.path(), ":memory:".into()] {
        let mut conn = SqliteConnection::establish(&path).unwrap();
        conn.begin_test_transaction().unwrap();
        let refused = text(board.push_in(&mut conn, task()));
        assert!(refused.contains(&file.path()), "{refused}");
    }
    board.stop().await;

    let schema = servers::Schema::new();
    let board = schema.start(Board::builder()).await;
    let mut elsewhere = PgConnection::establish(&elsewhere()).unwrap();
    elsewhere.begin_test_transaction().unwrap();
    let refused = text(board.push_in(&mut elsewhere, task()));
    assert!(refused.contains("template1") && refused.contains(schema.name()), "{refused}");
    board.stop().await;

    let (own, other) = (servers::Database::new(), servers::Database::new());
    let board = own.start(Board::builder()).await;
    let mut nowhere = MysqlConnection::establish(&servers::mysql_url()).unwrap();
    nowhere.begin_test_transaction().unwrap();
    assert!(text(board.push_in(&mut nowhere, task())).contains("no database"));
    let mut elsewhere = other.connect();
    elsewhere.begin_test_transaction().unwrap();
    let refused = text(board.push_in(&mut elsewhere, task()));
    assert!(refused.contains(other.name()) && refused.contains(own.name()), "{refused}");
    board.stop().await;
}
