//! From a URL to a backend: by its scheme, never by trying one after another.

use std::sync::Arc;
use std::time::Duration;

use super::{Backend, BackendError};
use crate::clock::Clock;

/// How a database makes commits durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Each commit is on the disk before it is acknowledged.
    #[default]
    Full,
    /// A commit survives the death of the process; the last ones may be lost when the machine loses power.
    Normal,
}

/// What a backend is opened with.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Where it reads time, when it has no clock of its own.
    pub clock: Clock,
    /// How long to wait for a connection or a lock before the attempt counts as failed.
    pub busy_timeout: Duration,
    /// Connections for reading beside the writers.
    pub readers: usize,
    /// Commits at a time, where the database takes several.
    pub writers: usize,
    /// How durable a commit is.
    pub synchronous: Synchronous,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            busy_timeout: Duration::from_secs(2),
            readers: 2,
            writers: 2,
            synchronous: Synchronous::Full,
        }
    }
}

/// A backend that is open.
pub type Opened = Arc<dyn Backend>;

/// Opens the backend that `url` names: `memory:`, `sqlite:PATH`, `postgres://...` or `mysql://...`.
///
/// A backend that keeps its data is brought to the schema of this program first.
///
/// # Errors
/// [`BackendError::BadUrl`] for a scheme that this program does not have, and whatever opening can meet.
#[cfg_attr(not(feature = "sqlite"), allow(unused_variables, reason = "only databases have options"))]
pub fn open(url: &str, options: &OpenOptions) -> Result<Opened, BackendError> {
    let bad = |reason: &str| BackendError::BadUrl { url: redact(url), reason: reason.into() };
    match url.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest)) {
        Some((scheme, "")) if scheme == "memory" => Ok(Arc::new(super::memory::Memory::new())),
        Some((scheme, _)) if scheme == "memory" => Err(bad("nothing may follow memory:")),
        #[cfg(feature = "sqlite")]
        Some((scheme, path)) if scheme == "sqlite" => Ok(Arc::new(super::sql::Sqlite::open(path, options)?)),
        #[cfg(not(feature = "sqlite"))]
        Some((scheme, _)) if scheme == "sqlite" => {
            Err(bad("this program was built without SQLite; build it with the feature `sqlite`"))
        }
        #[cfg(feature = "postgres")]
        Some((scheme, _)) if is_postgres(&scheme) => Ok(Arc::new(super::sql::Postgres::open(url, options)?)),
        #[cfg(not(feature = "postgres"))]
        Some((scheme, _)) if is_postgres(&scheme) => {
            Err(bad("this program was built without PostgreSQL; build it with the feature `postgres`"))
        }
        #[cfg(feature = "mysql")]
        Some((scheme, _)) if matches!(scheme.as_str(), "mysql" | "mariadb") => {
            Ok(Arc::new(super::sql::Mysql::open(url, options)?))
        }
        #[cfg(not(feature = "mysql"))]
        Some((scheme, _)) if matches!(scheme.as_str(), "mysql" | "mariadb") => {
            Err(bad("this program was built without MySQL; build it with the feature `mysql`"))
        }
        Some((scheme, rest)) if scheme == "https" && rest.contains("supabase") => Err(bad(
            "this is the address of Supabase's REST interface; the connection string of the database is needed, \
            postgres://..., which the dashboard shows under Connect",
        )),
        Some((scheme, _)) => Err(bad(&format!(
            "{scheme:?} is no backend of this program; allowed are memory:, sqlite:PATH, mysql://... and postgres://..."
        ))),
        None => Err(bad("a URL such as sqlite:tasks.db or memory: is expected")),
    }
}

fn is_postgres(scheme: &str) -> bool {
    matches!(scheme, "postgres" | "postgresql")
}

/// The URL without what may be secret: what stands before an `@`, a port that is none, and the options.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("//") else { return url.into() };
    let (mask, rest) = match rest.rsplit_once('@') {
        Some((_, host)) => ("***@", host),
        None => ("", rest),
    };
    let rest = rest.split('?').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '#']).unwrap_or(rest.len()));
    let is_port = |port: &str| port.chars().all(|letter| letter.is_ascii_digit() || letter == ',' || letter == ']');
    match authority.rsplit_once(':') {
        Some((_, port)) if !is_port(port) => format!("{scheme}//***"),
        _ => format!("{scheme}//{mask}{authority}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each scheme is known in every build; where its backend is left out, the feature that brings it is named.
    #[test]
    fn a_backend_that_was_not_built_in_is_named_with_its_feature() {
        let left_out = [
            ("sqlite:a.db", "sqlite", cfg!(feature = "sqlite")),
            ("postgres://h/d", "postgres", cfg!(feature = "postgres")),
            ("POSTGRESQL://h/d", "postgres", cfg!(feature = "postgres")),
            ("mysql://h/d", "mysql", cfg!(feature = "mysql")),
            ("mariadb://h/d", "mysql", cfg!(feature = "mysql")),
        ];
        for (url, feature, _) in left_out.into_iter().filter(|(.., is_built)| !is_built) {
            let error = open(url, &OpenOptions::default()).map(drop).expect_err(url).to_string();
            assert!(error.contains(&format!("build it with the feature `{feature}`")), "{url}: {error}");
        }
        for url in ["redis://h", "tasks.db", "memory:x", "https://x.supabase.co"] {
            let error = open(url, &OpenOptions::default()).map(drop).expect_err(url);
            assert!(matches!(error, BackendError::BadUrl { .. }), "{url}: {error}");
        }
    }

    #[test]
    fn no_part_of_a_password_is_shown() {
        for (url, shown) in [
            ("sqlite:a.db", "sqlite:a.db"),
            ("POSTGRES://u:secret@h:5432/d?sslmode=require", "POSTGRES://***@h:5432/d"),
            ("mysql://u:se?c@ret@h/d", "mysql://***@h/d"),
            ("mysql://u:secret", "mysql://***"),
            ("mysql://u:se/cret@h/d?password=secret", "mysql://***@h/d"),
            ("https://x.supabase.co?apikey=secret", "https://x.supabase.co"),
        ] {
            assert_eq!(redact(url), shown, "{url}");
        }
    }
}
