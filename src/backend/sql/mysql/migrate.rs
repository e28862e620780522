//! Migrates the tables to the version of this program.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel::mysql::MysqlConnection;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::connect::Target;
use super::error_map::MESSAGES;
use crate::backend::BackendError;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::migrations::{Migration, migrations, missing};
use crate::backend::sql::pool::Setup;
use crate::backend::sql::statement::{Value, statements};

const MIGRATIONS: &[Migration] = migrations!("mysql": "20260101000000" "2026-01-01-000000_tasks");

/// How long to wait for other programs that start at the same time.
const PATIENCE: Duration = Duration::from_secs(30);

const TABLE: &str = "CREATE TABLE IF NOT EXISTS callboard_migration (
    version VARCHAR(50) PRIMARY KEY NOT NULL, name VARCHAR(200) NOT NULL,
    run_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE = InnoDB";

statements! {
    HasTable -> (BigInt,): "SELECT count(*) FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name = 'callboard_migration'";
    Tables -> (Text,): "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()
        ORDER BY table_name";
    Done -> (Text,): "SELECT version FROM callboard_migration ORDER BY version";
    Record -> (): "INSERT INTO callboard_migration (version, name) VALUES (?1, ?2)";
    // Not utf8mb4_bin, which ignores spaces at the end of a text.
    Collation -> (Text,): "SELECT COLLATION_NAME FROM information_schema.COLLATIONS
        WHERE COLLATION_NAME IN ('utf8mb4_0900_bin', 'utf8mb4_nopad_bin')";
    // The lock is released with the connection, even if the program dies. Each call waits 1 s only, because statements
    // have a time limit. The name of a lock has 64 characters at most. SHA2 shortens it, because MySQL 9.7 has no MD5.
    Lock -> (Nullable<BigInt>,): "SELECT GET_LOCK(CONCAT('callboard_migrate:', LEFT(SHA2(DATABASE(), 256), 40)), 1)";
}

/// The versions of the migrations that were run; `None` if the table of migrations does not exist.
fn done(conn: &mut MysqlConnection) -> QueryResult<Option<Vec<String>>> {
    let tables = conn.first::<HasTable, (i64,)>(&[])?;
    if tables.is_none_or(|(tables,)| tables == 0) {
        return Ok(None);
    }
    Ok(Some(conn.load::<Done, (String,)>(&[])?.into_iter().map(|(version,)| version).collect()))
}

/// Runs the missing migrations, statement by statement. Each statement can be repeated, because DDL ends a transaction:
/// if a program dies half-way, the next program completes the rest. If no migration is missing, the right to read is
/// enough.
pub(super) fn run(target: &Target) -> Result<(), BackendError> {
    let failed = |error: diesel::result::Error| MESSAGES.meaning("migrate", &error, false);
    let mut conn = target.connect()?;
    let there = |conn: &mut MysqlConnection| done(conn).map_err(failed);
    if missing(&there(&mut conn)?.unwrap_or_default(), MIGRATIONS)?.is_empty() {
        return Ok(());
    }
    lock(&mut conn)?;
    if there(&mut conn)?.is_none() {
        refuse_others(&mut conn, target)?;
    }
    // A change of a large table takes long, so it has no time limit. MySQL does not know this setting, and has no time
    // limit for such statements.
    conn.batch_execute("SET SESSION max_statement_time = 0").ok();
    conn.batch_execute(TABLE).map_err(failed)?;
    let (collation,) =
        conn.first::<Collation, (String,)>(&[]).map_err(failed)?.ok_or_else(|| BackendError::Permanent {
            operation: "migrate",
            message: "this server cannot compare texts byte by byte; use MySQL from 8.0 on, or MariaDB from 10.6 on"
                .into(),
        })?;
    for migration in missing(&there(&mut conn)?.unwrap_or_default(), MIGRATIONS)? {
        let sql = migration.sql.replace("{collation}", &collation);
        for step in steps(&sql) {
            conn.batch_execute(step).map_err(failed)?;
        }
        conn.run::<Record>(&[Value::Text(migration.version), Value::Text(migration.name)]).map_err(failed)?;
    }
    Ok(())
}

/// Fails if the database has tables or views of a different program under callboard's names. It is called before the
/// first step. The steps themselves are repeatable, so they would accept existing tables and views as their own.
fn refuse_others(conn: &mut MysqlConnection, target: &Target) -> Result<(), BackendError> {
    let failed = |error: diesel::result::Error| MESSAGES.meaning("migrate", &error, false);
    let there = conn.load::<Tables, (String,)>(&[]).map_err(failed)?;
    let ours: Vec<&str> = MIGRATIONS.iter().flat_map(|migration| steps(migration.sql).filter_map(made)).collect();
    let taken = |name: &String| ours.iter().any(|ours| ours.eq_ignore_ascii_case(name));
    let others: Vec<String> = there.into_iter().map(|(name,)| name).filter(taken).collect();
    if others.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the database {} has tables of another program under the names {}; give callboard a database of its own",
        target.database(),
        others.join(", ")
    );
    Err(BackendError::Permanent { operation: "migrate", message })
}

/// The table or view that a statement creates.
fn made(step: &str) -> Option<&str> {
    let code = step.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"))?;
    let name =
        ["CREATE TABLE IF NOT EXISTS ", "CREATE OR REPLACE VIEW "].iter().find_map(|start| code.strip_prefix(start));
    name?.split([' ', '(']).next()
}

/// All migrations as a single script, to run by hand.
pub(super) fn script(collation: &str) -> String {
    let mut text = format!("{TABLE};\n");
    for Migration { version, name, sql } in MIGRATIONS {
        text.push_str(&sql.replace("{collation}", collation));
        text.push_str(&format!(
            "\nINSERT INTO callboard_migration (version, name) VALUES ('{version}', '{name}');\n"
        ));
    }
    text
}

fn lock(conn: &mut MysqlConnection) -> Result<(), BackendError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got =
            conn.first::<Lock, (Option<i64>,)>(&[]).map_err(|error| MESSAGES.meaning("migrate", &error, false))?;
        if matches!(got, Some((Some(1),))) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(BackendError::Transient {
                operation: "migrate",
                message: format!("another program has been migrating for {PATIENCE:?}; see what it waits for"),
            });
        }
    }
}

/// The statements of a file.
fn steps(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n").map(str::trim).filter(|step| step.lines().any(|line| !line.trim_start().starts_with("--")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_falls_into_statements_that_can_be_repeated() {
        for migration in MIGRATIONS {
            for step in steps(migration.sql) {
                let code: String = step.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
                let repeatable = ["CREATE TABLE IF NOT EXISTS", "CREATE OR REPLACE VIEW", "INSERT IGNORE"];
                assert!(repeatable.iter().any(|start| code.starts_with(start)), "{step}");
            }
        }
    }

    #[test]
    fn what_the_steps_make_is_known_by_name() {
        let made: Vec<&str> = steps(MIGRATIONS[0].sql).filter_map(made).collect();
        for name in ["task_queue", "node", "queue", "scheduler_task", "node_view", "schedule_firing_view"] {
            assert!(made.contains(&name), "{name} is not in {made:?}");
        }
    }
}
