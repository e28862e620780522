//! How a test fails, and how its message shows tasks.

use std::fmt::Write as _;

use crate::task::TaskRecord;

/// Largest number of tasks that a failure message lists.
const MOST_SHOWN: usize = 10;

pub(super) fn shown(task: &TaskRecord) -> String {
    let mut text = format!(
        "{} {} {} (queue {}, attempt {} of {}, run at {}, params {})",
        task.state, task.kind, task.task_id, task.queue, task.attempt, task.max_attempts, task.run_at, task.params
    );
    if let Some(error) = &task.last_error {
        // Writing to a string does not fail.
        write!(text, ", last error: {error}").ok();
    }
    text
}

pub(super) fn shown_all(tasks: &[TaskRecord]) -> String {
    let mut text = tasks.iter().take(MOST_SHOWN).map(shown).collect::<Vec<_>>().join("; ");
    if tasks.is_empty() {
        text.push_str("none");
    }
    if tasks.len() > MOST_SHOWN {
        // Writing to a string does not fail.
        write!(text, "; and {} more", tasks.len() - MOST_SHOWN).ok();
    }
    text
}

/// Fails the test.
#[track_caller]
pub(super) fn failed(message: &str) -> ! {
    panic!("{message}")
}
