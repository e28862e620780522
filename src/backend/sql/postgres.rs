//! PostgreSQL, from version 12 on.
//!
//! What differs from other databases, and why:
//! - Many write side by side, so several threads commit at a time; rows are claimed with `FOR UPDATE SKIP LOCKED`.
//! - What goes to many rows goes there in arrays (`unnest`): one statement, prepared once, for any number of rows.
//! - The tables live in a schema of their own, `callboard` if the URL does not say `?schema=`, which each connection has
//!   on its search path. So they share a database with an application, and Supabase's REST interface, which serves the
//!   schema `public`, does not show them.
//! - Other nodes are told by `NOTIFY`, on a connection of its own, after the commit and not in it: inside, it would make
//!   all commits wait for each other.
//! - Behind a pooler that gives a connection for one transaction only, nothing outlives a transaction: no prepared
//!   statements, no settings, no `LISTEN`. Such a pooler is found out, or named by `?pooler=transaction`.

mod conn;
mod connect;
mod error_map;
mod migrate;
mod open;
mod pooler;
mod visit;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use diesel::pg::PgConnection;

use self::connect::Target;
use self::visit::Place;
use self::wake::Wake;
use super::conn::Conn;
use super::database::{Database, Sql};
use super::errors::Abort;
use super::pool::Connections;
use crate::backend::{BackendError, Capabilities};
use crate::clock::Timestamp;

/// Keeps tasks in PostgreSQL.
pub type Postgres = Sql<Server>;

/// A PostgreSQL server.
pub struct Server {
    connections: Arc<Connections<Target>>,
    writers: usize,
    wake: Wake,
    place: Place,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Database for Server {
    type Conn = PgConnection;

    const WRITERS_SIDE_BY_SIDE: bool = true;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable: true,
            shared: true,
            parallel_commits: self.writers,
            notifies: self.wake.notifies(),
            ..Capabilities::new("postgres")
        }
    }

    fn write<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut PgConnection) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        self.connections.write(operation, work)
    }

    fn write_alone<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut PgConnection) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        self.connections.alone(operation, work)
    }

    fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut PgConnection) -> diesel::QueryResult<T>,
    ) -> Result<T, BackendError> {
        self.connections.read(operation, work)
    }

    fn visit<T>(
        &self,
        conn: &mut PgConnection,
        work: impl FnOnce(&mut PgConnection) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        visit::visit(&self.place, conn, work)
    }

    fn time(&self) -> Result<Option<Timestamp>, BackendError> {
        self.read("time", Conn::time)
    }

    fn conflicts(&self) -> u64 {
        self.connections.conflicts()
    }

    fn watch(&self, timeout: Duration) -> Result<bool, BackendError> {
        self.wake.watch(&self.connections, timeout)
    }

    fn written(&self) {
        self.wake.tell();
    }
}
