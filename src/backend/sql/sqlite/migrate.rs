//! Migrates the file to the schema of this program.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel::sqlite::{Sqlite as Db, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::error_map::backend_error;
use super::open::Setup;
use crate::backend::BackendError;
use crate::backend::sql::errors::Abort;
use crate::clock::moment_after;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

diesel::table! {
    // A separate table, because Diesel's belongs to the application if it uses Diesel's migrations in the same file.
    callboard_migration (version) {
        version -> Text,
        name -> Text,
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS callboard_migration (
    version TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, run_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)";

/// How long to wait for other processes that start at the same time. It is longer than the wait for a single lock,
/// because each of these processes takes several locks.
const PATIENCE: Duration = Duration::from_secs(15);

/// Switches the database file to a write-ahead log, if it has none yet, and runs the missing migrations.
pub(super) fn prepare(path: &str, setup: &Setup) -> Result<(), BackendError> {
    let deadline = moment_after(PATIENCE.max(setup.busy_timeout()));
    loop {
        match setup.connect(path).and_then(|mut conn| prepare_on(&mut conn, path)) {
            Err(error) if error.is_transient() && is_lock(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

fn is_lock(error: &BackendError) -> bool {
    error.to_string().contains("is locked")
}

fn prepare_on(conn: &mut SqliteConnection, path: &str) -> Result<(), BackendError> {
    let failed = |error: diesel::result::Error| named(path, backend_error("open", &error));
    // Changing the journal mode does not wait for locks, no matter how long the busy timeout is. The caller retries.
    conn.batch_execute("PRAGMA journal_mode = WAL").map_err(failed)?;
    conn.immediate_transaction(run_missing)
        .map_err(|abort| named(path, abort.at::<SqliteConnection>("migrate", false).into_error("migrate")))
}

pub(super) fn named(path: &str, error: BackendError) -> BackendError {
    let say = |message: String| {
        let advice = if message.contains("file is not a database") {
            "; it is another kind of file: name a new one"
        } else if message.contains("readonly") {
            "; allow this user to write to the file and to its directory"
        } else {
            ""
        };
        format!("{path}: {message}{advice}")
    };
    match error {
        BackendError::Transient { operation, message } => {
            BackendError::Transient { operation, message: say(message) }
        }
        BackendError::Permanent { operation, message } => {
            BackendError::Permanent { operation, message: say(message) }
        }
        other => other,
    }
}

/// Runs under the write lock, so that no other process can run the missing migrations meanwhile.
fn run_missing(conn: &mut SqliteConnection) -> Result<(), Abort> {
    use callboard_migration::dsl;
    conn.batch_execute(TABLE)?;
    let done: Vec<String> = dsl::callboard_migration.select(dsl::version).order(dsl::version).load(conn)?;
    let mut known: Vec<Box<dyn Migration<Db>>> = MIGRATIONS.migrations().map_err(broken)?;
    known.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    let newest = known.last().map(|migration| migration.name().version().to_string()).unwrap_or_default();
    if let Some(found) = done.last().filter(|found| **found > newest) {
        return Err(BackendError::SchemaTooNew { found: found.clone(), known: newest }.into());
    }
    for migration in known {
        let version = migration.name().version().to_string();
        if done.contains(&version) {
            continue;
        }
        migration.run(conn).map_err(broken)?;
        diesel::insert_into(dsl::callboard_migration)
            .values((dsl::version.eq(version), dsl::name.eq(migration.name().to_string())))
            .execute(conn)?;
    }
    Ok(())
}

fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Abort {
    let message = error.to_string();
    let operation = "migrate";
    if message.contains("is locked") || message.contains("full") {
        return BackendError::Transient { operation, message }.into();
    }
    BackendError::Permanent { operation, message }.into()
}
