//! A [`TaskFilter`] as a condition of a query.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel::sqlite::Sqlite;

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

/// One state is written into the text, so that the database knows which of its partial indexes will do.
fn in_states<'a>(tasks: Tasks<'a>, states: &[TaskState]) -> Tasks<'a> {
    let known = || TaskState::ALL.iter().map(|state| state.as_str());
    let unknown = dsl::state.ne_all(known().collect::<Vec<_>>());
    match states {
        [] => tasks,
        [TaskState::Dead] => tasks.filter(sql::<Bool>("state = 'dead'").or(unknown)),
        [state] => tasks.filter(sql::<Bool>(literal(*state))),
        _ => {
            let named = dsl::state.eq_any(states.iter().map(|state| state.as_str()).collect::<Vec<_>>());
            // What is shown as dead is found as dead.
            if states.contains(&TaskState::Dead) { tasks.filter(named.or(unknown)) } else { tasks.filter(named) }
        }
    }
}

const fn literal(state: TaskState) -> &'static str {
    match state {
        TaskState::Waiting => "state = 'waiting'",
        TaskState::Scheduled => "state = 'scheduled' AND state IN ('scheduled', 'retrying')",
        TaskState::Pending => "state = 'pending'",
        TaskState::Running => "state = 'running'",
        TaskState::Retrying => "state = 'retrying' AND state IN ('scheduled', 'retrying')",
        TaskState::Completed => "state = 'completed'",
        TaskState::Dead => "state = 'dead'",
        TaskState::Cancelled => "state = 'cancelled'",
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
