//! Opens a database file by its path.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};
use diesel::sqlite::SqliteConnection;
use diesel::{Connection, QueryResult};

use super::error_map::backend_error;
use super::turn::Turn;
use super::watch::Watch;
use super::{File, Manager, Sqlite, migrate};
use crate::backend::{BackendError, OpenOptions, Synchronous};
use crate::files::{PRIVATE, with_mode};

/// Page cache in KiB: large enough to keep the pages that the writer changes often, small enough for an idle program.
const WRITER_CACHE_KIB: u32 = 8 * 1024;
const READER_CACHE_KIB: u32 = 2 * 1024;
/// The number of 4 KiB pages in the write-ahead log that triggers a checkpoint. Pages that change in every commit are
/// then moved to the file once for many commits. Measured: 8 % more tasks per second than with SQLite's default, 1,000.
const CHECKPOINT_PAGES: u32 = 4_000;
/// The size to which a log that grew larger is truncated, in bytes.
const LOG_LIMIT: u32 = 64 * 1024 * 1024;

impl Sqlite {
    /// Opens the database file at `path` (the part of a URL after `sqlite:`), and migrates it to the schema of this
    /// program. A missing file is created; its directory must exist.
    ///
    /// # Errors
    /// [`BackendError::BadUrl`] if the path cannot be used, [`BackendError::SchemaTooNew`], and any error of the first
    /// connection.
    pub fn open(path: &str, options: &OpenOptions) -> Result<Self, BackendError> {
        let path = file_path(path)?;
        check(&path)?;
        let setup = Setup { cache_kib: WRITER_CACHE_KIB, ..Setup::new(options) };
        migrate::prepare(&path, &setup)?;
        let full_path = std::fs::canonicalize(&path).map_err(|error| BackendError::Transient {
            operation: "open",
            message: format!("{path} is gone again: {error}"),
        })?;
        let watch = Arc::new(Watch::new(&path, Setup::new(options))?);
        let writer = Setup { watch: Some(Arc::clone(&watch)), ..setup };
        Ok(Self(File {
            writer: pool(&path, 1, 1, writer),
            readers: pool(&path, u32::try_from(options.readers()).unwrap_or(u32::MAX), 0, Setup::new(options)),
            busy_timeout: options.busy_timeout,
            turn: Turn::new(&path),
            path,
            full_path,
            watch,
        }))
    }
}

/// The file named by the path of a URL. `//` before it is allowed, as in `sqlite:///abs` and `sqlite://rel`.
pub(super) fn file_path(path: &str) -> Result<String, BackendError> {
    let file = path.strip_prefix("//").unwrap_or(path);
    let bad = |reason: &str| BackendError::BadUrl { url: format!("sqlite:{path}"), reason: reason.into() };
    match file {
        "" => Err(bad("a path is missing; give one, such as sqlite:tasks.db")),
        ":memory:" => Err(bad("SQLite in memory is not supported; use memory: instead")),
        _ if file.contains('\0') => Err(bad("a path has no zero bytes; remove them")),
        _ if file.contains('?') => Err(bad(
            "a path takes no options, and `?` would become a part of the file's name; leave out what begins with it, and \
            use the board's own settings, such as `synchronous`",
        )),
        // SQLite itself would parse such a path as a URL with options.
        _ if file.starts_with("file:") => Err(bad("write the path without file:")),
        _ => Ok(file.into()),
    }
}

/// Checks for the faults that SQLite would only report as "unable to open database file". Creates a missing file,
/// because SQLite itself would create it readable for every user of the machine.
fn check(path: &str) -> Result<(), BackendError> {
    let bad = |reason: String| BackendError::BadUrl { url: format!("sqlite:{path}"), reason };
    let file = Path::new(path);
    if file.is_dir() {
        return Err(bad("it is a directory; name a file in it".into()));
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.is_dir() {
        return Err(bad(format!("the directory {} does not exist; make it first", directory.display())));
    }
    // SQLite gives the files beside the database, such as the write-ahead log, the mode of the database file.
    let is_new = !file.exists();
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match with_mode(&mut options, PRIVATE).open(file) {
        Ok(_) => Ok(()),
        Err(error) if is_new => Err(bad(format!(
            "the file does not exist and cannot be made ({error}); let this user write to the directory {}, or name \
            another one",
            directory.display()
        ))),
        Err(error) => Err(bad(format!("it cannot be opened for writing ({error}); check its owner and mode"))),
    }
}

/// The settings of a connection.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    busy_timeout: Duration,
    synchronous: Synchronous,
    cache_kib: u32,
    /// For the writer only: records its data versions for the watcher.
    watch: Option<Arc<Watch>>,
}

impl Setup {
    fn new(options: &OpenOptions) -> Self {
        Self {
            busy_timeout: options.busy_timeout,
            synchronous: options.synchronous,
            cache_kib: READER_CACHE_KIB,
            watch: None,
        }
    }

    pub(super) fn busy_timeout(&self) -> Duration {
        self.busy_timeout
    }

    /// Opens a connection outside of a pool.
    pub(super) fn connect(&self, path: &str) -> Result<SqliteConnection, BackendError> {
        let failed = |message: String| BackendError::Transient {
            operation: "open",
            message: format!("{path} cannot be opened: {message}"),
        };
        let mut conn = SqliteConnection::establish(path).map_err(|error| failed(error.to_string()))?;
        self.apply(&mut conn).map_err(|error| migrate::named(path, backend_error("open", &error)))?;
        Ok(conn)
    }

    fn apply(&self, conn: &mut SqliteConnection) -> QueryResult<()> {
        let synchronous = match self.synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        // The timeout is first, because the pragmas after it may have to wait for a lock. Each pragma is run by itself,
        // because a failed pragma would end the rest of a batch.
        for pragma in [
            format!("busy_timeout = {}", self.busy_timeout.as_millis().min(i32::MAX as u128)),
            format!("synchronous = {synchronous}"),
            format!("cache_size = -{}", self.cache_kib),
            format!("wal_autocheckpoint = {CHECKPOINT_PAGES}"),
            format!("journal_size_limit = {LOG_LIMIT}"),
            "temp_store = MEMORY".into(),
            "mmap_size = 0".into(),
            // No table has foreign keys: the program deletes a task together with its history.
            "foreign_keys = OFF".into(),
        ] {
            conn.batch_execute(&format!("PRAGMA {pragma}"))?;
        }
        Ok(())
    }
}

/// How long SQLite itself waits for the write lock, in milliseconds. SQLite checks the lock less and less often, in the
/// end every 100 ms. A busy process that releases the lock only for moments could starve it. So SQLite gives up soon,
/// and the program retries until its own timeout.
const LOCK_WAIT_MS: u32 = 3;

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Setup {
    fn on_acquire(&self, conn: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        self.apply(conn).map_err(diesel::r2d2::Error::QueryError)?;
        match &self.watch {
            Some(watch) => watch
                .new_writer(conn)
                .and_then(|()| conn.batch_execute(&format!("PRAGMA busy_timeout = {LOCK_WAIT_MS}")))
                .map_err(diesel::r2d2::Error::QueryError),
            None => Ok(()),
        }
    }
}

fn pool(path: &str, size: u32, idle: u32, setup: Setup) -> Pool<Manager> {
    let wait = setup.busy_timeout.max(Duration::from_millis(1));
    Pool::builder()
        .max_size(size)
        .min_idle(Some(idle))
        // A connection to a file does not go stale, and a new connection would have to prepare its statements again.
        .test_on_check_out(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connection_timeout(wait)
        // The failed checkout returns the reason as its error. The default handler would log it a second time.
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .connection_customizer(Box::new(setup))
        .build_unchecked(ConnectionManager::new(path))
}
