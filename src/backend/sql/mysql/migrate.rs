//! Brings the tables to what this program knows.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel::mysql::MysqlConnection;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::connect::Target;
use super::meaning::MESSAGES;
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
    Done -> (Text,): "SELECT version FROM callboard_migration ORDER BY version";
    Record -> (): "INSERT INTO callboard_migration (version, name) VALUES (?1, ?2)";
    // Not utf8mb4_bin, to which blanks at the end are nothing.
    Collation -> (Text,): "SELECT COLLATION_NAME FROM information_schema.COLLATIONS
        WHERE COLLATION_NAME IN ('utf8mb4_0900_bin', 'utf8mb4_nopad_bin')";
    // Let go with the connection, also when the program dies. One second at a time, for a statement has its limit.
    Lock -> (Nullable<BigInt>,): "SELECT GET_LOCK(CONCAT('callboard_migrate:', MD5(DATABASE())), 1)";
}

fn done(conn: &mut MysqlConnection) -> QueryResult<Vec<String>> {
    let tables = conn.first::<HasTable, (i64,)>(&[])?;
    if tables.is_none_or(|(tables,)| tables == 0) {
        return Ok(Vec::new());
    }
    Ok(conn.load::<Done, (String,)>(&[])?.into_iter().map(|(version,)| version).collect())
}

/// Runs what is missing, statement by statement, each of which can be repeated: DDL ends a transaction, so a program
/// that dies half-way leaves a half that the next one completes. Where nothing is missing, only reading rights are needed.
pub(super) fn run(target: &Target) -> Result<(), BackendError> {
    let failed = |error: diesel::result::Error| MESSAGES.meaning("migrate", &error, false);
    let mut conn = target.connect()?;
    if missing(&done(&mut conn).map_err(failed)?, MIGRATIONS)?.is_empty() {
        return Ok(());
    }
    lock(&mut conn)?;
    // A change of a large table takes its time. MySQL does not know the setting, and has no limit for such statements.
    conn.batch_execute("SET SESSION max_statement_time = 0").ok();
    conn.batch_execute(TABLE).map_err(failed)?;
    let (collation,) =
        conn.first::<Collation, (String,)>(&[]).map_err(failed)?.ok_or_else(|| BackendError::Permanent {
            operation: "migrate",
            message: "this server cannot compare texts byte by byte; use MySQL from 8.0 on, or MariaDB from 10.6 on"
                .into(),
        })?;
    for migration in missing(&done(&mut conn).map_err(failed)?, MIGRATIONS)? {
        let sql = migration.sql.replace("{collation}", &collation);
        for step in steps(&sql) {
            conn.batch_execute(step).map_err(failed)?;
        }
        conn.run::<Record>(&[Value::Text(migration.version), Value::Text(migration.name)]).map_err(failed)?;
    }
    Ok(())
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

/// The statements of a file, one by one.
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
}
