//! A [`TaskFilter`] as a condition of a query.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::sqlite::{Sqlite, SqliteConnection};

use super::schema::task_queue::{self, dsl};
use crate::backend::TaskFilter;
use crate::task::TaskState;

/// A query on `task_queue` to which conditions are added.
pub(super) type Tasks<'a> = task_queue::BoxedQuery<'a, Sqlite>;

/// The tasks that match, looked for on `path`.
pub(super) fn matching(filter: &TaskFilter, path: Path) -> Tasks<'_> {
    let mut tasks = in_states(task_queue::table.into_boxed(), &filter.states, path);
    if !filter.queues.is_empty() {
        tasks = tasks.filter(dsl::queue.eq_any(&filter.queues));
    }
    if !filter.types.is_empty() {
        tasks = tasks.filter(dsl::kind.eq_any(&filter.types));
    }
    if let Some(tag) = &filter.tag {
        // Only SQLite's JSON functions are spelled like this. A tags column that is no JSON has no tag.
        tasks = tasks.filter(
            sql::<Bool>("EXISTS (SELECT 1 FROM json_each(iif(json_valid(tags), tags, '[]')) WHERE value = ")
                .bind::<Text, _>(tag)
                .sql(")"),
        );
    }
    if let Some(from) = filter.created_from {
        tasks = tasks.filter(dsl::created_at.ge(from.as_micros()));
    }
    if let Some(until) = filter.created_until {
        tasks = tasks.filter(dsl::created_at.lt(until.as_micros()));
    }
    if let Some(text) = &filter.text {
        let pattern = like_pattern(text);
        let in_error =
            dsl::last_error.is_not_null().and(dsl::last_error.assume_not_null().like(pattern.clone()).escape('\\'));
        tasks = tasks.filter(dsl::params.like(pattern).escape('\\').or(in_error));
    }
    tasks
}

/// The way to the tasks that match, a page at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Through the table in push order, until the page is full: for states that many tasks are in.
    InOrder,
    /// By the indexes of the states: for states that few tasks are in, however many others there are.
    ByState,
}

/// The page that begins after `after`, in push order or against it.
pub(super) fn page(tasks: Tasks<'_>, newest_first: bool, after: Option<i64>, limit: i64) -> Tasks<'_> {
    let tasks = match (after, newest_first) {
        (Some(after), true) => tasks.filter(dsl::seq.lt(after)),
        (Some(after), false) => tasks.filter(dsl::seq.gt(after)),
        (None, _) => tasks,
    };
    let tasks = if newest_first { tasks.order(dsl::seq.desc()) } else { tasks.order(dsl::seq.asc()) };
    tasks.limit(limit)
}

/// So many tasks in a state are many.
const MANY: i64 = 10_000;

/// Chooses the way: counts the tasks in the filter's states, as far as they are few.
pub(super) fn path(conn: &mut SqliteConnection, filter: &TaskFilter) -> QueryResult<Path> {
    if filter.states.is_empty() {
        return Ok(Path::InOrder);
    }
    for state in &filter.states {
        let counted = format!("SELECT count(*) AS tasks FROM ({} LIMIT {MANY})", seqs_in(*state));
        if diesel::sql_query(counted).get_result::<Counted>(conn)?.tasks >= MANY {
            return Ok(Path::InOrder);
        }
    }
    Ok(Path::ByState)
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    tasks: i64,
}

fn in_states<'a>(tasks: Tasks<'a>, states: &[TaskState], path: Path) -> Tasks<'a> {
    if states.is_empty() {
        return tasks;
    }
    tasks.filter(sql::<Bool>(&match path {
        Path::ByState => {
            let parts: Vec<String> = states.iter().map(|state| seqs_in(*state)).collect();
            format!("seq IN ({})", parts.join(" UNION ALL "))
        }
        Path::InOrder => {
            let names: Vec<String> = states.iter().map(|state| format!("'{state}'")).collect();
            // The sign keeps SQLite from an index that is not in push order, and from sorting all it finds there.
            format!("+state IN ({})", names.join(", "))
        }
    }))
}

/// The places of the tasks in a state, by the partial index that has them. The words stand in the text, not in
/// bound values, so that the database sees which index will do.
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

/// A pattern that finds `text` as it stands.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
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
        assert_eq!(like_pattern(r"50%_\"), r"%50\%\_\\%");
    }
}
