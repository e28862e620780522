//! Detects a pooler that gives out a connection for a single transaction only.
//!
//! The first test sends a setting with a unique value at the start of a session, as servers allow. If the session shows
//! this value, there is no such pooler, and the test ends here. Poolers reject such a setting or drop it.
//!
//! Some of these poolers still give out a connection for a whole session. So the second test compares the server
//! processes of two connections that are open at the same time. If both have had the same process, or either has had
//! several, connections are given out per transaction. Other programs influence which process serves a connection, so
//! the comparison is repeated.

use std::collections::HashSet;
use std::time::Duration;

use diesel::Connection;
use diesel::connection::CacheSize;
use diesel::pg::PgConnection;
use diesel::result::Error;
use diesel::sql_types::{Integer, Nullable, Text};

use super::connect::Target;
use super::error_map::MESSAGES;
use crate::backend::BackendError;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::statement::statements;
use crate::backend::sql::url::ServerUrl;

statements! {
    Probe -> (Nullable<Text>,): "SELECT current_setting('callboard.probe', true)";
    ServedBy -> (Integer,): "SELECT pg_backend_pid()";
}

/// The number of comparisons of the two connections.
const ROUNDS: usize = 32;

/// True if there is a pooler that gives out a connection for a single transaction only.
///
/// # Errors
/// If the server cannot be reached.
pub(super) fn lies_before(target: &Target, url: &ServerUrl) -> Result<bool, BackendError> {
    Ok(!is_own_session(url) && shares_processes(target)?)
}

/// True if a setting of this program arrives in the session. Errors are ignored here, because the next connection
/// reports them.
fn is_own_session(url: &ServerUrl) -> bool {
    let own = uuid::Uuid::now_v7().simple().to_string();
    let mut url = url.clone();
    let options = url.take("options").map(|options| options + "%20").unwrap_or_default();
    url.default("options", &format!("{options}-c%20callboard.probe%3D{own}"));
    let Ok(mut conn) = PgConnection::establish(&url.text()) else { return false };
    conn.set_prepared_statement_cache_size(CacheSize::Disabled);
    let seen = conn.first::<Probe, (Option<String>,)>(&[]);
    seen.is_ok_and(|seen| seen.is_some_and(|(seen,)| seen == Some(own)))
}

/// True unless each of two connections is always served by a process of its own.
///
/// If a different program ran its statements in step with these, both connections could keep their processes for long.
/// So the order and the pauses are random. The two connections never hold a process at the same time. Otherwise, with
/// as many programs as the pooler has processes, each program could hold a process and wait for ever for a second
/// process.
fn shares_processes(target: &Target) -> Result<bool, BackendError> {
    let failed = |error: Error| MESSAGES.meaning("open", &error, false);
    let mut conns = [target.raw()?, target.raw()?];
    let mut seen = [HashSet::new(), HashSet::new()];
    for conn in &mut conns {
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
    }
    for _ in 0..ROUNDS {
        let first = rand::random_range(0..2);
        for place in [first, 1 - first] {
            seen[place].extend(conns[place].first::<ServedBy, (i32,)>(&[]).map_err(failed)?);
        }
        if seen.iter().any(|seen| seen.len() > 1) || !seen[0].is_disjoint(&seen[1]) {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_micros(rand::random_range(0..1_000)));
    }
    Ok(false)
}
