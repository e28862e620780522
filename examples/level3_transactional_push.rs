//! Lesson: an order and the task that ships it are stored together or not at all; so are the shipment and the task's
//! end.
//!
//! Command: `cargo run --example level3_transactional_push`
//!
//! Expected output:
//! ```text
//! order 1 is not paid: no order, no task
//! order 2 is shipped: completed, "by ship"
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use callboard::{Board, BoxError, Context, Task, TaskError, TaskId, TaskResult};
use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Ship {
    order: i64,
}

impl Task for Ship {
    const TYPE: &'static str = "ship";
    type Output = ();

    async fn run(self, cx: &Context) -> TaskResult<()> {
        let file = cx.data::<String>().ok_or_else(|| TaskError::fatal("no file"))?;
        open(file)?.immediate_transaction(|conn| -> Result<_, BoxError> {
            sql_query(format!("UPDATE shop SET shipped = 1 WHERE id = {}", self.order)).execute(conn)?;
            Ok(cx.complete_in(conn, &"by ship")?)
        })
    }
}

/// The board writes to the same file: the second writer waits.
fn open(file: &str) -> Result<SqliteConnection, BoxError> {
    let mut conn = SqliteConnection::establish(file)?;
    sql_query("PRAGMA busy_timeout = 5000").execute(&mut conn)?;
    Ok(conn)
}

/// An error rolls the transaction back.
fn order(board: &Board, conn: &mut SqliteConnection, order: i64, paid: bool) -> Result<TaskId, BoxError> {
    conn.immediate_transaction(|conn| {
        sql_query(format!("INSERT INTO shop VALUES ({order}, 0)")).execute(conn)?;
        let pushed = board.push_in(conn, Ship { order })?;
        if paid { Ok(pushed.task_id) } else { Err(format!("order {order} is not paid").into()) }
    })
}

#[actix_rt::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shop.db").display().to_string();
    let board = Board::builder().url(format!("sqlite:{file}")).data(file.clone()).task::<Ship>().start().await?;
    let mut conn = open(&file)?;
    sql_query("CREATE TABLE shop (id INTEGER, shipped INTEGER)").execute(&mut conn)?;
    if let Err(error) = order(&board, &mut conn, 1, false) {
        assert!(board.counts().await?.is_empty());
        println!("{error}: no order, no task");
    }
    let task = board.wait(order(&board, &mut conn, 2, true)?).await?;
    println!("order 2 is shipped: {}, {}", task.state, task.result.unwrap_or_default());
    board.stop().await;
    Ok(())
}
