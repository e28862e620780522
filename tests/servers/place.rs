//! Both database servers behind a common trait, so that each test is written once.

use callboard::AppConnection;
use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::servers::{Database, Schema, mysql_url, postgres_url};

/// A schema or a database for a single test. It is dropped when the test ends.
pub(crate) trait Place: Sized + Send + 'static {
    const IS_POSTGRES: bool;
    type Conn: AppConnection + Connection<TransactionManager = AnsiTransactionManager> + Send + 'static;

    /// The URL of the shared server, for a user with all rights.
    fn server() -> String;

    /// A place on the server at the URL `server`.
    fn at(server: &str) -> Self;

    /// The name of its schema or database.
    fn name(&self) -> &str;

    /// The URL that callboard opens.
    fn url(&self) -> String;

    /// A connection that does not belong to callboard.
    fn by_hand(&self) -> Self::Conn;

    /// The first column of each row. The statement must name this column `text`.
    fn rows(conn: &mut Self::Conn, sql: &str) -> QueryResult<Vec<String>>;

    /// A place on the shared server.
    fn new() -> Self {
        Self::at(&Self::server())
    }

    /// Runs a statement on a connection of its own, without the library's knowledge.
    fn execute(&self, sql: &str) {
        self.by_hand().batch_execute(sql).expect(sql);
    }

    /// Like [`rows`](Self::rows), on a connection of its own.
    fn texts(&self, sql: &str) -> Vec<String> {
        Self::rows(&mut self.by_hand(), sql).expect(sql)
    }

    /// The first of [`texts`](Self::texts); panics if there is no row.
    fn text(&self, sql: &str) -> String {
        self.texts(sql).into_iter().next().unwrap_or_else(|| panic!("no row: {sql}"))
    }

    /// Locks the table of tasks against all other clients, like a program that left its transaction open.
    fn lock(&self) -> Self::Conn {
        let mut conn = self.by_hand();
        let lock = if Self::IS_POSTGRES { "BEGIN; LOCK TABLE task_queue" } else { "LOCK TABLES task_queue WRITE" };
        conn.batch_execute(lock).expect(lock);
        conn
    }

    /// The URL with this `host:port` in place of its own.
    fn url_by(&self, address: &str) -> String {
        let url = with_address(&self.url(), address);
        // The proxy reads the traffic, so the traffic must not be encrypted.
        if Self::IS_POSTGRES { url + "&sslmode=disable" } else { url }
    }
}

#[derive(QueryableByName)]
pub(crate) struct Row {
    #[diesel(sql_type = Text)]
    pub(crate) text: String,
}

macro_rules! place {
    ($place:ty, $conn:ty, $server:ident, $is_postgres:literal) => {
        impl Place for $place {
            const IS_POSTGRES: bool = $is_postgres;
            type Conn = $conn;

            fn server() -> String {
                $server()
            }

            fn at(server: &str) -> Self {
                <$place>::at(server.into())
            }

            fn name(&self) -> &str {
                self.name()
            }

            fn url(&self) -> String {
                self.url()
            }

            fn by_hand(&self) -> $conn {
                self.by_hand()
            }

            fn rows(conn: &mut $conn, sql: &str) -> QueryResult<Vec<String>> {
                let rows: Vec<Row> = diesel::sql_query(sql).load(conn)?;
                Ok(rows.into_iter().map(|row| row.text).collect())
            }
        }
    };
}

place!(Schema, PgConnection, postgres_url, true);
place!(Database, MysqlConnection, mysql_url, false);

/// The three parts of a URL: the text before `host:port`, then `host:port`, then the rest.
fn apart(url: &str) -> (&str, &str, &str) {
    let path = url.find("//").map_or(0, |at| at + 2);
    let end = url[path..].find('/').map_or(url.len(), |at| path + at);
    let start = url[path..end].rfind('@').map_or(path, |at| path + at + 1);
    (&url[..start], &url[start..end], &url[end..])
}

/// The address of the server in a URL, as `host:port`.
pub(crate) fn address(url: &str) -> String {
    apart(url).1.into()
}

/// The URL with this `host:port` in place of its own.
pub(crate) fn with_address(url: &str, address: &str) -> String {
    let (before, _, after) = apart(url);
    format!("{before}{address}{after}")
}

/// The URL with this user and password in place of its own.
pub(crate) fn with_user(url: &str, user: &str, password: &str) -> String {
    let (before, address, after) = apart(url);
    let scheme = before.split("//").next().unwrap_or_default();
    format!("{scheme}//{user}:{password}@{address}{after}")
}

/// Makes two tests of each async function: for PostgreSQL and for MySQL. The functions are generic over the place.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod postgres {
            $(#[test]
            fn $test() {
                actix_rt::System::new().block_on(super::$test::<crate::servers::Schema>());
            })+
        }

        mod mysql {
            $(#[test]
            fn $test() {
                actix_rt::System::new().block_on(super::$test::<crate::servers::Database>());
            })+
        }
    };
}
pub(crate) use on_both;
