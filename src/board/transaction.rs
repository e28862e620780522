//! Pushes and completions in a transaction of the application.

use super::Board;
use crate::backend::sql::AppConnection;
use crate::error::PushError;
use crate::runtime::core::Stage;
use crate::runtime::queue::Pushed;
use crate::runtime::queue::push::one;
use crate::runtime::queue::transaction::push_in;
use crate::task::IntoNewTask;

impl Board {
    /// Pushes a task in the application's own transaction: it is stored if and only if that transaction commits.
    ///
    /// `conn` is a Diesel connection of the application to the database in which this board keeps its tasks. Its
    /// transaction was begun by Diesel, with `conn.transaction(..)` or a similar method. The call blocks like any other
    /// statement. The task runs soon after the commit: PostgreSQL notifies all nodes at once, SQLite is polled every
    /// 100 ms, MySQL up to every 800 ms, and more often while there is work. The push publishes no event.
    ///
    /// - **SQLite**: `conn` is open on the board's file. Begin with `immediate_transaction`: a transaction that reads
    ///   first and then writes fails if a concurrent write came in between. No task is stored, started or ended while
    ///   the transaction lasts, so keep it short.
    /// - **PostgreSQL**: `conn` leads to the board's database. Its search path does not matter, and stays as it is. All
    ///   transactions that push commit in sequence, as always with `NOTIFY`.
    /// - **MySQL**, **MariaDB**: `conn` was opened on the board's database, and never switched to a different database.
    ///   A transaction that takes over a key from an ended task may keep all other pushes waiting, so keep it short.
    ///
    /// Options, unique keys and answers are those of [`push`](Board::push). While a transaction that pushed a key is
    /// open, every other push of the same key waits for its end. A transaction at REPEATABLE READ or above may not see
    /// the task that holds its key. Then the push fails with an error that
    /// [is transient](crate::BackendError::is_transient), and the application must repeat the transaction. Read ids
    /// that the database generates, such as `LAST_INSERT_ID()`, before the push: after it they are the ids of the task.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use callboard::{Board, NewTask};
    /// use diesel::prelude::*;
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("shop.db").display().to_string();
    /// # actix_rt::System::new().block_on(async {
    /// let board = Board::builder().url(format!("sqlite:{file}")).start().await?;
    /// let mut conn = SqliteConnection::establish(&file)?;
    /// diesel::sql_query("CREATE TABLE orders (id INTEGER)").execute(&mut conn)?;
    ///
    /// let pushed = conn.immediate_transaction(|conn| -> Result<_, Box<dyn std::error::Error>> {
    ///     diesel::sql_query("INSERT INTO orders VALUES (7)").execute(conn)?;
    ///     Ok(board.push_in(conn, NewTask::new("send_invoice", &7))?)
    /// })?;
    /// assert!(board.get(pushed.task_id).await?.is_some());
    /// # board.stop().await;
    /// # Ok(())
    /// # })
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`PushError`]. After [`PushError::Transaction`] nothing of the push is left; roll the transaction back, because
    /// some databases allow nothing else. After any other error the transaction can continue.
    pub fn push_in<C: AppConnection>(&self, conn: &mut C, task: impl IntoNewTask) -> Result<Pushed, PushError> {
        one(self.push_many_in(conn, [task])?)
    }

    /// Pushes several tasks like [`push_in`](Board::push_in): all of them or none. The answers come in the same order.
    ///
    /// # Errors
    /// As [`push_in`](Board::push_in); then none is stored.
    pub fn push_many_in<C: AppConnection, T: IntoNewTask>(
        &self,
        conn: &mut C,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Pushed>, PushError> {
        if self.core.stage() != Stage::Running {
            return Err(PushError::Closed);
        }
        push_in(&self.core, conn, tasks)
    }
}
