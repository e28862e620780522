//! Connections to a server, and the transactions on them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::{AnsiTransactionManager, Connection, TransactionManager};
use diesel::result::Error;
use r2d2::{ManageConnection, PooledConnection};
use rand::Rng;

use super::conn::Conn;
use super::errors::{Abort, Messages};
use crate::backend::BackendError;

/// A connection to a server over a network.
pub(super) trait ServerConn: Conn + Connection<TransactionManager = AnsiTransactionManager> + Send {
    /// The error texts by which callboard recognises the server's errors.
    const MESSAGES: &'static Messages;

    /// True if two transactions conflicted. A retry of the same work then sees the result of the transaction that was
    /// first.
    fn is_conflict(error: &Error) -> bool {
        Self::MESSAGES.is_conflict(error)
    }

    /// True if the connection can no longer be used.
    fn is_broken(error: &Error) -> bool {
        Self::MESSAGES.is_broken(error)
    }
}

/// Opens and configures the connections to a server.
pub(super) trait Setup: Clone + Send + Sync + 'static {
    type Conn: ServerConn;

    /// How long a connection may be idle and still be used. Poolers, firewalls and servers cut connections that are
    /// silent for longer.
    const REST: Duration = Duration::from_secs(300);

    /// Opens a connection and applies its settings.
    fn connect(&self) -> Result<Self::Conn, BackendError>;

    /// The SQL that begins a transaction.
    fn begin(&self) -> &str;

    /// True if a statement must run inside a transaction, because outside of it the settings would differ.
    fn reads_in_transactions(&self) -> bool;
}

/// A pooled connection with its health.
pub(super) struct Link<C> {
    conn: C,
    broken: bool,
    used: Instant,
}

pub(super) struct Manager<S>(S);

impl<S: Setup> ManageConnection for Manager<S> {
    type Connection = Link<S::Conn>;
    type Error = BackendError;

    fn connect(&self) -> Result<Self::Connection, BackendError> {
        Ok(Link { conn: self.0.connect()?, broken: false, used: Instant::now() })
    }

    fn is_valid(&self, _: &mut Self::Connection) -> Result<(), BackendError> {
        Ok(())
    }

    fn has_broken(&self, link: &mut Self::Connection) -> bool {
        link.broken || std::thread::panicking()
    }
}

/// The most tries of a transaction after conflicts with other transactions, or on connections that died before the
/// transaction began.
const TRIES: u32 = 12;
/// The most tries when a different transaction holds a lock that is never waited for; see `work::locks`.
const BUSY_TRIES: u32 = 4;
/// How long to wait for a free connection.
const CHECKOUT: Duration = Duration::from_secs(2);

/// The pool of connections to a server.
pub(super) struct Connections<S: Setup> {
    pool: r2d2::Pool<Manager<S>>,
    setup: S,
    conflicts: AtomicU64,
}

/// Why a try failed, and whether a retry may succeed.
struct Failed {
    abort: Abort,
    again: bool,
    /// The try conflicted with other transactions.
    conflict: bool,
}

impl Failed {
    /// A try that failed with `error`. It is retried if `again` is true or the error is a conflict.
    fn new<C: ServerConn>(operation: &'static str, error: Error, sent: bool, again: bool) -> Self {
        let conflict = C::is_conflict(&error);
        Self { abort: Abort::Sql(error).at::<C>(operation, sent), again: again || conflict, conflict }
    }
}

impl From<Abort> for Failed {
    fn from(abort: Abort) -> Self {
        Self { abort, again: false, conflict: false }
    }
}

impl<S: Setup> Connections<S> {
    pub(super) fn new(setup: S, most: usize) -> Self {
        let pool = r2d2::Pool::builder()
            .max_size(u32::try_from(most).unwrap_or(u32::MAX))
            .min_idle(Some(0))
            // A test at each checkout would cost a round trip. Instead, the first statement on a dead connection fails,
            // and is retried on a different connection.
            .test_on_check_out(false)
            .idle_timeout(Some(S::REST))
            .max_lifetime(Some(Duration::from_secs(3600)))
            .connection_timeout(CHECKOUT)
            // The failed checkout returns the reason as its error. The default handler would log it a second time.
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Manager(setup.clone()));
        Self { pool, setup, conflicts: AtomicU64::new(0) }
    }

    /// The number of tries that failed by a conflict with other transactions.
    pub(super) fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    pub(super) fn setup(&self) -> &S {
        &self.setup
    }

    fn checkout(&self, operation: &'static str) -> Result<PooledConnection<Manager<S>>, BackendError> {
        loop {
            let mut link = self.pool.get().map_err(|error| BackendError::Transient {
                operation,
                message: format!("no connection to the database within {CHECKOUT:?}: {error}"),
            })?;
            if link.used.elapsed() < S::REST {
                link.used = Instant::now();
                return Ok(link);
            }
            // The connection was idle for too long, so drop it. The pool itself looks for such connections only once in
            // 30 s.
            link.broken = true;
        }
    }

    /// Runs `work` in a transaction, and retries it after conflicts with other transactions.
    pub(super) fn write<T>(
        &self,
        operation: &'static str,
        mut work: impl FnMut(&mut S::Conn) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        self.tries(operation, |setup, link| transaction(setup, &mut link.conn, operation, &mut work))
    }

    /// Runs `work`, which writes with a single statement. That statement is a transaction by itself.
    pub(super) fn alone<T>(
        &self,
        operation: &'static str,
        mut work: impl FnMut(&mut S::Conn) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        if self.setup.reads_in_transactions() {
            return self.write(operation, work);
        }
        self.tries(operation, |_, link| {
            work(&mut link.conn).map_err(|abort| match abort {
                Abort::Sql(error) => Failed::new::<S::Conn>(operation, error, true, false),
                other => other.into(),
            })
        })
    }

    /// Runs `work`, which only reads, and retries it on a different connection if its own was dead.
    pub(super) fn read<T>(
        &self,
        operation: &'static str,
        mut work: impl FnMut(&mut S::Conn) -> QueryResult<T>,
    ) -> Result<T, BackendError> {
        let read = |setup: &S, link: &mut Link<S::Conn>| {
            if setup.reads_in_transactions() {
                return transaction(setup, &mut link.conn, operation, |conn| work(conn).map_err(Abort::Sql));
            }
            work(&mut link.conn).map_err(|error| {
                let again = S::Conn::is_broken(&error);
                Failed::new::<S::Conn>(operation, error, false, again)
            })
        };
        self.tries(operation, read).map_err(|abort| abort.into_error(operation))
    }

    fn tries<T>(
        &self,
        operation: &'static str,
        mut attempt: impl FnMut(&S, &mut Link<S::Conn>) -> Result<T, Failed>,
    ) -> Result<T, Abort> {
        let started = Instant::now();
        let mut tried = 0;
        loop {
            tried += 1;
            let mut link = self.checkout(operation)?;
            let Failed { abort, again, conflict } = match attempt(&self.setup, &mut link) {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            if conflict {
                self.conflicts.fetch_add(1, Ordering::Relaxed);
            }
            // Unless the statement is clearly at fault, the connection may be broken, so do not use it again.
            link.broken = !matches!(
                abort,
                Abort::Surprise | Abort::Busy | Abort::Aside(_) | Abort::Failed(BackendError::Permanent { .. })
            );
            drop(link);
            // Do not wait long for a lock of a different transaction, because other work needs this thread.
            let most = if matches!(abort, Abort::Busy) { BUSY_TRIES } else { TRIES };
            if !again || tried >= most || started.elapsed() > CHECKOUT {
                return Err(abort);
            }
            pause(tried);
        }
    }
}

/// A single try of a transaction.
fn transaction<S: Setup, T>(
    setup: &S,
    conn: &mut S::Conn,
    operation: &'static str,
    work: impl FnOnce(&mut S::Conn) -> Result<T, Abort>,
) -> Result<T, Failed> {
    let failed = |error: Error, sent: bool, began: bool| {
        // The connection broke before the transaction began. Nothing was written, so a retry is safe.
        let again = !began && S::Conn::is_broken(&error);
        Failed::new::<S::Conn>(operation, error, sent, again)
    };
    AnsiTransactionManager::begin_transaction_sql(conn, setup.begin())
        .map_err(|error| failed(error, false, false))?;
    match work(conn) {
        Ok(value) => match AnsiTransactionManager::commit_transaction(conn) {
            Ok(()) => Ok(value),
            Err(error) => Err(failed(error, true, true)),
        },
        Err(abort) => {
            // Nothing was written, whether or not the rollback succeeds. After a failed rollback the connection is
            // dropped.
            AnsiTransactionManager::rollback_transaction(conn).ok();
            match abort {
                Abort::Sql(error) => Err(failed(error, false, true)),
                Abort::Busy => Err(Failed { abort, again: true, conflict: false }),
                other => Err(other.into()),
            }
        }
    }
}

/// Sleeps before the next try: longer after each try, and with jitter, so that two transactions that conflicted do not
/// retry at the same moment.
fn pause(tried: u32) {
    let most = 2_000_u64 << tried.min(6);
    std::thread::sleep(Duration::from_micros(rand::rng().random_range(most / 4..most)));
}
