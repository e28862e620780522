//! Translates the portable SQL texts into the spelling of each database.
//!
//! A statement is written once, with SQLite's numbered placeholders. It is translated for the database when it is first
//! used. A statement that cannot be written portably has a separate text for each database.

use std::fmt::Write;

/// The database for which a statement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
    #[cfg(feature = "mysql")]
    Mysql,
}

impl Dialect {
    /// False for SQLite, whose single writer has locked everything: a read in its transaction skips no row.
    pub(super) fn skips_locked_rows(self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => false,
            #[cfg(feature = "postgres")]
            Self::Postgres => true,
            #[cfg(feature = "mysql")]
            Self::Mysql => true,
        }
    }
}

/// A statement in the spelling of a database.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) sql: String,
    /// For databases whose placeholders have no numbers: the index of the value that each placeholder takes.
    pub(super) order: Option<Vec<usize>>,
}

impl Text {
    /// Translates the portable text for a database.
    ///
    /// - `?1` stays in SQLite, and becomes `$1` in PostgreSQL and `?` in MySQL. MySQL binds a value once for each `?`
    ///   that uses it.
    /// - `INDEXED BY name` stays in SQLite only. The other databases have statistics, and choose the index themselves.
    /// - `{lock}` locks the selected rows. `{skip}` does too, and skips rows that a concurrent transaction has locked.
    ///   Both are empty in SQLite, which has a single writer that locks the whole file.
    /// - `INSERT OR IGNORE` skips rows whose key exists already.
    pub(super) fn new(dialect: Dialect, portable: &str) -> Self {
        let text = Self::spelled(dialect, portable);
        #[cfg(all(debug_assertions, feature = "testing", any(feature = "postgres", feature = "mysql")))]
        super::audit::check(dialect, &text.sql);
        text
    }

    fn spelled(dialect: Dialect, portable: &str) -> Self {
        match dialect {
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite => Self { sql: fill(portable, "", "") + " --", order: None },
            #[cfg(feature = "postgres")]
            Dialect::Postgres => {
                let sql = fill(&without_index(portable), "FOR UPDATE", "FOR UPDATE SKIP LOCKED");
                let sql = ignoring(sql, " ON CONFLICT DO NOTHING");
                let (sql, _) = numbered(&sql, |sql, number| write!(sql, "${number}"));
                Self { sql: sql + " --", order: None }
            }
            #[cfg(feature = "mysql")]
            Dialect::Mysql => {
                let sql = fill(&without_index(portable), "FOR UPDATE", "FOR UPDATE SKIP LOCKED");
                // Not INSERT IGNORE: it would also truncate values that are too long, and replace invalid values.
                let sql = ignoring(sql, " ON DUPLICATE KEY UPDATE status = status");
                let (sql, order) = numbered(&sql, |sql, _| write!(sql, "?"));
                // MySQL needs the space after `--`; without it, it parses the two characters as minus signs.
                Self { sql: sql + " -- ", order: Some(order) }
            }
        }
    }
}

fn fill(sql: &str, lock: &str, skip: &str) -> String {
    sql.replace("{lock}", lock).replace("{skip}", skip)
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn without_index(sql: &str) -> String {
    let mut parts = sql.split("INDEXED BY ");
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let name = part.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(part.len());
        text.push_str(&part[name..]);
    }
    text
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn ignoring(sql: String, end: &str) -> String {
    match sql.strip_prefix("INSERT OR IGNORE INTO") {
        Some(rest) => format!("INSERT INTO{rest}{end}"),
        None => sql,
    }
}

/// Rewrites each placeholder with `write`, and returns their numbers in text order, counted from 0.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn numbered(sql: &str, write: impl Fn(&mut String, usize) -> std::fmt::Result) -> (String, Vec<usize>) {
    let mut parts = sql.split('?');
    let mut text = parts.next().unwrap_or_default().to_string();
    let mut order = Vec::new();
    for part in parts {
        let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        let number: usize = part[..digits].parse().expect("a placeholder has a number");
        write(&mut text, number).expect("writing to a string does not fail");
        order.push(number - 1);
        text.push_str(&part[digits..]);
    }
    (text, order)
}

/// `?from,?from+1,...`: `count` placeholders.
pub(super) fn placeholders(from: usize, count: usize) -> String {
    let mut sql = String::with_capacity(count * 5);
    for place in 0..count {
        let comma = if place > 0 { "," } else { "" };
        write!(sql, "{comma}?{}", from + place).expect("writing to a string does not fail");
    }
    sql
}

#[cfg(all(test, feature = "postgres", feature = "mysql"))]
mod tests {
    use super::*;

    #[test]
    fn each_database_gets_its_own_spelling() {
        let portable = "SELECT a FROM t INDEXED BY t_a WHERE a = ?2 AND b > ?1 AND c < ?2 {skip}";
        let postgres = Text::new(Dialect::Postgres, portable);
        assert_eq!(postgres.sql, "SELECT a FROM t  WHERE a = $2 AND b > $1 AND c < $2 FOR UPDATE SKIP LOCKED --");
        let mysql = Text::new(Dialect::Mysql, portable);
        assert_eq!(mysql.sql, "SELECT a FROM t  WHERE a = ? AND b > ? AND c < ? FOR UPDATE SKIP LOCKED -- ");
        assert_eq!(mysql.order, Some(vec![1, 0, 1]));
    }

    #[test]
    fn rows_that_are_there_are_passed_by() {
        let portable = "INSERT OR IGNORE INTO task_execution VALUES (?1)";
        let text = |dialect| Text::new(dialect, portable).sql;
        assert_eq!(text(Dialect::Postgres), "INSERT INTO task_execution VALUES ($1) ON CONFLICT DO NOTHING --");
        assert!(text(Dialect::Mysql).ends_with("VALUES (?) ON DUPLICATE KEY UPDATE status = status -- "));
    }
}
