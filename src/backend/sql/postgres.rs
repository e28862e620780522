//! PostgreSQL, from version 12 on.
//!
//! Differences from other databases, with their reasons:
//! - Writers run concurrently, so several threads commit at a time, and rows are claimed with `FOR UPDATE SKIP LOCKED`.
//! - Values for many rows are passed as arrays (`unnest`): a single statement, prepared once, for any number of rows.
//! - The tables are in a schema of their own, set by `?schema=` in the URL, or else `callboard`. Each connection has it
//!   on its search path. So the tables can share a database with an application. Supabase's REST interface does not
//!   show them, because it serves the schema `public`.
//! - Other nodes are notified by `NOTIFY` on a separate connection, after the commit. Inside the commit, `NOTIFY` would
//!   make all commits wait for each other.
//! - Behind a pooler that gives out a connection for a single transaction only, nothing outlives a transaction: no
//!   prepared statements, no settings, no `LISTEN`. Such a pooler is detected, or declared by `?pooler=transaction`.

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
