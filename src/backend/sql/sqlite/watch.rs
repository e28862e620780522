//! Detects writes by other processes.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::sqlite::SqliteConnection;
use parking_lot::Mutex;

use super::File;
use super::error_map::backend_error;
use super::open::Setup;
use crate::backend::BackendError;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::statement::statements;
use crate::clock::moment_after;

/// The interval between two polls.
const PERIOD: Duration = Duration::from_millis(100);

statements! {
    /// A number that changes when a different connection has written to the file. It does not change by the writes of
    /// this connection.
    DataVersion -> (BigInt,): "PRAGMA data_version";
}

fn data_version(conn: &mut SqliteConnection) -> QueryResult<i64> {
    conn.first::<DataVersion, (i64,)>(&[])?.map(|(version,)| version).ok_or(diesel::result::Error::NotFound)
}

/// Keeps track of writes by other processes.
///
/// The watcher's own connection sees all writes, including the writes of this process. Only the writer's connection can
/// tell them apart, because its data version changes only by writes of other processes. That version is read in each
/// transaction of the writer. The watcher reads it too, when its own connection has seen a write.
#[derive(Debug)]
pub(super) struct Watch {
    eye: Mutex<Eye>,
    /// The data version that the writer's connection saw last.
    writer_saw: AtomicI64,
    /// Whether a different process has written since the last report.
    foreign: AtomicBool,
}

struct Eye {
    conn: SqliteConnection,
    saw: i64,
}

impl std::fmt::Debug for Eye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eye").field("saw", &self.saw).finish_non_exhaustive()
    }
}

impl Watch {
    /// Begins to watch. Writes from now on are reported, even if they happen before the first call.
    pub(super) fn new(path: &str, setup: Setup) -> Result<Self, BackendError> {
        let mut conn = setup.connect(path)?;
        let saw = data_version(&mut conn).map_err(|error| backend_error("watch", &error))?;
        Ok(Self {
            eye: Mutex::new(Eye { conn, saw }),
            writer_saw: AtomicI64::new(i64::MIN),
            foreign: AtomicBool::new(false),
        })
    }

    /// Called for a new connection of the writer, which starts a new count of data versions. Writes of other processes
    /// between the old and the new connection are unknown, so they are assumed.
    pub(super) fn new_writer(&self, conn: &mut SqliteConnection) -> QueryResult<()> {
        let first = self.writer_saw.swap(data_version(conn)?, Ordering::AcqRel) == i64::MIN;
        // The first connection has written nothing yet, so all writes since the watch began are by other processes.
        let missed = !first || self.any_write()?;
        self.foreign.fetch_or(missed, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn look_from_writer(&self, conn: &mut SqliteConnection) -> QueryResult<()> {
        let version = data_version(conn)?;
        if self.writer_saw.swap(version, Ordering::AcqRel) != version {
            self.foreign.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// True if any process, including this one, has written since the last poll.
    fn any_write(&self) -> QueryResult<bool> {
        let mut eye = self.eye.lock();
        let version = data_version(&mut eye.conn)?;
        Ok(std::mem::replace(&mut eye.saw, version) != version)
    }
}

impl File {
    pub(super) fn watch_for(&self, timeout: Duration) -> Result<bool, BackendError> {
        let deadline = moment_after(timeout);
        loop {
            if self.foreign_write()? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(PERIOD));
        }
    }

    fn foreign_write(&self) -> Result<bool, BackendError> {
        let failed = |error| backend_error("watch", &error);
        if self.watch.any_write().map_err(failed)? {
            match self.writer.get() {
                Ok(mut conn) => self.watch.look_from_writer(&mut conn).map_err(failed)?,
                // The writer's connection is busy for too long to read its version. A false alarm costs less than a
                // missed write.
                Err(_) => return Ok(true),
            }
        }
        Ok(self.watch.foreign.swap(false, Ordering::AcqRel))
    }
}
