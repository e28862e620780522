//! Queries and changes that a test makes directly in the database file.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

fn connect(path: &Path) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute("PRAGMA busy_timeout = 10000").unwrap();
    conn
}

/// Changes the file without the library.
pub(crate) fn execute(path: &Path, sql: &str) {
    connect(path).batch_execute(sql).unwrap();
}

/// Holds SQLite's write lock until it is dropped, like a program that forgot its transaction. Meanwhile no other
/// connection can write.
pub(crate) struct Locked(SqliteConnection);

impl Locked {
    pub(crate) fn new(path: &Path) -> Self {
        let mut conn = connect(path);
        conn.batch_execute("BEGIN IMMEDIATE").unwrap();
        Self(conn)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.batch_execute("ROLLBACK").unwrap();
    }
}

/// The result of SQLite's own integrity check: `ok` when the file is sound.
pub(crate) fn integrity(path: &Path) -> String {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        integrity_check: String,
    }
    let rows: Vec<Row> = diesel::sql_query("PRAGMA integrity_check").load(&mut connect(path)).unwrap();
    rows.into_iter().map(|row| row.integrity_check).collect::<Vec<_>>().join("; ")
}

/// The migrations recorded in the file, in order.
pub(crate) fn migrations(path: &Path) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let rows: Vec<Row> = diesel::sql_query("SELECT version FROM callboard_migration ORDER BY version")
        .load(&mut connect(path))
        .unwrap();
    rows.into_iter().map(|row| row.version).collect()
}
