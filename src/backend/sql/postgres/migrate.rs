//! Migrates the schema to the version of this program.

use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::sql_types::{BigInt, Text};

use super::connect::Target;
use crate::backend::BackendError;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::migrations::{Migration, migrations, missing};
use crate::backend::sql::pool::Connections;
use crate::backend::sql::statement::{Value, statements};

const MIGRATIONS: &[Migration] = migrations!("postgres": "20260101000000" "2026-01-01-000000_tasks");

statements! {
    HasTable -> (BigInt,): "SELECT count(*) FROM information_schema.tables
        WHERE table_schema = ?1 AND table_name = 'callboard_migration'";
    HasSchema -> (BigInt,): "SELECT count(*) FROM pg_namespace WHERE nspname = ?1";
    Done -> (Text,): "SELECT version FROM callboard_migration ORDER BY version";
    Record -> (): "INSERT INTO callboard_migration (version, name) VALUES (?1, ?2)";
    // The same number for every schema. At worst, programs that migrate different schemas wait for each other.
    Lock -> (BigInt,): "SELECT count(*) FROM pg_advisory_xact_lock(4271853911)";
}

/// Long timeouts, because a migration by a different program may take long, and so may a change of a large table.
const PATIENCE: &str = "SET LOCAL lock_timeout TO '30s'; SET LOCAL statement_timeout TO 0";

fn done(conn: &mut PgConnection, schema: &str) -> QueryResult<Vec<String>> {
    let tables = conn.first::<HasTable, (i64,)>(&[Value::Text(schema)])?;
    if tables.is_none_or(|(tables,)| tables == 0) {
        return Ok(Vec::new());
    }
    Ok(conn.load::<Done, (String,)>(&[])?.into_iter().map(|(version,)| version).collect())
}

/// Runs the missing migrations in a single transaction, so that either all of them take effect or none. The transaction
/// holds a lock, so that only the first of many programs that start together runs them. If no migration is missing, the
/// right to read is enough.
pub(super) fn run(connections: &Connections<Target>) -> Result<(), BackendError> {
    let schema = &connections.setup().schema;
    let there = connections.read("migrate", |conn| done(conn, schema))?;
    if missing(&there, MIGRATIONS)?.is_empty() {
        return Ok(());
    }
    let work = |conn: &mut PgConnection| -> Result<(), Abort> {
        conn.batch_execute(PATIENCE)?;
        conn.load::<Lock, (i64,)>(&[])?;
        // If the schema exists, the right to create schemas is not needed.
        let schemas = conn.first::<HasSchema, (i64,)>(&[Value::Text(schema)])?;
        if schemas.is_none_or(|(schemas,)| schemas == 0) {
            conn.batch_execute(&make_schema(schema))?;
        }
        conn.batch_execute(&make_record(schema))?;
        for migration in missing(&done(conn, schema)?, MIGRATIONS)? {
            conn.batch_execute(migration.sql)?;
            conn.run::<Record>(&[Value::Text(migration.version), Value::Text(migration.name)])?;
        }
        Ok(())
    };
    connections.write("migrate", work).map_err(|abort| abort.into_error("migrate"))
}

fn make_schema(schema: &str) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";\n")
}

fn make_record(schema: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS \"{schema}\".callboard_migration (
    version TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, run_at TIMESTAMPTZ NOT NULL DEFAULT now());\n"
    )
}

/// All migrations as a single script, to run by hand, for example in Supabase's SQL editor.
pub(super) fn script(schema: &str) -> String {
    let (own, record) = (make_schema(schema), make_record(schema));
    let mut text = format!("BEGIN;\n{own}{record}SET LOCAL search_path TO \"{schema}\";\n");
    for Migration { version, name, sql } in MIGRATIONS {
        text.push_str(&format!(
            "\n{sql}\nINSERT INTO callboard_migration (version, name) VALUES ('{version}', '{name}');\n"
        ));
    }
    text + "COMMIT;\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_plain_sql_for_an_editor() {
        let script = script("jobs");
        assert!(script.contains("CREATE TABLE task_queue") && script.contains("search_path TO \"jobs\""));
        assert!(!script.contains("DO $$") && !script.contains("\n\\"), "an editor takes plain SQL only");
    }
}
