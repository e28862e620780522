//! How a connection to MySQL or MariaDB is made.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::mysql::MysqlConnection;
use diesel::result::Error;
use diesel::sql_types::Text;

use super::meaning::MESSAGES;
use crate::backend::BackendError;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::pool::{ServerConn, Setup};
use crate::backend::sql::statement::statements;
use crate::backend::sql::url::ServerUrl;

statements! {
    Version -> (Text,): "SELECT VERSION()";
    DatabaseName -> (diesel::sql_types::Nullable<Text>,): "SELECT DATABASE()";
}

/// What each connection is told. Strict: what is too long is an error and is not cut. Locks of tables have a limit of
/// their own, which is a day by default.
const SETTINGS: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 5, lock_wait_timeout = 5,
    group_concat_max_len = 1048576,
    sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO';";

/// A transaction in which nothing comes for so long is ended by the server: its process is frozen or out of reach, and
/// others wait for its locks. MySQL has no such limit.
const MARIADB_TIMEOUTS: &str = "max_statement_time = 30, idle_transaction_timeout = 15";

/// What is the same for all connections.
#[derive(Clone)]
pub(super) struct Target {
    url: String,
    shown: String,
    database: String,
}

impl ServerConn for MysqlConnection {
    fn is_conflict(error: &Error) -> bool {
        MESSAGES.is_conflict(error)
    }

    fn is_broken(error: &Error) -> bool {
        MESSAGES.is_broken(error)
    }
}

impl Target {
    pub(super) fn new(url: &str) -> Result<Self, BackendError> {
        let url = url.replacen("mariadb:", "mysql:", 1);
        let mut url = ServerUrl::new(&url);
        // As MySQL's own clients call them.
        for (own, diesel) in
            [("ssl-mode", "ssl_mode"), ("ssl-ca", "ssl_ca"), ("ssl-cert", "ssl_cert"), ("ssl-key", "ssl_key")]
        {
            if let Some(value) = url.take(own) {
                url.default(diesel, &value.to_lowercase());
            }
        }
        let target = Self { url: url.text(), shown: url.shown(), database: String::new() };
        let database = target.connect()?.first::<DatabaseName, (Option<String>,)>(&[]);
        match database.map_err(|error| MESSAGES.meaning("open", &error, false))? {
            Some((Some(database),)) => Ok(Self { database, ..target }),
            _ => Err(url.bad("name a database, as in mysql://USER:PASSWORD@HOST:3306/DATABASE")),
        }
    }
}

impl Target {
    /// The database with the tables.
    pub(super) fn database(&self) -> &str {
        &self.database
    }
}

impl Setup for Target {
    type Conn = MysqlConnection;

    fn connect(&self) -> Result<MysqlConnection, BackendError> {
        let mut conn = MysqlConnection::establish(&self.url).map_err(|error| {
            let message = format!("{} cannot be reached: {error}", self.shown);
            let forever = ["Access denied", "Unknown database", "Invalid connection URL", "URL"];
            if forever.iter().any(|text| message.contains(text)) {
                return BackendError::Permanent { operation: "open", message: MESSAGES.advised(message) };
            }
            BackendError::Transient { operation: "open", message }
        })?;
        let failed = |error: Error| MESSAGES.meaning("open", &error, false);
        conn.batch_execute(SETTINGS).map_err(failed)?;
        let (version,) = conn.first::<Version, (String,)>(&[]).map_err(failed)?.unwrap_or_default();
        // A statement that takes longer is ended by the server: no operation of callboard has a reason to.
        let timeout = if version.contains("MariaDB") { MARIADB_TIMEOUTS } else { "max_execution_time = 30000" };
        conn.batch_execute(&format!("SET SESSION {timeout}")).map_err(failed)?;
        Ok(conn)
    }

    fn begin(&self) -> &str {
        "BEGIN"
    }

    fn reads_in_transactions(&self) -> bool {
        false
    }
}
