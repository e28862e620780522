//! Rejects statements that lock rows by a condition on other tables. Any test fails in which a database uses such a
//! statement.
//!
//! If a row changed between snapshot and lock, PostgreSQL checks its condition again, but without the other tables:
//! `NOT EXISTS` is then always true. MySQL locks the newest version of a row, but reads other tables from an older
//! snapshot. So the condition of a lock may use only columns of the locked row. All other facts are read before the
//! lock, or checked again after it.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use super::dialect::Dialect;

/// Statements that are allowed nevertheless, each with a part of its text and the reason.
const ALLOWED: [(&str, &str); 5] = [
    (
        "UPDATE task_queue AS t SET state = CASE WHEN r.run_at IS NOT NULL",
        "the other side is values that came with it",
    ),
    (
        "WITH due AS ( SELECT seq FROM task_queue WHERE state IN",
        "its first part locks the rows by what stands in them",
    ),
    (
        "last_error = (SELECT e.error_message FROM task_execution",
        "a value and no condition, and the row is locked already",
    ),
    (
        "AND seq = (SELECT seq FROM task_queue WHERE unique_key = ?) FOR UPDATE",
        "the key stands in the locked row as well",
    ),
    ("DELETE FROM schedule_firing WHERE schedule_id =", "only who has locked the schedule writes these rows"),
];

/// True for a statement that locks rows and also reads other rows.
fn locks_by_others(sql: &str) -> bool {
    let locks = ["FOR UPDATE", "FOR SHARE"].iter().any(|lock| sql.contains(lock));
    let writes = ["UPDATE ", "DELETE FROM "];
    let writes = writes.iter().any(|write| sql.starts_with(write) || sql.contains(&format!("( {write}")))
        || (sql.starts_with("WITH ") && writes.iter().any(|write| sql.contains(write)));
    let selects = sql.matches("SELECT ").count();
    let others = selects > usize::from(sql.starts_with("SELECT")) || sql.contains(" JOIN ") || sql.contains("EXISTS");
    (locks || writes) && others
}

/// # Panics
/// If a statement locks rows by a condition on other tables and is not in [`ALLOWED`]. SQLite is exempt, because its
/// single writer locks the whole file.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) fn check(dialect: Dialect, sql: &str) {
    #[cfg(feature = "sqlite")]
    if dialect == Dialect::Sqlite {
        return;
    }
    let words: Vec<&str> = sql.split_whitespace().collect();
    let text = words.join(" ");
    let allowed = ALLOWED.iter().any(|(part, _)| text.contains(part));
    assert!(
        allowed || !locks_by_others(&text),
        "this locks rows by a condition that no lock holds still: {text} ({dialect:?})"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lock_may_look_at_is_told_apart() {
        for fine in [
            "SELECT seq FROM task_queue WHERE state = 'running' AND node = $1 ORDER BY seq FOR UPDATE SKIP LOCKED",
            "SELECT seq FROM task_queue AS t WHERE NOT EXISTS (SELECT 1 FROM node)",
            "UPDATE task_queue SET state = 'pending' WHERE seq = ?",
            "DELETE FROM node WHERE node_id = ? AND lease_until < ?",
            "INSERT INTO schedule_run SELECT schedule_id FROM task_queue WHERE seq IN (?)
                ON DUPLICATE KEY UPDATE status = status",
        ] {
            assert!(!locks_by_others(fine), "{fine}");
        }
        for bad in [
            "SELECT seq FROM task_queue AS t WHERE NOT EXISTS (SELECT 1 FROM node) FOR UPDATE SKIP LOCKED",
            "SELECT t.seq FROM task_queue AS t JOIN node AS n ON n.node_id = t.node FOR UPDATE",
            "UPDATE task_queue SET state = 'pending' WHERE seq IN (SELECT seq FROM task_queue)",
            "DELETE FROM node WHERE NOT EXISTS (SELECT 1 FROM task_queue)",
            "WITH due AS (SELECT seq FROM task_queue) UPDATE task_queue SET state = 'x' WHERE seq IN (SELECT seq FROM due)",
        ] {
            assert!(locks_by_others(bad), "{bad}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    #[should_panic(expected = "no lock holds still")]
    fn a_statement_without_a_reason_is_refused() {
        let sql = "DELETE FROM node WHERE NOT EXISTS (SELECT 1 FROM task_queue WHERE node = node_id)";
        super::super::dialect::Text::new(Dialect::Postgres, sql);
    }
}
