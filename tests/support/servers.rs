//! Database servers for tests. Each test gets its own schema or database, which is dropped when the test ends.
#![allow(dead_code, reason = "each test program uses a part")]

#[cfg(feature = "mysql")]
use diesel::mysql::MysqlConnection;
#[cfg(feature = "postgres")]
use diesel::pg::PgConnection;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use diesel::{Connection, connection::SimpleConnection};

/// The URL of PostgreSQL, with a role that has all rights.
pub(crate) fn postgres_url() -> String {
    std::env::var("CALLBOARD_TEST_POSTGRES").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into())
}

/// The URL of MariaDB or MySQL, without a database, with a user that has all rights.
pub(crate) fn mysql_url() -> String {
    std::env::var("CALLBOARD_TEST_MYSQL").unwrap_or_else(|_| "mysql://root@127.0.0.1:3306".into())
}

fn fresh_name() -> String {
    format!("cb_{}", uuid::Uuid::now_v7().simple())
}

/// A schema in PostgreSQL.
#[cfg(feature = "postgres")]
pub(crate) struct Schema {
    server: String,
    name: String,
}

#[cfg(feature = "postgres")]
impl Schema {
    /// Chooses a free name; opening its URL makes the schema.
    pub(crate) fn new() -> Self {
        Self::at(postgres_url())
    }

    /// Like `new`, on the given server.
    pub(crate) fn at(server: String) -> Self {
        Self { server, name: fresh_name() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        // The pooler is stated in the URL, because detecting it would cost each test two connections.
        format!("{}?schema={}&pooler=none", self.server, self.name)
    }

    /// A separate connection, like that of a foreign client.
    pub(crate) fn by_hand(&self) -> PgConnection {
        let mut conn = PgConnection::establish(&self.server).expect("PostgreSQL for the tests");
        conn.batch_execute(&format!("SET search_path TO {}", self.name)).expect("the schema");
        conn
    }
}

#[cfg(feature = "postgres")]
impl Drop for Schema {
    fn drop(&mut self) {
        // Errors are ignored. A schema that stays does no harm, and a panic while unwinding would hide the failure.
        if let Ok(mut conn) = PgConnection::establish(&self.server) {
            conn.batch_execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name)).ok();
        }
    }
}

/// A database in MariaDB or MySQL.
#[cfg(feature = "mysql")]
pub(crate) struct Database {
    server: String,
    name: String,
}

#[cfg(feature = "mysql")]
impl Database {
    pub(crate) fn new() -> Self {
        Self::at(mysql_url())
    }

    /// Like `new`, on the given server.
    pub(crate) fn at(server: String) -> Self {
        let name = fresh_name();
        let mut conn = MysqlConnection::establish(&server).expect("MariaDB for the tests");
        conn.batch_execute(&format!("CREATE DATABASE {name}")).expect("a database");
        Self { server, name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// A separate connection, like that of a foreign client.
    pub(crate) fn by_hand(&self) -> MysqlConnection {
        MysqlConnection::establish(&self.url()).expect("MariaDB for the tests")
    }
}

#[cfg(feature = "mysql")]
impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(mut conn) = MysqlConnection::establish(&self.server) {
            conn.batch_execute(&format!("DROP DATABASE IF EXISTS {}", self.name)).ok();
        }
    }
}
