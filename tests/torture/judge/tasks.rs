//! Checks that each acknowledged push is stored, that storage holds no further tasks, and that each task has a single
//! end.

use callboard::{Execution, ExecutionStatus, TaskRecord, TaskState};

use super::Evidence;
use crate::nodes::note::Edit;

pub(super) fn faults(evidence: &Evidence) -> Vec<String> {
    let Evidence { ledger, tasks, .. } = evidence;
    let mut faults: Vec<String> = ledger.errors.iter().map(|error| format!("it reached the user: {error}")).collect();
    for push in &ledger.acknowledged {
        let lost = push.got.iter().filter(|id| !tasks.contains_key(id));
        faults.extend(lost.map(|id| format!("acknowledged and lost: {id}")));
        let others = push.ids.iter().zip(&push.got).filter(|(id, got)| id != got);
        let keyless = others.filter(|(id, _)| ledger.wanted[id].key.is_none());
        faults.extend(keyless.map(|(id, got)| format!("{id} has no key, and was answered with {got}")));
    }
    for id in tasks.keys().filter(|id| ledger.rolled_back.contains(id) || ledger.refused.contains(id)) {
        faults.push(format!("rolled back or refused, and stored: {id}"));
    }
    for group in &ledger.groups {
        let stored = group.iter().filter(|id| tasks.contains_key(id)).count();
        if stored > 0 && stored < group.len() {
            faults.push(format!("half a group: {stored} of {group:?}"));
        }
    }
    let ran = ledger.runs.iter().filter(|run| !tasks.contains_key(&run.id.task));
    faults.extend(ran.map(|run| format!("ran, and is not stored: {run:?}")));
    for (task, runs) in tasks.values() {
        let fault = at_its_end(task, runs).or_else(|| for_a_reason(task, runs, evidence));
        faults.extend(fault.map(|fault| format!("{fault}: {task:?}, runs {runs:?}")));
    }
    faults
}

fn at_its_end(task: &TaskRecord, runs: &[Execution]) -> Option<&'static str> {
    if !task.state.is_terminal() {
        return Some("not at its end");
    }
    if task.finished_at.is_none() || task.node.is_some() {
        return Some("half ended");
    }
    runs.iter().any(|run| run.status == ExecutionStatus::Running).then_some("a run without an end")
}

fn for_a_reason(task: &TaskRecord, runs: &[Execution], evidence: &Evidence) -> Option<&'static str> {
    let ledger = &evidence.ledger;
    let wanted = ledger.wanted.get(&task.task_id);
    // A task made by a schedule was not pushed.
    if wanted.is_none() && task.firing.is_none() {
        return Some("invented");
    }
    let tagged = wanted.is_some_and(|wanted| wanted.tagged);
    let edited = |edit: Edit| {
        let all = if tagged { ledger.edited_all.get(&edit).copied().unwrap_or(0) } else { 0 };
        ledger.edited.get(&(edit, task.task_id)).copied().unwrap_or(0) + all
    };
    let count = |status| runs.iter().filter(|run| run.status == status).count() as u64;
    if count(ExecutionStatus::Success) > 1 + edited(Edit::Retry) {
        return Some("accepted twice");
    }
    match task.state {
        TaskState::Completed if count(ExecutionStatus::Success) == 0 => Some("completed without a run"),
        // The policy of its schedule may cancel a task.
        TaskState::Cancelled if edited(Edit::Cancel) == 0 && task.firing.is_none() => Some("cancelled by nobody"),
        TaskState::Dead => {
            let error = task.last_error.as_deref().unwrap_or_default();
            let by_crashes = error.starts_with("crash loop") && count(ExecutionStatus::Lost) >= 3;
            let used_up = error == "not yet" && count(ExecutionStatus::Failed) >= u64::from(task.max_attempts);
            (!by_crashes && !used_up && error != "never again").then_some("dead for no reason")
        }
        _ => None,
    }
}
