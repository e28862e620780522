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

/// The tasks that match.
pub(super) fn matching(filter: &TaskFilter) -> Tasks<'_> {
    let mut tasks = in_states(task_queue::table.into_boxed(), &filter.states);
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
    /// By the index of the state, then sorted: for states that few tasks are in, however many others there are.
    ByState,
}

/// The page that begins after `after`, in push order or against it.
pub(super) fn page<'a>(
    tasks: Tasks<'a>,
    path: Path,
    newest_first: bool,
    after: Option<i64>,
    limit: i64,
) -> Tasks<'a> {
    // The sign keeps SQLite from using the order of the table.
    let seq = || sql::<BigInt>(if path == Path::ByState { "+seq" } else { "seq" });
    let tasks = match (after, newest_first) {
        (Some(after), true) => tasks.filter(seq().lt(after)),
        (Some(after), false) => tasks.filter(seq().gt(after)),
        (None, _) => tasks,
    };
    let tasks = if newest_first { tasks.order(seq().desc()) } else { tasks.order(seq().asc()) };
    tasks.limit(limit)
}

/// As many tasks in a state are few.
const FEW: i64 = 10_000;

/// Chooses the way: counts the tasks in the filter's state, as far as they are few.
pub(super) fn path(conn: &mut SqliteConnection, filter: &TaskFilter) -> QueryResult<Path> {
    if filter.states.len() != 1 {
        return Ok(Path::InOrder);
    }
    let counted = in_states(task_queue::table.into_boxed(), &filter.states).select(dsl::seq).limit(FEW);
    let counted = counted.load::<i64>(conn)?.len();
    Ok(if i64::try_from(counted).is_ok_and(|tasks| tasks < FEW) { Path::ByState } else { Path::InOrder })
}

/// One state is written into the text, so that the database knows which of its partial indexes will do.
fn in_states<'a>(tasks: Tasks<'a>, states: &[TaskState]) -> Tasks<'a> {
    match states {
        [] => tasks,
        [state] => tasks.filter(sql::<Bool>(literal(*state))),
        _ => tasks.filter(dsl::state.eq_any(states.iter().map(|state| state.as_str()).collect::<Vec<_>>())),
    }
}

const fn literal(state: TaskState) -> &'static str {
    match state {
        TaskState::Waiting => "state = 'waiting'",
        TaskState::Scheduled => "state = 'scheduled' AND state IN ('scheduled', 'retrying')",
        TaskState::Pending => "state = 'pending'",
        TaskState::Running => "state = 'running'",
        TaskState::Retrying => "state = 'retrying' AND state IN ('scheduled', 'retrying')",
        TaskState::Completed => "state = 'completed' AND finished_at IS NOT NULL",
        TaskState::Dead => "state = 'dead' AND finished_at IS NOT NULL",
        TaskState::Cancelled => "state = 'cancelled' AND finished_at IS NOT NULL",
    }
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
