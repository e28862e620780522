//! Tasks in transactions of the application: the same cases on each database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use callboard::{AppConnection, Board, BoardBuilder, NewTask, TaskError, TaskId};
use diesel::connection::{AnsiTransactionManager, Connection, SimpleConnection};
use diesel::{MysqlConnection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection};

mod complete;
mod push;
mod refusals;
#[path = "../support/servers.rs"]
mod servers;
mod sessions;

/// A database with the tables of a board and a table of the application.
trait Place: Send + Sync + 'static {
    type Conn: AppConnection + Connection<TransactionManager = AnsiTransactionManager> + SimpleConnection;

    /// The time within which a committed push must run, on a board that no message tells of the push.
    const NOTICED: Duration;

    fn new() -> Self;

    fn url(&self) -> String;

    /// A connection as an application opens it, without any setting for the sake of a board.
    fn connect(&self) -> Self::Conn;

    /// The name of the application's table, as the application's connection must write it.
    fn orders(&self) -> String {
        "orders".into()
    }

    fn count(&self) -> i64;

    /// Runs a transaction, and begins it as an application would on this database.
    fn transaction<T>(
        conn: &mut Self::Conn,
        work: impl FnOnce(&mut Self::Conn) -> Result<T, TaskError>,
    ) -> Result<T, TaskError> {
        conn.transaction(work)
    }

    /// The SQL of the application's own work.
    fn order(&self) -> String {
        format!("INSERT INTO {} (item) VALUES (1)", self.orders())
    }

    async fn start(&self, builder: BoardBuilder) -> Board {
        let board = builder.url(self.url()).start().await.unwrap();
        self.connect().batch_execute(&format!("CREATE TABLE {} (item BIGINT)", self.orders())).unwrap();
        board
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    n: i64,
}

macro_rules! count {
    ($place:expr) => {{
        let query = diesel::sql_query(format!("SELECT count(*) AS n FROM {}", $place.orders()));
        query.get_result::<Count>(&mut $place.connect()).unwrap().n
    }};
}

struct InFile(tempfile::TempDir);

impl InFile {
    fn path(&self) -> String {
        self.0.path().join("shop.db").display().to_string()
    }
}

impl Place for InFile {
    type Conn = SqliteConnection;
    const NOTICED: Duration = Duration::from_millis(250);

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path())
    }

    fn connect(&self) -> SqliteConnection {
        let mut conn = SqliteConnection::establish(&self.path()).unwrap();
        conn.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON").unwrap();
        conn
    }

    fn count(&self) -> i64 {
        count!(self)
    }

    fn transaction<T>(
        conn: &mut SqliteConnection,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, TaskError>,
    ) -> Result<T, TaskError> {
        conn.immediate_transaction(work)
    }
}

impl Place for servers::Schema {
    type Conn = PgConnection;
    const NOTICED: Duration = Duration::from_millis(250);

    fn new() -> Self {
        Self::new()
    }

    fn url(&self) -> String {
        self.url()
    }

    fn connect(&self) -> PgConnection {
        PgConnection::establish(&servers::postgres_url()).unwrap()
    }

    fn orders(&self) -> String {
        format!("{}.orders", self.name())
    }

    fn count(&self) -> i64 {
        count!(self)
    }
}

impl Place for servers::Database {
    type Conn = MysqlConnection;
    const NOTICED: Duration = Duration::from_millis(1_200);

    fn new() -> Self {
        Self::new()
    }

    fn url(&self) -> String {
        self.url()
    }

    fn connect(&self) -> MysqlConnection {
        MysqlConnection::establish(&self.url()).unwrap()
    }

    fn count(&self) -> i64 {
        count!(self)
    }
}

/// A board that runs tasks. Its check interval is so long that no round of upkeep finds them.
fn working() -> BoardBuilder {
    let builder = Board::builder().handler("work", |_, _| async { Ok(()) });
    builder.configure(|config| config.check_interval = Duration::from_secs(60))
}

/// A task with a given id, so that the id is known even if the push is rolled back.
fn numbered(id: u128) -> NewTask {
    NewTask::new("work", &()).task_id(TaskId::from(uuid::Uuid::from_u128(id)))
}

/// The error of a transaction that is to be rolled back.
fn regret<T>() -> Result<T, TaskError> {
    Err(TaskError::new("regretted"))
}

/// Makes a test for each database from each of the generic functions.
macro_rules! on_each {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[actix_rt::test]
            async fn $case() {
                super::$case::<crate::InFile>().await;
            })+
        }
        crate::on_servers!($($case),+);
    };
}
pub(crate) use on_each;

/// Makes a test for each database server from each of the generic functions.
macro_rules! on_servers {
    ($($case:ident),+) => {
        mod postgres {
            $(#[actix_rt::test]
            async fn $case() {
                super::$case::<crate::servers::Schema>().await;
            })+
        }
        mod mysql {
            $(#[actix_rt::test]
            async fn $case() {
                super::$case::<crate::servers::Database>().await;
            })+
        }
    };
}
pub(crate) use on_servers;
