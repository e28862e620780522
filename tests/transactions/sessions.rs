//! The settings of the application's connection make no difference, and its open transactions block no other work.

use std::time::Duration;

use callboard::{Board, NewTask, TaskError, TaskState, Unique};
use diesel::connection::{AnsiTransactionManager, Connection, SimpleConnection, TransactionManager};
use diesel::{MysqlConnection, PgConnection, QueryableByName, RunQueryDsl};
use futures_util::future::{Either, select};

use super::{Place, on_servers, servers, working};

// Only on servers, because there a second connection may write at the same time.
on_servers!(
    an_open_transaction_is_in_nobodys_way,
    what_is_committed_late_is_noticed_too,
    pools_give_connections_as_well
);

/// On MySQL these transactions are REPEATABLE READ.
async fn an_open_transaction_is_in_nobodys_way<P: Place>() {
    let place = P::new();
    let board = place.start(working()).await;
    // This board does not run that queue.
    board.push(NewTask::new("work", &()).queue("elsewhere").unique(Unique::key("held"))).await.unwrap();
    let mut conn = place.connect();
    conn.begin_test_transaction().unwrap();
    let open = [
        NewTask::new("work", &()),
        NewTask::new("work", &()).tag("tagged"),
        NewTask::new("work", &()).unique(Unique::key("free")),
        NewTask::new("work", &()).unique(Unique::key("held")),
        // The key is held by a task of this transaction.
        NewTask::new("work", &()).unique(Unique::key("free")),
    ];
    let open = open.map(|task| board.push_in(&mut conn, task).unwrap());
    assert_eq!(open.iter().filter(|pushed| pushed.duplicate).count(), 2);
    for task in [NewTask::new("work", &()), NewTask::new("work", &()).unique(Unique::key("other")).tag("tagged")] {
        let push = std::pin::pin!(async { board.wait(board.push(task).await.unwrap().task_id).await.unwrap().state });
        let patience = std::pin::pin!(actix_rt::time::sleep(Duration::from_secs(3)));
        match select(push, patience).await {
            Either::Left((state, _)) => assert_eq!(state, TaskState::Completed),
            Either::Right(_) => panic!("the board waits for the application"),
        }
    }
    drop(conn);
    for pushed in open.iter().filter(|pushed| !pushed.duplicate) {
        assert!(board.get(pushed.task_id).await.unwrap().is_none());
    }
    board.stop().await;
}

/// The late task has an earlier place in push order than the early task. It becomes visible only after the board has
/// seen the early task.
async fn what_is_committed_late_is_noticed_too<P: Place>() {
    let place = P::new();
    let board = place.start(working()).await;
    let (mut first, mut second) = (place.connect(), place.connect());
    AnsiTransactionManager::begin_transaction(&mut first).unwrap();
    let late = board.push_in(&mut first, NewTask::new("work", &())).unwrap();
    let early = P::transaction(&mut second, |conn| Ok(board.push_in(conn, NewTask::new("work", &()))?)).unwrap();
    board.wait(early.task_id).await.unwrap();
    AnsiTransactionManager::commit_transaction(&mut first).unwrap();
    board.wait(late.task_id).await.unwrap();
    board.stop().await;
}

async fn pools_give_connections_as_well<P: Place>()
where
    P::Conn: diesel::r2d2::R2D2Connection,
{
    let place = P::new();
    let board = place.start(working()).await;
    let url = place.url().replace(&format!("?{}", place.url().split('?').nth(1).unwrap_or("-")), "");
    let pool = diesel::r2d2::Pool::builder().max_size(1).build(diesel::r2d2::ConnectionManager::<P::Conn>::new(url));
    let pushed = pool
        .unwrap()
        .get()
        .unwrap()
        .transaction(|conn| -> Result<_, TaskError> { Ok(board.push_in(conn, NewTask::new("work", &()))?) });
    board.wait(pushed.unwrap().task_id).await.unwrap();
    board.stop().await;
}

#[derive(QueryableByName)]
struct Text {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}

fn search_path(conn: &mut PgConnection) -> String {
    diesel::sql_query("SELECT current_setting('search_path') AS text").get_result::<Text>(conn).unwrap().text
}

#[actix_rt::test]
async fn a_search_path_is_as_it_was() {
    let (one, two) = (servers::Schema::new(), servers::Schema::new());
    let (first, second) = (one.start(working()).await, two.start(working()).await);
    let mut conn = one.connect();
    conn.batch_execute("SET search_path TO pg_catalog; CREATE TEMP TABLE task_queue (nothing INT)").unwrap();
    let pushed = conn.transaction(|conn| {
        conn.batch_execute("SET LOCAL search_path TO public, pg_catalog")?;
        // The same statements, prepared once, serve the tables of two boards.
        let pushed = [&first, &second, &first].map(|board| (board, board.push_in(conn, NewTask::new("work", &()))));
        assert_eq!(search_path(conn), "public, pg_catalog");
        Ok::<_, TaskError>(pushed)
    });
    assert_eq!(search_path(&mut conn), "pg_catalog");
    for (board, pushed) in pushed.unwrap() {
        board.wait(pushed.unwrap().task_id).await.unwrap();
    }
    first.stop().await;
    second.stop().await;
}

/// A prepared statement keeps the database that was in use when it was prepared.
#[actix_rt::test]
async fn a_connection_that_changes_its_database_is_noticed() {
    let (one, two) = (servers::Database::new(), servers::Database::new());
    let (first, second) = (one.start(working()).await, two.start(working()).await);
    let mut conn: MysqlConnection = one.connect();
    conn.batch_execute("SET SESSION sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES'").unwrap();
    let push = |conn: &mut MysqlConnection, board: &Board| {
        conn.transaction(|conn| Ok::<_, TaskError>(board.push_in(conn, NewTask::new("work", &()).tag("a"))?))
    };
    first.wait(push(&mut conn, &first).unwrap().task_id).await.unwrap();
    conn.batch_execute(&format!("USE {}", two.name())).unwrap();
    let refused = push(&mut conn, &second).unwrap_err();
    assert!(refused.message().contains(&format!("has used, the database {}", one.name())), "{refused}");
    assert!(push(&mut conn, &first).is_err());
    conn.batch_execute(&format!("USE {}", one.name())).unwrap();
    first.wait(push(&mut conn, &first).unwrap().task_id).await.unwrap();
    assert_eq!(second.counts().await.unwrap(), []);
    first.stop().await;
    second.stop().await;
}
