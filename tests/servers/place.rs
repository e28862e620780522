//! Both servers behind one trait, so that each test is written once.

use callboard::AppConnection;
use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::servers::{Database, Schema, mysql_url, postgres_url};

/// A schema or a database of a test's own, which goes when the test ends.
pub(crate) trait Place: Sized + Send + 'static {
    const IS_POSTGRES: bool;
    type Conn: AppConnection + Connection<TransactionManager = AnsiTransactionManager> + Send + 'static;

    /// Where the shared server is, for someone who may do everything.
    fn server() -> String;

    /// A place on the server that a URL names.
    fn at(server: &str) -> Self;

    /// Its schema or database.
    fn name(&self) -> &str;

    /// What callboard opens.
    fn url(&self) -> String;

    /// Another client's connection.
    fn by_hand(&self) -> Self::Conn;

    /// The first column of a statement's rows, which has to be named `text`.
    fn rows(conn: &mut Self::Conn, sql: &str) -> QueryResult<Vec<String>>;

    /// A place on the shared server.
    fn new() -> Self {
        Self::at(&Self::server())
    }

    /// Changes something behind the back of the library.
    fn execute(&self, sql: &str) {
        self.by_hand().batch_execute(sql).expect(sql);
    }

    /// As [`rows`](Self::rows), over a connection of its own.
    fn texts(&self, sql: &str) -> Vec<String> {
        Self::rows(&mut self.by_hand(), sql).expect(sql)
    }

    /// One text.
    fn text(&self, sql: &str) -> String {
        self.texts(sql).into_iter().next().unwrap_or_else(|| panic!("no row: {sql}"))
    }

    /// Keeps everybody from the tasks, as a program that forgot its transaction does.
    fn lock(&self) -> Self::Conn {
        let mut conn = self.by_hand();
        let lock = if Self::IS_POSTGRES { "BEGIN; LOCK TABLE task_queue" } else { "LOCK TABLES task_queue WRITE" };
        conn.batch_execute(lock).expect(lock);
        conn
    }

    /// The URL with another `host:port` in it.
    fn url_by(&self, address: &str) -> String {
        let url = with_address(&self.url(), address);
        // What a proxy is to read must not be encrypted.
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

/// The parts of a URL: what stands before `host:port`, that, and what follows it.
fn apart(url: &str) -> (&str, &str, &str) {
    let path = url.find("//").map_or(0, |at| at + 2);
    let end = url[path..].find('/').map_or(url.len(), |at| path + at);
    let start = url[path..end].rfind('@').map_or(path, |at| path + at + 1);
    (&url[..start], &url[start..end], &url[end..])
}

/// Where the server of a URL listens, as `host:port`.
pub(crate) fn address(url: &str) -> String {
    apart(url).1.into()
}

/// The URL with another `host:port` in it.
pub(crate) fn with_address(url: &str, address: &str) -> String {
    let (before, _, after) = apart(url);
    format!("{before}{address}{after}")
}

/// The URL for another user.
pub(crate) fn with_user(url: &str, user: &str, password: &str) -> String {
    let (before, address, after) = apart(url);
    let scheme = before.split("//").next().unwrap_or_default();
    format!("{scheme}//{user}:{password}@{address}{after}")
}

/// Makes each of these async functions, generic over the place, two tests.
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
