//! MySQL from 8.0 on, and MariaDB from 10.6 on.
//!
//! What differs from other databases, and why:
//! - Many write side by side, so several threads commit at a time; rows are claimed with `FOR UPDATE SKIP LOCKED`, at
//!   the isolation level READ COMMITTED: at InnoDB's usual one, claims would lock the gaps between rows, and pushes
//!   would wait for them.
//! - There are no arrays: what goes to many rows goes there in statements with a placeholder for each value, up to 256
//!   rows at a time, like in SQLite.
//! - There are no partial indexes: stored generated columns that are NULL for all other rows take their place. Through an
//!   index over a virtual one MariaDB misses rows while others change, and a schedule would not see what it runs.
//! - The server numbers the rows, and tells the first number of a statement; the others follow it.
//! - DDL ends a transaction, so migrations are steps that can be repeated.
//! - Nobody is notified: nodes look for what others have written, often while there is something, rarely while not.

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
    /// Where the statements that this connection has prepared go: MySQL runs one in the database that was the current one
    /// when it was prepared.
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

    /// Where its tables are named without their database, a connection that changes its database would write to one that it
    /// used before: both must be this one.
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

    /// Others look for it.
    fn written(&self) {}
}
