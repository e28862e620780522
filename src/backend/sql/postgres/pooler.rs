//! Whether a pooler lies between that gives a connection for one transaction only.
//!
//! A server takes settings with the start of a session. Where such a setting, of a value that nobody else has, is seen
//! in the session, the session is our own, and that is the end of it. Poolers refuse such a setting or forget it.
//!
//! Some of them give a connection for a whole session nevertheless. What serves two connections at the same time, or
//! one connection with several processes, does not. Other programs may have a hand in which process serves whom, so
//! this is looked at more than once.

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

/// How often two connections are compared.
const ROUNDS: usize = 32;

/// # Errors
/// When the server cannot be reached.
pub(super) fn lies_before(target: &Target, url: &ServerUrl) -> Result<bool, BackendError> {
    Ok(!is_own_session(url) && shares_processes(target)?)
}

/// True when a setting of ours arrives. What fails here is told by the connection that is made next.
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

/// True when two connections are not served by one process each.
///
/// In step with another program two connections may keep what they have for long, so the steps are not even. Both at once
/// hold nothing: as many programs as the pooler has processes, each with one and in want of another, would wait for ever.
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
