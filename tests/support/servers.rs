//! Database servers for tests: each test gets a schema or a database of its own, which goes when the test ends.
#![allow(dead_code, reason = "each test program uses a part")]

#[cfg(feature = "mysql")]
use diesel::mysql::MysqlConnection;
#[cfg(feature = "postgres")]
use diesel::pg::PgConnection;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use diesel::{Connection, connection::SimpleConnection};

/// Where PostgreSQL is, as a role that may do everything.
pub(crate) fn postgres_url() -> String {
    std::env::var("CALLBOARD_TEST_POSTGRES").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into())
}

/// Where MariaDB or MySQL is, without a database, as a user that may do everything.
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
    /// A name that is free; opening it makes the schema.
    pub(crate) fn new() -> Self {
        Self::at(postgres_url())
    }

    /// The same on another server.
    pub(crate) fn at(server: String) -> Self {
        Self { server, name: fresh_name() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        // Said, not found out: that would cost each test two connections.
        format!("{}?schema={}&pooler=none", self.server, self.name)
    }

    /// Another client's connection.
    pub(crate) fn by_hand(&self) -> PgConnection {
        let mut conn = PgConnection::establish(&self.server).expect("PostgreSQL for the tests");
        conn.batch_execute(&format!("SET search_path TO {}", self.name)).expect("the schema");
        conn
    }
}

#[cfg(feature = "postgres")]
impl Drop for Schema {
    fn drop(&mut self) {
        // A schema that stays is in nobody's way, and a panic while unwinding would hide the failure.
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

    /// The same on another server.
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

    /// Another client's connection.
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
