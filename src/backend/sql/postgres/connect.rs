//! Opens connections to PostgreSQL.

use std::time::Duration;

use diesel::Connection;
use diesel::connection::{CacheSize, SimpleConnection};
use diesel::pg::PgConnection;

use super::error_map::MESSAGES;
use super::pooler;
use super::wake::LONGEST_SCHEMA;
use crate::backend::BackendError;
use crate::backend::sql::errors::Messages;
use crate::backend::sql::pool::{ServerConn, Setup};
use crate::backend::sql::url::{Secrets, ServerUrl, decoded};

/// The server ends a statement that runs for longer. No operation of callboard needs that long.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a try waits for a lock; a later try waits again. It is shorter than the 1 s after which the server checks
/// for deadlocks, and too short for users to notice. A lock that is held for longer belongs to an application or an
/// operator.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// The server ends a transaction that receives no statement for this long. Its process is frozen or unreachable, and
/// other transactions wait for its locks.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// From PostgreSQL 14 on, the server ends a session that receives no statement for this long. The client may be waiting
/// for the answer to a statement that the network has lost. Then the end of the session is its first sign of that,
/// because a device in between may answer all probes of the operating system on behalf of the server.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are closed before the server ends their sessions.
const REST: Duration = Duration::from_secs(20);
/// Error texts of the client library for a server that does not answer.
const AWAY: [&str; 8] = [
    "Connection refused",
    "could not connect",
    "could not translate host name",
    "timeout expired",
    "timed out",
    "No route to host",
    "unreachable",
    "No such file or directory",
];

/// The settings that all connections share.
#[derive(Clone)]
pub(super) struct Target {
    url: String,
    shown: String,
    secrets: Secrets,
    pub(super) schema: String,
    begin: String,
    /// True behind a pooler that gives out a connection for a single transaction only.
    pub(super) pooled: bool,
}

impl ServerConn for PgConnection {
    const MESSAGES: &'static Messages = &MESSAGES;
}

impl Target {
    /// Parses the URL. If the URL does not say whether there is a pooler, detects it.
    pub(super) fn new(url: &str) -> Result<Self, BackendError> {
        let mut url = ServerUrl::new(url)?;
        if !url.names_database() {
            // The library would use the database with the user's name, no matter which tables are in it.
            return Err(url.bad("name a database, as in postgres://USER:PASSWORD@HOST:5432/DATABASE"));
        }
        let schema = url.take("schema").map_or_else(|| "callboard".into(), |schema| decoded(&schema));
        if schema.is_empty()
            || schema.len() > LONGEST_SCHEMA
            || !schema.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            return Err(url.bad(format!(
                "schema has 1 to {LONGEST_SCHEMA} letters, digits and underscores; give one, such as ?schema=jobs"
            )));
        }
        let said = url.take("pooler");
        for (name, value) in [
            ("connect_timeout", "5"),
            ("application_name", "callboard"),
            ("keepalives_idle", "15"),
            ("keepalives_interval", "5"),
            ("keepalives_count", "3"),
            ("tcp_user_timeout", "20000"),
        ] {
            url.default(name, value);
        }
        let (shown, secrets) = (url.shown(), url.secrets());
        let mut target = Self { url: url.text(), shown, secrets, schema, begin: String::new(), pooled: false };
        target.pooled = match said.as_deref() {
            None | Some("auto") => pooler::lies_before(&target, &url)?,
            Some("transaction") => true,
            Some("none" | "session") => false,
            Some(other) => {
                return Err(
                    url.bad(format!("pooler={other} is not known; allowed are transaction, session, none, auto"))
                );
            }
        };
        let settings = target.settings();
        target.begin = if target.pooled {
            // No setting outlives a transaction there, so each transaction begins with its settings, in the same round
            // trip.
            format!("BEGIN ISOLATION LEVEL READ COMMITTED; {}", settings.replace("SET ", "SET LOCAL "))
        } else {
            "BEGIN".into()
        };
        Ok(target)
    }

    /// The settings of a session, as SQL.
    ///
    /// Each statement has an index for its rows, so sequential scans are off. With outdated statistics, of a time when
    /// the table was small or all its rows were pending, the planner could prefer to read the whole table. It would
    /// keep that plan until new statistics are collected. With sequential scans off, the estimated costs are high
    /// enough for JIT compilation of each plan. The compilation takes longer than the plan runs, so JIT is off, too.
    ///
    /// The isolation level is set because a role or a database may have a different default. At REPEATABLE READ, a
    /// claim that waited for a limit would count only the tasks that had started before it waited.
    fn settings(&self) -> String {
        format!(
            "SET default_transaction_isolation TO 'read committed'; SET search_path TO \"{}\"; \
            SET enable_seqscan TO off; SET plan_cache_mode TO force_generic_plan; SET jit TO off; \
            SET statement_timeout TO {}; SET lock_timeout TO {}; SET idle_in_transaction_session_timeout TO {}",
            self.schema,
            STATEMENT_TIMEOUT.as_millis(),
            LOCK_TIMEOUT.as_millis(),
            IDLE_TIMEOUT.as_millis(),
        )
    }

    /// Opens a connection for `LISTEN`, which may be idle without a limit.
    pub(super) fn listener(&self) -> Result<PgConnection, BackendError> {
        self.session(Duration::ZERO)
    }

    /// Opens a connection and applies its settings. Servers before version 14 have no `idle_session_timeout`.
    fn session(&self, idle: Duration) -> Result<PgConnection, BackendError> {
        let mut conn = self.raw()?;
        if self.pooled {
            conn.set_prepared_statement_cache_size(CacheSize::Disabled);
            return Ok(conn);
        }
        let settings = format!(
            "{}; SELECT set_config('idle_session_timeout', '{}', false)
            WHERE current_setting('server_version_num')::int >= 140000",
            self.settings(),
            idle.as_millis()
        );
        conn.batch_execute(&settings).map_err(|error| MESSAGES.meaning("open", &error, false))?;
        Ok(conn)
    }

    /// Opens a connection without any settings.
    pub(super) fn raw(&self) -> Result<PgConnection, BackendError> {
        PgConnection::establish(&self.url).map_err(|error| {
            let said = self.secrets.hidden(error.to_string().trim());
            let missing = said.split_once("database \"").filter(|(_, behind)| behind.contains("does not exist"));
            let fault = match missing {
                Some((_, behind)) => {
                    let name = behind.split('"').next().unwrap_or_default();
                    format!("the database does not exist: {said}; make it first: createdb {name}")
                }
                // The server is reachable: it has answered.
                None if said.contains("FATAL:") => format!("it gives no connection: {said}"),
                None if AWAY.iter().any(|text| said.contains(text)) => format!("it cannot be reached: {said}"),
                None => format!("no connection can be made: {said}"),
            };
            let message = format!("{}: {fault}", self.shown);
            let forever = [
                "authentication failed",
                "does not exist",
                "no pg_hba.conf entry",
                "invalid",
                "certificate",
                "does not support SSL",
            ];
            if forever.iter().any(|text| said.contains(text)) {
                return BackendError::Permanent { operation: "open", message };
            }
            BackendError::Transient { operation: "open", message }
        })
    }
}

impl Setup for Target {
    type Conn = PgConnection;

    const REST: Duration = REST;

    fn connect(&self) -> Result<PgConnection, BackendError> {
        self.session(SESSION_TIMEOUT)
    }

    fn begin(&self) -> &str {
        &self.begin
    }

    fn reads_in_transactions(&self) -> bool {
        self.pooled
    }
}
