//! Opens connections to MySQL or MariaDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::mysql::MysqlConnection;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};

use super::error_map::MESSAGES;
use super::library::Way;
use crate::backend::BackendError;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Messages;
use crate::backend::sql::pool::{ServerConn, Setup};
use crate::backend::sql::statement::statements;
use crate::backend::sql::url::{Secrets, ServerUrl};

statements! {
    Server -> (Text, BigInt, BigInt): "SELECT VERSION(), CAST(@@max_allowed_packet AS SIGNED),
        CAST(@@innodb_rollback_on_timeout AS SIGNED)";
    DatabaseName -> (diesel::sql_types::Nullable<Text>,): "SELECT DATABASE()";
}

/// The settings of each connection. The mode is strict, so that a value that is too long is an error and is not
/// truncated. `lock_wait_timeout` is the limit for table locks, which is a day by default. `wait_timeout` ends a
/// session that receives no statement for that long: its process is frozen or unreachable, and other transactions wait
/// for its locks. Messages are in English, because errors are recognised by their texts.
const SETTINGS: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 1, lock_wait_timeout = 5, wait_timeout = 30,
    group_concat_max_len = 1048576, lc_messages = 'en_US',
    sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO';";

/// Idle connections are closed before the server ends their sessions.
const REST: Duration = Duration::from_secs(20);

/// MariaDB has a separate limit for idle transactions, which can be shorter.
const MARIADB_TIMEOUTS: &str = "max_statement_time = 30, idle_transaction_timeout = 15";

/// The settings that all connections share.
#[derive(Clone)]
pub(super) struct Target {
    way: Way,
    shown: String,
    secrets: Secrets,
    database: String,
    /// The largest packet that the server accepts, in bytes, as the latest connection has read it.
    packet: Arc<AtomicUsize>,
}

impl ServerConn for MysqlConnection {
    const MESSAGES: &'static Messages = &MESSAGES;
}

impl Target {
    pub(super) fn new(url: &str) -> Result<Self, BackendError> {
        let mut url = ServerUrl::new(url)?;
        url.set_scheme("mysql");
        let way = Way::new(url.clone(), !mysqlclient_sys::SUPPORTS_MYSQL_SSL_MODE)?;
        let (shown, secrets) = (url.shown(), url.secrets());
        let mut target = Self { way, shown, secrets, database: String::new(), packet: Arc::default() };
        let database = target.first()?.first::<DatabaseName, (Option<String>,)>(&[]);
        match database.map_err(|error| MESSAGES.meaning("open", &error, false))? {
            Some((Some(database),)) => Ok(Self { database, ..target }),
            _ => Err(url.bad("name a database, as in mysql://USER:PASSWORD@HOST:3306/DATABASE")),
        }
    }

    /// Opens the first connection, which shows whether the library understands the options in the URL.
    fn first(&mut self) -> Result<MysqlConnection, BackendError> {
        let outcome = self.connect();
        match (&outcome, self.way.plain.take()) {
            // The library is too old: it took the whole text with the options for a host name.
            (Err(error), Some(plain)) if error.to_string().contains("host=") => {
                self.way.url = plain;
                self.connect()
            }
            _ => outcome,
        }
    }

    /// The name of the database with the tables.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// The largest packet that the server accepts, in bytes.
    pub(super) fn packet(&self) -> usize {
        self.packet.load(Ordering::Relaxed)
    }

    fn establish(&self) -> Result<MysqlConnection, BackendError> {
        MysqlConnection::establish(&self.way.url).map_err(|error| {
            let said = self.secrets.hidden(&error.to_string());
            let forever = [
                "Access denied",
                "Unknown database",
                "Invalid connection URL",
                "URL",
                "certificate",
                "SSL is required",
            ];
            let away =
                ["Can't connect", "Unknown MySQL server host", "Unknown server host", "Lost connection", "host="];
            let fault = match said.split_once("Unknown database '") {
                Some((_, name)) => {
                    let name = name.split('\'').next().unwrap_or_default();
                    format!("the database does not exist: {said}; make it first: CREATE DATABASE {name}")
                }
                None if away.iter().any(|text| said.contains(text)) => format!("it cannot be reached: {said}"),
                None => format!("it gives no connection: {said}"),
            };
            let message = format!("{}: {fault}", self.shown);
            if forever.iter().any(|text| said.contains(text)) {
                return BackendError::Permanent { operation: "open", message: MESSAGES.advised(message) };
            }
            BackendError::Transient { operation: "open", message }
        })
    }

    /// Fails if the URL requires TLS and the connection is in plain text. The library continues in plain text without
    /// an error if the server has no TLS.
    fn check_encryption(&self, conn: &mut MysqlConnection) -> Result<(), BackendError> {
        if !self.way.encrypted {
            return Ok(());
        }
        let found = conn.load_once::<(Text, Text), (String, String)>("SHOW SESSION STATUS LIKE 'Ssl_cipher'", &[]);
        let found = found.map_err(|error| MESSAGES.meaning("open", &error, false))?;
        if found.iter().any(|(_, cipher)| !cipher.is_empty()) {
            return Ok(());
        }
        let message = format!(
            "{} does not encrypt its connections, and the URL asks for it; give the server a certificate, or use \
            ssl-mode=disabled",
            self.shown
        );
        Err(BackendError::Permanent { operation: "open", message })
    }
}

impl Setup for Target {
    type Conn = MysqlConnection;

    const REST: Duration = REST;

    fn connect(&self) -> Result<MysqlConnection, BackendError> {
        let mut conn = self.establish()?;
        self.check_encryption(&mut conn)?;
        let failed = |error: Error| MESSAGES.meaning("open", &error, false);
        conn.batch_execute(SETTINGS).map_err(failed)?;
        let server = conn.first::<Server, (String, i64, i64)>(&[]).map_err(failed)?;
        let (version, packet, undoes_all) = server.unwrap_or_default();
        // A commit continues after a lock timeout. With this server option, the timeout would roll back the commit's
        // earlier writes without an error.
        if undoes_all != 0 {
            return Err(BackendError::Permanent {
                operation: "open",
                message: "the server runs with innodb_rollback_on_timeout=ON, which undoes parts of a commit without saying \
                          so; start it without that option"
                    .into(),
            });
        }
        self.packet.store(usize::try_from(packet).unwrap_or(0), Ordering::Relaxed);
        // The server ends a statement that runs for longer. No operation of callboard needs that long.
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
