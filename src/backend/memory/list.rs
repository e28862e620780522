//! Reads records, histories, filtered lists and pages.

use super::rows::{ByState, Claim, Row};
use super::store::Store;
use crate::backend::{Cursor, Execution, ExecutionEnd, TaskFilter, TaskOrder, TaskPage};
use crate::json::shown;
use crate::task::{ExecutionStatus, TaskId, TaskRecord, TaskState};

impl Store {
    pub(super) fn get(&self, task_id: TaskId) -> Option<TaskRecord> {
        let (seq, row) = self.find(task_id)?;
        Some(self.record(seq, row))
    }

    pub(super) fn executions(&self, task_id: TaskId) -> Vec<Execution> {
        let Some((_, row)) = self.find(task_id) else { return Vec::new() };
        let earlier = row.rare.as_deref().map_or(&[][..], |rare| &rare.earlier);
        let mut runs: Vec<Execution> = earlier.iter().map(|(claim, end)| ended(task_id, claim, end)).collect();
        match (&row.claim, &row.end) {
            (Some(claim), Some(end)) => runs.push(ended(task_id, claim, end)),
            (Some(claim), None) if row.state == TaskState::Running => runs.push(under_way(row, claim)),
            _ => {}
        }
        runs
    }

    pub(super) fn list(
        &self,
        filter: &TaskFilter,
        order: TaskOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> TaskPage {
        let wanted = wanted_states(filter);
        match (order, after) {
            (TaskOrder::NewestFirst, after) => {
                let before = after.map_or(i64::MAX, Cursor::seq);
                self.page(self.rows.descending(before, wanted), filter, limit)
            }
            (TaskOrder::OldestFirst, after) => {
                self.page(self.rows.ascending(after.map_or(0, Cursor::seq), wanted), filter, limit)
            }
        }
    }

    fn page<'a>(&self, rows: impl Iterator<Item = (i64, &'a Row)>, filter: &TaskFilter, limit: usize) -> TaskPage {
        let mut matching = rows.filter(|(_, row)| matches(filter, row));
        let mut tasks: Vec<TaskRecord> = Vec::new();
        while tasks.len() < limit {
            let Some((seq, row)) = matching.next() else { return TaskPage { tasks, next: None } };
            tasks.push(self.record(seq, row));
        }
        let next = tasks.last().map(|task| Cursor::after(task.seq)).filter(|_| matching.next().is_some());
        TaskPage { tasks, next }
    }

    fn record(&self, seq: i64, row: &Row) -> TaskRecord {
        let (spec, extras, rare) = (&row.spec, row.spec.extras(), row.rare.as_deref());
        let result = row.ends().find_map(|end| end.result.as_deref());
        let unique = extras.unique.as_ref().filter(|unique| self.has_key(seq, unique));
        TaskRecord {
            seq,
            task_id: spec.task_id,
            kind: spec.kind.clone(),
            queue: spec.queue.clone(),
            params: spec.params.clone().into(),
            state: row.state,
            priority: spec.priority,
            run_at: row.run_at,
            attempt: row.attempt,
            max_attempts: spec.max_attempts,
            crash_count: row.crash_count,
            timeout: spec.timeout,
            retry: spec.retry,
            unique_key: unique.map(|unique| unique.key.clone()),
            limit_key: extras.limit_key.clone(),
            parent_id: rare.and_then(|rare| rare.parent).map(|(_, parent)| parent),
            firing: extras.firing,
            tags: extras.tags.clone(),
            meta: extras.meta.clone(),
            progress: rare.and_then(|rare| rare.progress.clone()),
            result: result.map(shown),
            last_error: last_error(row).map(str::to_owned),
            node: row.holder(),
            cancel_requested: row.cancel_requested(),
            expires_at: extras.expires_at,
            created_at: spec.created_at,
            updated_at: row.updated_at,
            started_at: row.claim.map(|claim| claim.started_at),
            finished_at: row.state.is_terminal().then_some(row.updated_at),
        }
    }
}

fn last_error(row: &Row) -> Option<&str> {
    let reason = row.rare.as_ref().and_then(|rare| rare.reason.as_deref());
    reason.or_else(|| row.ends().find_map(|end| end.error.as_deref()))
}

fn ended(task_id: TaskId, claim: &Claim, end: &ExecutionEnd) -> Execution {
    Execution {
        execution_id: claim.token.as_i64(),
        task_id,
        attempt: end.attempt,
        status: end.status,
        node: claim.node,
        started_at: end.started_at,
        finished_at: Some(end.finished_at),
        result: end.result.as_deref().map(shown),
        error_message: end.error.as_deref().map(str::to_owned),
    }
}

fn under_way(row: &Row, claim: &Claim) -> Execution {
    Execution {
        execution_id: claim.token.as_i64(),
        task_id: row.spec.task_id,
        attempt: row.attempt.saturating_add(1),
        status: ExecutionStatus::Running,
        node: claim.node,
        started_at: claim.started_at,
        finished_at: None,
        result: None,
        error_message: None,
    }
}

/// The states that a filter accepts.
pub(super) fn wanted_states(filter: &TaskFilter) -> ByState<bool> {
    let mut wanted = [filter.states.is_empty(); _];
    for state in &filter.states {
        wanted[*state as usize] = true;
    }
    wanted
}

pub(super) fn matches(filter: &TaskFilter, row: &Row) -> bool {
    let spec = &row.spec;
    let among = |names: &[String], name: &str| names.is_empty() || names.iter().any(|other| other == name);
    (filter.states.is_empty() || filter.states.contains(&row.state))
        && among(&filter.queues, &spec.queue)
        && among(&filter.types, &spec.kind)
        && filter.tag.as_ref().is_none_or(|tag| spec.extras().tags.contains(tag))
        && filter.created_from.is_none_or(|from| spec.created_at >= from)
        && filter.created_until.is_none_or(|until| spec.created_at < until)
        && filter.text.as_ref().is_none_or(|text| {
            contains(&spec.params, text) || last_error(row).is_some_and(|error| contains(error, text))
        })
}

/// Whether `text` contains `part`; the case of ASCII letters is ignored.
fn contains(text: &str, part: &str) -> bool {
    part.is_empty() || text.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}
