//! Pushes in the application's own transactions, which are committed, rolled back or committed late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use callboard::{AppConnection, Board, PushError};
use diesel::Connection;
use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Plan;
use super::load::is_open;
use super::note::{Ledger, Note};
use super::tasks::{self, Made};

const PACE_MS: u64 = 400;
/// The longest time for which a late commit keeps its transaction open.
const LATE_MS: u64 = 800;

/// A connection of the application.
trait App: AppConnection + Connection<TransactionManager = AnsiTransactionManager> + SimpleConnection {
    fn within<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Broken>) -> Result<T, Broken> {
        self.transaction(work)
    }

    fn open(url: &str) -> Option<Self> {
        Self::establish(url).ok()
    }
}

impl App for diesel::SqliteConnection {
    fn open(url: &str) -> Option<Self> {
        let mut conn = Self::establish(url).ok()?;
        conn.batch_execute("PRAGMA busy_timeout = 5000").ok()?;
        Some(conn)
    }

    fn within<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Broken>) -> Result<T, Broken> {
        self.immediate_transaction(work)
    }
}
#[cfg(feature = "postgres")]
impl App for diesel::PgConnection {}
#[cfg(feature = "mysql")]
impl App for diesel::MysqlConnection {}

/// The reason why a transaction did not commit.
enum Broken {
    OnPurpose,
    Push(PushError),
    Database(diesel::result::Error),
}

impl From<diesel::result::Error> for Broken {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

/// Starts a thread that pushes in transactions, if the storage supports them.
pub(crate) fn produce(
    board: &Board,
    plan: &Plan,
    ledger: &Arc<Ledger>,
    ended: &Arc<AtomicBool>,
) -> Option<JoinHandle<()>> {
    let url = plan.app_url.clone()?;
    let work = match plan.url.split(':').next() {
        Some("sqlite") => Producer::work::<diesel::SqliteConnection>,
        #[cfg(feature = "postgres")]
        Some("postgres") => Producer::work::<diesel::PgConnection>,
        #[cfg(feature = "mysql")]
        Some("mysql") => Producer::work::<diesel::MysqlConnection>,
        _ => return None,
    };
    let rng = StdRng::seed_from_u64(plan.seed ^ 0x7A);
    let producer = Producer { board: board.clone(), ledger: Arc::clone(ledger), rng, ended: Arc::clone(ended) };
    Some(std::thread::spawn(move || work(producer, &url)))
}

struct Producer {
    board: Board,
    ledger: Arc<Ledger>,
    rng: StdRng,
    ended: Arc<AtomicBool>,
}

impl Producer {
    fn work<C: App>(mut self, url: &str) {
        let mut conn: Option<C> = None;
        while !self.ended.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(self.rng.random_range(0..PACE_MS)));
            // The server may be unavailable.
            conn = conn.or_else(|| C::open(url));
            conn = conn.and_then(|mut conn| self.push(&mut conn).then_some(conn));
        }
    }

    /// Returns false when the connection must no longer be used.
    fn push<C: App>(&mut self, conn: &mut C) -> bool {
        let made = if self.rng.random_bool(0.2) { tasks::unique(&mut self.rng) } else { tasks::plain(&mut self.rng) };
        let Made { task, wanted } = made;
        let id = wanted.id;
        let (rolls_back, late) = (self.rng.random_bool(0.3), self.rng.random_bool(0.3));
        let late = Duration::from_millis(if late { self.rng.random_range(0..LATE_MS) } else { 0 });
        self.ledger.note(Note::Pushing { tasks: vec![wanted] });
        let done = conn.within(|conn| {
            let pushed = self.board.push_in(conn, task).map_err(Broken::Push)?;
            std::thread::sleep(late);
            if rolls_back { Err(Broken::OnPurpose) } else { Ok(pushed) }
        });
        match done {
            Ok(pushed) => self.ledger.note(Note::Pushed { ids: vec![id], got: vec![pushed.task_id] }),
            Err(Broken::OnPurpose) => self.ledger.note(Note::RolledBack { id }),
            Err(Broken::Push(PushError::UniqueKeyHeld { .. })) => self.ledger.note(Note::Refused { id }),
            Err(Broken::Push(PushError::Closed)) => {}
            Err(Broken::Push(error)) if !is_open(&error) => self.ledger.error("push in a transaction", &error),
            Err(Broken::Push(_) | Broken::Database(_)) => {
                self.ledger.note(Note::Open { ids: vec![id] });
                return false;
            }
        }
        true
    }
}
