//! MySQL from 8.0 on, and MariaDB from 10.6 on.
//!
//! Differences from other databases, with their reasons:
//! - Writers run concurrently, so several threads commit at a time, and rows are claimed with `FOR UPDATE SKIP LOCKED`.
//! - The isolation level is READ COMMITTED. At InnoDB's default level, claims would lock the gaps between rows, and
//!   pushes would wait for these locks.
//! - There are no arrays. A statement for many rows has a placeholder for each value, and up to 256 rows, similar to
//!   SQLite.
//! - There are no partial indexes. Generated columns that are NULL for all other rows are indexed instead. They are
//!   stored: through an index over a virtual column, MariaDB misses rows while other rows change. A schedule would then
//!   not see its own unfinished tasks.
//! - The server numbers the rows, and returns the first number of a statement. The numbers of the next rows follow it.
//! - DDL ends a transaction, so migrations consist of repeatable steps.
//! - There are no notifications. Nodes poll for changes by other nodes: often while there are changes, less often
//!   otherwise.

mod conn;
mod connect;
mod error_map;
mod library;
mod migrate;
mod open;

use std::time::Duration;

use diesel::mysql::MysqlConnection;
use diesel::sql_types::{Nullable, Text};

use self::connect::Target;
use super::conn::Conn;
use super::database::{Database, Sql};
use super::errors::Abort;
use super::poll::Poll;
use super::pool::Connections;
use super::statement::statements;
use crate::backend::{BackendError, Capabilities};
use crate::clock::Timestamp;

/// Keeps tasks in MySQL or MariaDB.
pub type Mysql = Sql<Server>;

/// A MySQL or MariaDB server.
pub struct Server {
    connections: Connections<Target>,
    writers: usize,
    poll: Poll,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mysql").finish_non_exhaustive()
    }
}

statements! {
    /// The database in which the prepared statements of this connection run. MySQL runs a prepared statement in the
    /// database that was current when the statement was prepared.
    PreparedIn -> (Nullable<Text>,): "SELECT DATABASE()";
}

impl Database for Server {
    type Conn = MysqlConnection;

    const WRITERS_SIDE_BY_SIDE: bool = true;

    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: true, shared: true, parallel_commits: self.writers, ..Capabilities::new("mysql") }
    }

    fn write<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut MysqlConnection) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        self.connections.write(operation, work)
    }

    fn write_alone<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut MysqlConnection) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        self.connections.alone(operation, work)
    }

    fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut MysqlConnection) -> diesel::QueryResult<T>,
    ) -> Result<T, BackendError> {
        self.connections.read(operation, work)
    }

    /// Checks two databases: the current database of the connection, and the database of its prepared statements. Both
    /// must be the database of this server. The statements name tables without a database. So, on a connection that has
    /// changed its database, they could write to the database that it used before.
    fn visit<T>(
        &self,
        conn: &mut MysqlConnection,
        work: impl FnOnce(&mut MysqlConnection) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        let own = self.connections.setup().database();
        let now: Vec<(Option<String>,)> = conn.load_once::<(Nullable<Text>,), _>("SELECT DATABASE()", &[])?;
        let mut found = now.into_iter().next().and_then(|(name,)| name);
        if found.as_deref() == Some(own) {
            found = conn.first::<PreparedIn, (Option<String>,)>(&[])?.and_then(|(name,)| name);
        }
        if found.as_deref() != Some(own) {
            let text = match found {
                Some(name) => format!("it uses, or has used, the database {name}; use one that was opened on {own}"),
                None => format!("it uses no database; open it on {own}"),
            };
            return Err(BackendError::Connection(text).into());
        }
        work(conn)
    }

    fn time(&self) -> Result<Option<Timestamp>, BackendError> {
        self.read("time", Conn::time)
    }

    fn packet(&self) -> usize {
        self.connections.setup().packet()
    }

    fn conflicts(&self) -> u64 {
        self.connections.conflicts()
    }

    fn watch(&self, timeout: Duration) -> Result<bool, BackendError> {
        self.poll.watch(timeout, |poll| self.read("watch", |conn| poll.look(conn)))
    }

    /// Does nothing, because other nodes poll for changes.
    fn written(&self) {}
}
