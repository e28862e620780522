//! Tasks in a transaction of the application: stored, and completed, if and only if that transaction commits.
//!
//! The work is that of every commit ([`Batch`]), on a connection that somebody else has set up, and under locks that last
//! as long as somebody else likes. What follows from that:
//! - It happens in a savepoint: when it fails, the transaction has nothing of it, and goes on where the database lets it.
//! - First nothing is locked by looking, and only when a key turns out to be taken the work is done once more, with care:
//!   a lookup that is to be certain locks what it finds, and an insertion that fails locks the place where it failed.
//!   Other people's pushes and claims would wait there, or pass by, until the transaction ends.
//! - Each database sees to it that its tables are meant ([`Database::visit`]).

use std::any::{Any, type_name};

use diesel::connection::{AnsiTransactionManager, Connection, TransactionManager};
use diesel::r2d2::{ConnectionManager, PooledConnection, R2D2Connection};
use diesel::result::{DatabaseErrorKind, Error};

use super::database::Database;
use super::errors::Abort;
use super::work::Batch;
use crate::backend::{BackendError, Commit, Receipt};

/// A Diesel connection of the application: `SqliteConnection`, `PgConnection` or `MysqlConnection`, also out of a pool.
///
/// Tasks are pushed and completed in its transactions: see [`Board::push_in`](crate::Board::push_in) and
/// [`Context::complete_in`](crate::Context::complete_in). Nothing else implements it.
pub trait AppConnection: sealed::Sealed {}

mod sealed {
    use std::any::Any;

    pub trait Sealed {
        /// The connection itself.
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
    // Diesel would begin and commit a transaction, in the middle of one that it does not know of.
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
            // A rollback that fails takes the place of what made it necessary.
            reason = Some(abort);
            Abort::Sql(Error::RollbackTransaction)
        })
    });
    outcome.map_err(|abort| reason.unwrap_or(abort))
}
