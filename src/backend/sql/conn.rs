//! The trait of connections that the operations use, the same for every database.

use diesel::QueryResult;

use super::dialect::Dialect;
use super::errors::Abort;
use super::statement::{Bound, Once, Statement, Value};
use super::work::{Batch, Glance, InsertNext, Kept, NewRow};
use crate::backend::{BackendError, Sweep};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::TaskState;

/// A connection to a database.
///
/// The operations in [`work`](super::work) are written once, on this trait. The methods after `run`, `load` and `first`
/// are the operations that differ between databases.
pub(super) trait Conn: Sized + 'static {
    const DIALECT: Dialect;

    /// The maximum number of rows in a statement.
    const MOST_ROWS: usize;

    /// Runs a statement and returns the number of rows that it changed.
    fn run<S: Statement>(&mut self, values: &[Value<'_>]) -> QueryResult<usize>;

    /// The rows that a statement returns.
    fn load<S: Statement, R: Reads<S>>(&mut self, values: &[Value<'_>]) -> QueryResult<Vec<R>>;

    /// The same as [`load`](Conn::load), with a text built for this call. `T` is the tuple of SQL types of a row.
    fn load_once<T: 'static, R: ReadsOnce<T>>(&mut self, sql: &str, values: &[Value<'_>]) -> QueryResult<Vec<R>>;

    /// The first row that a statement returns.
    fn first<S: Statement, R: Reads<S>>(&mut self, values: &[Value<'_>]) -> QueryResult<Option<R>> {
        Ok(self.load::<S, R>(values)?.into_iter().next())
    }

    /// The current time, if the database has a clock of its own.
    fn time(&mut self) -> QueryResult<Option<Timestamp>> {
        Ok(None)
    }

    /// Converts a database error. `sent` means that the work succeeded and its commit failed.
    fn meaning(operation: &'static str, error: &diesel::result::Error, sent: bool) -> BackendError;

    /// True if a lock did not become free in time.
    fn gave_up_waiting(_: &diesel::result::Error) -> bool {
        false
    }

    /// Stores a task whose key no visible row has. Used where storage numbers the rows. Does not wait (PostgreSQL: 5 ms
    /// at most) for a different transaction that stores the same key.
    fn insert_fresh(&mut self, _key: &str, values: &[Value<'_>]) -> Result<Kept<()>, Abort> {
        self.run::<InsertNext>(values)?;
        Ok(Kept::Stored(()))
    }

    /// Settles the runs that ended, and writes their history.
    fn settle(batch: &mut Batch<'_, Self>) -> Result<(), Abort>;

    /// Stores tasks without any lookups, and returns the places in push order of the tasks stored as running.
    fn insert(batch: &mut Batch<'_, Self>, rows: &[NewRow<'_>]) -> Result<Vec<i64>, Abort>;

    /// The place in push order for the next task that is stored singly; `None` where storage numbers the rows.
    fn next_seq(&mut self) -> QueryResult<Option<i64>> {
        Ok(None)
    }

    /// The place in push order that storage gave to the last stored task.
    fn last_seq(&mut self) -> QueryResult<i64>;

    /// Writes a claim to the tasks at these places.
    fn start(batch: &mut Batch<'_, Self>, seqs: &[i64]) -> Result<(), Abort>;

    /// Changes at most `limit` due tasks from `scheduled` or `retrying` to `pending`. Returns their number and their
    /// queues.
    fn promote(&mut self, now: Timestamp, limit: usize) -> QueryResult<(usize, Vec<Name>)>;

    /// Reads whether there is work for upkeep.
    fn glance(&mut self, sweep: &Sweep) -> QueryResult<Glance>;

    /// The tasks in a terminal state that finished earliest, of those that finished before `before`: the time, and the
    /// place in push order, of each.
    fn oldest_finished(&mut self, state: TaskState, before: i64, limit: usize) -> QueryResult<Vec<(i64, i64)>>;

    /// Records, in the transaction of an edit, that something changed, for nodes that poll because they cannot be
    /// notified.
    fn mark_change(&mut self) -> QueryResult<()>;

    /// Called before tasks are deleted, of which the task at `_last` is the latest. Needed where the program numbers
    /// the rows.
    fn before_delete(&mut self, _last: i64) -> QueryResult<()> {
        Ok(())
    }
}

/// Types that can be read from the rows of the statement `S`, in every database of this program.
pub(super) trait Reads<S>: SqliteReads<S> + PostgresReads<S> + MysqlReads<S> {}
impl<S, R> Reads<S> for R where R: SqliteReads<S> + PostgresReads<S> + MysqlReads<S> {}

/// The same as [`Reads`], for rows of the SQL types `T`.
pub(super) trait ReadsOnce<T>: SqliteReadsOnce<T> + PostgresReadsOnce<T> + MysqlReadsOnce<T> {}
impl<T, R> ReadsOnce<T> for R where R: SqliteReadsOnce<T> + PostgresReadsOnce<T> + MysqlReadsOnce<T> {}

/// Declares the types that can be read from a database. If its feature is off, that is any type.
macro_rules! reads {
    ($feature:literal, $conn:ty, $reads:ident, $once:ident) => {
        pub(super) trait $reads<S>: Sized {
            #[cfg(feature = $feature)]
            fn load(query: Bound<'_, S>, conn: &mut $conn) -> QueryResult<Vec<Self>>;
        }

        #[cfg(feature = $feature)]
        impl<S: Statement, R> $reads<S> for R
        where
            for<'q> Bound<'q, S>: diesel::query_dsl::LoadQuery<'q, $conn, R>,
        {
            fn load(query: Bound<'_, S>, conn: &mut $conn) -> QueryResult<Vec<R>> {
                diesel::RunQueryDsl::load(query, conn)
            }
        }

        #[cfg(not(feature = $feature))]
        impl<S, R> $reads<S> for R {}

        pub(super) trait $once<T>: Sized {
            #[cfg(feature = $feature)]
            fn load(query: Once<'_, T>, conn: &mut $conn) -> QueryResult<Vec<Self>>;
        }

        #[cfg(feature = $feature)]
        impl<T: 'static, R> $once<T> for R
        where
            for<'q> Once<'q, T>: diesel::query_dsl::LoadQuery<'q, $conn, R>,
        {
            fn load(query: Once<'_, T>, conn: &mut $conn) -> QueryResult<Vec<R>> {
                diesel::RunQueryDsl::load(query, conn)
            }
        }

        #[cfg(not(feature = $feature))]
        impl<T, R> $once<T> for R {}
    };
}

reads!("sqlite", diesel::sqlite::SqliteConnection, SqliteReads, SqliteReadsOnce);
reads!("postgres", diesel::pg::PgConnection, PostgresReads, PostgresReadsOnce);
reads!("mysql", diesel::mysql::MysqlConnection, MysqlReads, MysqlReadsOnce);

/// The first methods of [`Conn`], whose code is the same for every database.
macro_rules! statements_by_diesel {
    ($reads:ident, $once:ident) => {
        fn run<S: crate::backend::sql::statement::Statement>(
            &mut self,
            values: &[crate::backend::sql::statement::Value<'_>],
        ) -> diesel::QueryResult<usize> {
            diesel::RunQueryDsl::execute(crate::backend::sql::statement::bind::<S>(Self::DIALECT, values), self)
        }

        fn load<S: crate::backend::sql::statement::Statement, R: crate::backend::sql::conn::Reads<S>>(
            &mut self,
            values: &[crate::backend::sql::statement::Value<'_>],
        ) -> diesel::QueryResult<Vec<R>> {
            let query = crate::backend::sql::statement::bind::<S>(Self::DIALECT, values);
            <R as crate::backend::sql::conn::$reads<S>>::load(query, self)
        }

        fn load_once<T: 'static, R: crate::backend::sql::conn::ReadsOnce<T>>(
            &mut self,
            sql: &str,
            values: &[crate::backend::sql::statement::Value<'_>],
        ) -> diesel::QueryResult<Vec<R>> {
            let text = crate::backend::sql::dialect::Text::new(Self::DIALECT, sql);
            let query = crate::backend::sql::statement::Once::<T>::new(&text, values);
            <R as crate::backend::sql::conn::$once<T>>::load(query, self)
        }
    };
}
pub(super) use statements_by_diesel;
