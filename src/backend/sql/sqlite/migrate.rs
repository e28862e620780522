//! Brings the file to the schema of this program.

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
    // A table of our own: Diesel's is the application's, when it uses Diesel's migrations in the same file.
    callboard_migration (version) {
        version -> Text,
        name -> Text,
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS callboard_migration (
    version TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, run_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)";

/// How long to wait for other processes that start at the same time: longer than a lock is waited for, because
/// each of them takes several locks.
const PATIENCE: Duration = Duration::from_secs(15);

/// Turns the file into a database with a write-ahead log, if it is not one yet, and runs the missing migrations.
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
    // Changing the mode does not wait for locks, whatever the timeout says; the caller tries again.
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

/// Runs with the write lock, so what is missing cannot be run by another process meanwhile.
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
