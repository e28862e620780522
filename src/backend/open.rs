//! Opens the backend that a URL names. The scheme alone decides; backends are never tried in turn.

use std::sync::Arc;
use std::time::Duration;

use super::{Backend, BackendError};
use crate::clock::Clock;
use crate::schedule::trigger::nearest;

/// The durability of commits in a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Each commit is on the disk before it is acknowledged.
    #[default]
    Full,
    /// A commit survives the death of the process; the latest commits may be lost if the machine loses power.
    Normal,
}

/// Options for opening a backend.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The source of time for a backend without a clock of its own.
    pub clock: Clock,
    /// The longest wait for a connection or a lock before the attempt fails.
    pub busy_timeout: Duration,
    /// Connections for reading, in addition to the writers; 1,000 at most.
    pub readers: usize,
    /// Parallel commits, where the database supports them; 1,000 at most.
    pub writers: usize,
    /// The durability of a commit.
    pub synchronous: Synchronous,
    /// [`memory:`](super::memory::Memory::with_room) accepts new tasks up to this many bytes.
    pub memory_bytes: usize,
}

/// The maximum number of connections of one kind, because their pool allocates space for all of them at once.
pub(crate) const MOST_CONNECTIONS: usize = 1_000;

#[cfg(feature = "sql")]
impl OpenOptions {
    pub(super) fn readers(&self) -> usize {
        self.readers.clamp(1, MOST_CONNECTIONS)
    }

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn writers(&self) -> usize {
        self.writers.clamp(1, MOST_CONNECTIONS)
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            busy_timeout: Duration::from_secs(2),
            readers: 2,
            writers: 2,
            synchronous: Synchronous::Full,
            memory_bytes: super::memory::MOST_BYTES,
        }
    }
}

/// An open backend.
pub type Opened = Arc<dyn Backend>;

/// Opens the backend that `url` names: `memory:`, `sqlite:PATH`, `postgres://...` or `mysql://...`.
///
/// A durable backend is first migrated to the schema of this program.
///
/// # Errors
/// [`BackendError::BadUrl`] for a scheme that this program does not support, and every error that opening can return.
pub fn open(url: &str, options: &OpenOptions) -> Result<Opened, BackendError> {
    let bad = |reason: &str| BackendError::BadUrl { url: redact(url), reason: reason.into() };
    match url.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest)) {
        Some((scheme, "")) if scheme == "memory" => {
            Ok(Arc::new(super::memory::Memory::with_room(options.memory_bytes)))
        }
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
            "{scheme:?} is no backend of this program{}; allowed are {FORMS}",
            meant(&scheme).map(|form| format!("; did you mean {form}?")).unwrap_or_default()
        ))),
        None => Err(bad(&format!(
            "it names no backend{}; allowed are {FORMS}",
            meant_without_colon(url).map(|form| format!("; did you mean {form}?")).unwrap_or_default()
        ))),
    }
}

fn is_postgres(scheme: &str) -> bool {
    matches!(scheme, "postgres" | "postgresql")
}

const FORMS: &str = "memory:, sqlite:PATH, mysql://... and postgres://...";

/// Each scheme with its common aliases, and the form of its URLs.
const SCHEMES: [(&[&str], &str); 4] = [
    (&["memory", "mem", "inmemory", "in-memory"], "memory:"),
    (&["sqlite", "sqlite3", "file"], "sqlite:PATH"),
    (&["mysql", "mariadb", "maria"], "mysql://..."),
    (&["postgres", "postgresql", "psql", "pgsql", "pg"], "postgres://..."),
];

/// The URL form that an unknown scheme was probably meant to be.
fn meant(scheme: &str) -> Option<&'static str> {
    let scheme = scheme.to_ascii_lowercase();
    let names = || SCHEMES.iter().flat_map(|(names, form)| names.iter().map(move |name| (*name, *form)));
    let name = names().find(|(name, _)| *name == scheme).map(|(name, _)| name);
    let name = name.or_else(|| nearest(&scheme, names().map(|(name, _)| name)))?;
    names().find(|(known, _)| *known == name).map(|(_, form)| form)
}

fn meant_without_colon(url: &str) -> Option<&'static str> {
    let is_file = [".db", ".sqlite", ".sqlite3"].iter().any(|end| url.ends_with(end));
    if is_file { Some("sqlite:PATH") } else { meant(url) }
}

/// The URL without the parts that may be secret: the text before an `@`, a port that is not a number, and the options.
pub(crate) fn redact(url: &str) -> String {
    let is_scheme = |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    let (scheme, rest) = match url.split_once(':') {
        // The rest is a path or empty.
        Some((scheme, _)) if ["sqlite", "memory"].iter().any(|file| scheme.eq_ignore_ascii_case(file)) => {
            return url.into();
        }
        Some((scheme, rest)) if is_scheme(scheme) => match rest.strip_prefix("//") {
            Some(rest) => (format!("{scheme}:"), rest),
            // This may be USER:PASSWORD@HOST without a scheme. The text before the colon is then no secret.
            None => return format!("{scheme}:***"),
        },
        Some(_) => return "***".into(),
        None if url.contains(['@', '?']) => return "***".into(),
        None => return url.into(),
    };
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

    /// Every build knows each scheme. If a backend is not built in, the error names the feature that adds it.
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
    fn a_scheme_that_is_nearly_right_is_answered_with_the_right_form() {
        for (url, form) in [
            ("memory", "memory:"),
            ("Memory", "memory:"),
            ("memroy:", "memory:"),
            ("sqlite3:a.db", "sqlite:PATH"),
            ("tasks.db", "sqlite:PATH"),
            ("postgre://h/d", "postgres://..."),
            ("psql://h/d", "postgres://..."),
            ("mysq://h/d", "mysql://..."),
        ] {
            let error = open(url, &OpenOptions::default()).map(drop).expect_err(url).to_string();
            assert!(error.contains(&format!("did you mean {form}?")), "{url}: {error}");
        }
        for url in ["redis://h", "amqp://h"] {
            let error = open(url, &OpenOptions::default()).map(drop).expect_err(url).to_string();
            assert!(!error.contains("did you mean") && error.contains(FORMS), "{url}: {error}");
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
            ("postgres:u:secret@h/d", "postgres:***"),
            ("postgres:/u:secret@h/d", "postgres:***"),
            ("postgres:u:se//cret@h/d", "postgres:***"),
            ("mysql:secret", "mysql:***"),
            ("u:secret@h/d", "u:***"),
            ("u@x:secret@h//d", "***"),
            ("secret@h", "***"),
            ("h/d?password=secret", "***"),
            ("postgres://u:secret/d", "postgres://***"),
            ("SQLITE:a@b.db", "SQLITE:a@b.db"),
            ("tasks.db", "tasks.db"),
            ("memory", "memory"),
        ] {
            assert_eq!(redact(url), shown, "{url}");
        }
    }
}
