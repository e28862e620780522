//! Tasks in a transaction of the application: stored, and completed, if and only if that transaction commits.
//!
//! The work is the same as in every commit ([`Batch`]). But the application has configured the connection, and the
//! locks are held until the application commits. From this follow three rules:
//! - The work runs in a savepoint. If it fails, none of it stays in the transaction, which continues if the database
//!   allows it.
//! - The first attempt inserts without locking reads. Only if a unique key conflicts, the work is repeated with care. A
//!   careful lookup locks the rows that it finds, and a failed insertion locks the place in the index where it failed.
//!   Other pushes and claims would wait for these locks, or skip these rows, until the transaction ends.
//! - Each database makes sure that the statements use its own tables ([`Database::visit`]).

use std::any::{Any, type_name};

use diesel::connection::{AnsiTransactionManager, Connection, TransactionManager};
use diesel::r2d2::{ConnectionManager, PooledConnection, R2D2Connection};
use diesel::result::{DatabaseErrorKind, Error};

use super::database::Database;
use super::errors::Abort;
use super::work::Batch;
use crate::backend::{BackendError, Commit, Receipt};

/// A Diesel connection of the application: `SqliteConnection`, `PgConnection` or `MysqlConnection`, directly or from an
/// r2d2 pool.
///
/// Tasks are pushed and completed in its transactions: see [`Board::push_in`](crate::Board::push_in) and
/// [`Context::complete_in`](crate::Context::complete_in). No other type can implement this trait.
pub trait AppConnection: sealed::Sealed {}

mod sealed {
    use std::any::Any;

    pub trait Sealed {
        /// The Diesel connection itself, also if `self` is a pooled connection.
        fn plain(&mut self) -> &mut dyn Any;
    }
}

macro_rules! connections {
    ($($feature:literal $conn:ty;)+) => {$(
        #[cfg(feature = $feature)]
        impl AppConnection for $conn {}

        #[cfg(feature = $feature)]
        impl sealed::Sealed for $conn {
            fn plain(&mut self) -> &mut dyn Any {
                self
            }
        }
    )+};
}

connections! {
    "sqlite" diesel::sqlite::SqliteConnection;
    "postgres" diesel::pg::PgConnection;
    "mysql" diesel::mysql::MysqlConnection;
}

impl<C> AppConnection for PooledConnection<ConnectionManager<C>> where C: AppConnection + R2D2Connection + 'static {}

impl<C> sealed::Sealed for PooledConnection<ConnectionManager<C>>
where
    C: AppConnection + R2D2Connection + 'static,
{
    fn plain(&mut self) -> &mut dyn Any {
        (**self).plain()
    }
}

/// See [`Backend::commit_in`](crate::backend::Backend::commit_in).
pub(super) fn commit<D: Database>(
    database: &D,
    conn: &mut dyn Any,
    commit: &Commit,
) -> Result<Receipt, BackendError> {
    let Some(conn) = conn.downcast_mut::<D::Conn>() else {
        let (name, conn) = (database.capabilities().name, type_name::<D::Conn>());
        return Err(BackendError::Connection(format!("the board keeps its tasks in {name}; give it a {conn}")));
    };
    let operation = if commit.settle.is_empty() { "push in a transaction" } else { "complete in a transaction" };
    let outcome = match attempt(database, conn, commit, false) {
        Err(Abort::Surprise | Abort::Sql(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))) => {
            attempt(database, conn, commit, true)
        }
        outcome => outcome,
    };
    outcome.map_err(|abort| abort.at::<D::Conn>(operation, false).into_error(operation))
}

fn attempt<D: Database>(database: &D, conn: &mut D::Conn, commit: &Commit, careful: bool) -> Result<Receipt, Abort> {
    // Without an open transaction known to Diesel, Diesel would begin and commit a transaction here. If the application
    // has opened a transaction by plain SQL, that would happen in the middle of it.
    if AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth()?.is_none() {
        let text = "no transaction is open on it; call this inside of conn.transaction(), or push without it";
        return Err(BackendError::Connection(text.into()).into());
    }
    let mut reason = None;
    let outcome = conn.transaction(|conn| {
        let work = |conn: &mut D::Conn| {
            Batch { blind: !careful, patient: true, packet: database.packet(), ..Batch::new(conn, commit, careful) }
                .run()
        };
        database.visit(conn, work).map_err(|abort| {
            // Keep the cause: a rollback that fails would return its own error instead.
            reason = Some(abort);
            Abort::Sql(Error::RollbackTransaction)
        })
    });
    outcome.map_err(|abort| reason.unwrap_or(abort))
}
