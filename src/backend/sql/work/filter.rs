//! Turns a [`TaskFilter`] into a condition of a query.

use std::fmt::Write;

use diesel::QueryResult;
#[cfg(feature = "sqlite")]
use diesel::sql_types::BigInt;

use crate::backend::sql::conn::{Conn, ReadsOnce};
use crate::backend::sql::dialect::Dialect;
use crate::backend::sql::statement::Value;
use crate::backend::{TaskFilter, TaskOrder};
use crate::task::TaskState;

/// From this number of tasks, a state counts as having many.
#[cfg(feature = "sqlite")]
const MANY: i64 = 10_000;

/// A query for the tasks that match a filter: its conditions and their values.
pub(super) struct Query {
    conditions: Vec<String>,
    values: Vec<Bound>,
}

/// A section of the table.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// In push order or in reverse.
    pub(super) order: TaskOrder,
    /// It begins after this `seq`.
    pub(super) after: Option<i64>,
    /// The highest `seq` in it.
    pub(super) last: Option<i64>,
    /// The most tasks to return.
    pub(super) limit: i64,
}

enum Bound {
    Int(i64),
    Text(String),
}

impl Query {
    pub(super) fn new<C: Conn>(conn: &mut C, filter: &TaskFilter) -> QueryResult<Self> {
        let mut query = Self { conditions: Vec::new(), values: Vec::new() };
        if !filter.states.is_empty() {
            let states = in_states(conn, &filter.states)?;
            query.conditions.push(states);
        }
        query.any_of("queue", &filter.queues);
        query.any_of("type", &filter.types);
        if let Some(tag) = &filter.tag {
            query.has_tag(C::DIALECT, tag);
        }
        if let Some(from) = filter.created_from {
            let place = query.bind(Bound::Int(from.as_micros()));
            query.conditions.push(format!("created_at >= {place}"));
        }
        if let Some(until) = filter.created_until {
            let place = query.bind(Bound::Int(until.as_micros()));
            query.conditions.push(format!("created_at < {place}"));
        }
        if let Some(text) = &filter.text {
            query.has_text(C::DIALECT, text);
        }
        Ok(query)
    }

    /// The tasks of a section. `T` are the SQL types of the columns.
    pub(super) fn page<C: Conn, T: 'static, R: ReadsOnce<T>>(
        &self,
        conn: &mut C,
        columns: &str,
        stretch: Stretch,
        lock: &str,
    ) -> QueryResult<Vec<R>> {
        let Stretch { order, after, last, limit } = stretch;
        let (beyond, direction) = match order {
            TaskOrder::NewestFirst => ("<", "DESC"),
            TaskOrder::OldestFirst => (">", "ASC"),
        };
        let mut conditions = self.conditions.clone();
        // The program made these numbers itself, so they are safe in the SQL text.
        conditions.extend(after.map(|after| format!("seq {beyond} {after}")));
        conditions.extend(last.map(|last| format!("seq <= {last}")));
        let mut sql = format!("SELECT {columns} FROM task_queue");
        for (place, condition) in conditions.iter().enumerate() {
            let word = if place == 0 { "WHERE" } else { "AND" };
            write!(sql, " {word} {condition}").expect("writing to a string does not fail");
        }
        write!(sql, " ORDER BY seq {direction} LIMIT {limit} {lock}").expect("writing to a string does not fail");
        let values: Vec<Value<'_>> = self
            .values
            .iter()
            .map(|value| match value {
                Bound::Int(int) => Value::Int(*int),
                Bound::Text(text) => Value::Text(text),
            })
            .collect();
        conn.load_once::<T, R>(&sql, &values)
    }

    /// Adds a value and returns its placeholder.
    fn bind(&mut self, value: Bound) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    fn any_of(&mut self, column: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        let places: Vec<String> = values.iter().map(|value| self.bind(Bound::Text(value.clone()))).collect();
        self.conditions.push(format!("{column} IN ({})", places.join(", ")));
    }

    /// A tags column that is no valid JSON has no tags. It is no error.
    fn has_tag(&mut self, dialect: Dialect, tag: &str) {
        let condition = match dialect {
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite => {
                let place = self.bind(Bound::Text(tag.into()));
                format!("EXISTS (SELECT 1 FROM json_each(iif(json_valid(tags), tags, '[]')) WHERE value = {place})")
            }
            // Uses a pattern: a cast would fail the whole list because of a single row that was filled by hand.
            #[cfg(feature = "postgres")]
            Dialect::Postgres => {
                let place = self.bind(Bound::Text(tag_pattern(tag)));
                format!(r#"tags COLLATE "C" ~ {place}"#)
            }
            #[cfg(feature = "mysql")]
            Dialect::Mysql => {
                let place = self.bind(Bound::Text(serde_json::json!(tag).to_string()));
                format!("CASE WHEN JSON_VALID(tags) THEN JSON_CONTAINS(tags, {place}) ELSE 0 END = 1")
            }
        };
        self.conditions.push(condition);
    }

    fn has_text(&mut self, dialect: Dialect, text: &str) {
        let place = self.bind(Bound::Text(like_pattern(text)));
        self.conditions.push(any_like(dialect, ["params", "last_error"], &place));
    }
}

/// The condition that a [`like_pattern`] matches in any of `columns`. Case is ignored for ASCII letters, and only for
/// them.
pub(super) fn any_like(dialect: Dialect, columns: [&str; 2], place: &str) -> String {
    let like = |column: &str| match dialect {
        #[cfg(feature = "sqlite")]
        Dialect::Sqlite => format!("{column} LIKE {place} ESCAPE '!'"),
        #[cfg(feature = "postgres")]
        Dialect::Postgres => {
            format!(r#"lower({column} COLLATE "C") LIKE lower({place} COLLATE "C") ESCAPE '!'"#)
        }
        // Reads the text in an alphabet in which only the bytes of ASCII letters have upper and lower case.
        #[cfg(feature = "mysql")]
        Dialect::Mysql => {
            let lower =
                |text: &str| format!("lower(convert(cast({text} AS BINARY) USING hebrew)) COLLATE hebrew_bin");
            format!("{} LIKE {} ESCAPE '!'", lower(column), lower(place))
        }
    };
    format!("({})", columns.map(like).join(" OR "))
}

/// A PostgreSQL pattern that matches a JSON array of texts which has `tag` as an element, and no other text. From the
/// start of the array it steps over whole texts, so that a tag-like part inside a longer text does not match.
#[cfg(feature = "postgres")]
fn tag_pattern(tag: &str) -> String {
    let mut pattern = String::from(r#"^\s*\[\s*(?:"(?:[^"\\]|\\.)*"\s*,\s*)*"#);
    for letter in serde_json::json!(tag).to_string().chars() {
        // A backslash before a letter or digit would have a different meaning.
        if letter.is_ascii() && !letter.is_ascii_alphanumeric() {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push_str(r"\s*[],]");
    pattern
}

/// The condition for tasks in any of `states`.
#[cfg_attr(not(feature = "sqlite"), allow(unused_variables, reason = "only SQLite has to be told the way"))]
fn in_states<C: Conn>(conn: &mut C, states: &[TaskState]) -> QueryResult<String> {
    let names: Vec<String> = states.iter().map(|state| format!("'{state}'")).collect();
    let names = names.join(", ");
    match C::DIALECT {
        #[cfg(feature = "sqlite")]
        Dialect::Sqlite => {
            for state in states {
                let counted = format!("SELECT count(*) FROM ({} LIMIT {MANY})", seqs_in(*state));
                let tasks: Vec<(i64,)> = conn.load_once::<(BigInt,), _>(&counted, &[])?;
                if tasks.iter().any(|(tasks,)| *tasks >= MANY) {
                    // For states with many tasks: scan the table in push order until the page is full. The `+` keeps
                    // SQLite from using an index that is not in push order, and from sorting all rows found there.
                    return Ok(format!("+state IN ({names})"));
                }
            }
            // For states with few tasks: use the indexes of these states, however many tasks other states have.
            let parts: Vec<String> = states.iter().map(|state| seqs_in(*state)).collect();
            Ok(format!("seq IN ({})", parts.join(" UNION ALL ")))
        }
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        _ => Ok(format!("state IN ({names})")),
    }
}

/// The `seq` of the tasks in a state, from the partial index that covers them. The state is in the SQL text, not in a
/// bound value, so that the database sees which index applies.
#[cfg(feature = "sqlite")]
fn seqs_in(state: TaskState) -> String {
    let (index, more) = match state {
        TaskState::Waiting => ("task_queue_waiting", ""),
        TaskState::Pending => ("task_queue_pending", ""),
        TaskState::Running => ("task_queue_running", ""),
        TaskState::Scheduled | TaskState::Retrying => ("task_queue_due", " AND state IN ('scheduled', 'retrying')"),
        TaskState::Completed | TaskState::Dead | TaskState::Cancelled => {
            ("task_queue_finished", " AND finished_at IS NOT NULL")
        }
    };
    format!("SELECT seq FROM task_queue INDEXED BY {index} WHERE state = '{state}'{more}")
}

/// A pattern that matches `text` literally. The escape is not the backslash, because MySQL treats that as its own
/// escape in texts.
pub(super) fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_wild_cards_literally() {
        assert_eq!(like_pattern("50%_!"), "%50!%!_!!%");
    }
}
