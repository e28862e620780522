//! Pushes and completions in a transaction of the application.

use std::sync::Arc;

use super::Pushed;
use super::push::checked;
use super::push_result::{answer, of_group};
use crate::backend::sql::AppConnection;
use crate::backend::{Commit, InsertGroup, Insertion, Settled, Settlement};
use crate::error::{CompleteError, PushError};
use crate::runtime::core::Core;
use crate::task::{IntoNewTask, TaskSpec, TaskState};

/// Stores tasks for later. A task that is claimed at once could not be given back if the transaction does not commit.
pub(crate) fn push_in<C: AppConnection, T: IntoNewTask>(
    core: &Core,
    conn: &mut C,
    tasks: impl IntoIterator<Item = T>,
) -> Result<Vec<Pushed>, PushError> {
    let specs = tasks.into_iter().map(|task| checked(core, task)).collect::<Result<Vec<_>, _>>()?;
    if specs.is_empty() {
        return Ok(Vec::new());
    }
    let mut commit = Commit::new(core.node, core.clock.now());
    let insertion = |spec: Arc<TaskSpec>| {
        let state = if spec.run_at > commit.now { TaskState::Scheduled } else { TaskState::Pending };
        Insertion { spec, state, claim: false }
    };
    commit.insert = vec![InsertGroup { tasks: specs.into_iter().map(insertion).collect() }];
    let receipt = core.backend.commit_in(conn.plain(), &commit).map_err(PushError::Transaction)?;
    let tasks = commit.insert.iter().flat_map(|group| &group.tasks);
    of_group(tasks.zip(receipt.inserted).map(|(insertion, outcome)| answer(insertion, outcome)))
}

/// Writes the end of a run in the transaction.
pub(crate) fn complete_in<C: AppConnection>(
    core: &Core,
    conn: &mut C,
    settlement: Settlement,
) -> Result<(), CompleteError> {
    let task_id = settlement.task_id;
    let mut commit = Commit::new(core.node, core.clock.now());
    commit.settle = vec![settlement];
    let receipt = core.backend.commit_in(conn.plain(), &commit).map_err(CompleteError::Storage)?;
    if receipt.settled.contains(&Settled::Accepted) { Ok(()) } else { Err(CompleteError::Fenced(task_id)) }
}
