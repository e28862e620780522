//! How a connection to PostgreSQL is made.

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

/// A statement that takes longer is ended by the server: no operation of callboard has a reason to.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// A lock that is not free by then is waited for in a later try. Shorter than the second after which the server looks for
/// deadlocks, and than anybody notices: what is locked for longer is an application's or an operator's.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// A transaction in which nothing comes for so long is ended by the server: its process is frozen or out of reach, and
/// others wait for its locks.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A session in which nothing comes for so long is ended by the server, from PostgreSQL 14 on. Its client may wait for the
/// answer to a statement that the network has swallowed, and this end is what it hears of first: what lies between may
/// answer for the server in all that the operating system asks.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at rest are given up before the server ends their sessions.
const REST: Duration = Duration::from_secs(20);
/// What the client library says of a server that does not answer.
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

/// What is the same for all connections.
#[derive(Clone)]
pub(super) struct Target {
    url: String,
    shown: String,
    secrets: Secrets,
    pub(super) schema: String,
    begin: String,
    /// A pooler lies between, which gives a connection for one transaction only.
    pub(super) pooled: bool,
}

impl ServerConn for PgConnection {
    const MESSAGES: &'static Messages = &MESSAGES;
}

impl Target {
    /// Reads the URL, and finds out whether a pooler lies between if it does not say so.
    pub(super) fn new(url: &str) -> Result<Self, BackendError> {
        let mut url = ServerUrl::new(url)?;
        if !url.names_database() {
            // The library would take the database that is named like the user, whatever is in it.
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
            // Nothing outlives a transaction there, so each begins with its settings, in the same round trip.
            format!("BEGIN ISOLATION LEVEL READ COMMITTED; {}", settings.replace("SET ", "SET LOCAL "))
        } else {
            "BEGIN".into()
        };
        Ok(target)
    }

    /// Each statement has an index for its rows, and statistics that are a moment old must not make the planner prefer to
    /// read all of a table that was small or all pending then: it keeps such a plan until they are taken again. Without that
    /// choice costs look high enough to compile each plan, which takes longer than to run it; so that is off, too.
    ///
    /// The isolation level is said, for a role or a database may have another by default: at REPEATABLE READ a claim that
    /// waited for a limit would count what had started before it waited.
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

    /// A connection that may be silent for as long as it likes: one that listens.
    pub(super) fn listener(&self) -> Result<PgConnection, BackendError> {
        self.session(Duration::ZERO)
    }

    /// Opens a connection and tells it what it has to know. Older servers have no `idle_session_timeout`.
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
                // The server answers.
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
