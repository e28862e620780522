//! Checks the rules of unique keys.

use std::collections::HashMap;
use std::time::Duration;

use callboard::TaskId;

use super::runs::{Interval, side_by_side};
use super::{Evidence, micros};
use crate::nodes::tasks::PERIOD;

/// Tolerance for periods, because each node counts by its own clock. That clock is slightly wrong until the node has
/// read the database's time.
const OFF: Duration = Duration::from_millis(500);

pub(super) fn faults(evidence: &Evidence, intervals: &[Interval]) -> Vec<String> {
    let ledger = &evidence.ledger;
    let key = |task: &TaskId| ledger.wanted.get(task).and_then(|wanted| wanted.key.as_deref());
    let mut by_key: HashMap<&str, Vec<Interval>> = HashMap::new();
    for interval in intervals {
        if let Some(key) = key(&interval.task) {
            by_key.entry(key).or_default().push(*interval);
        }
    }
    let mut faults = Vec::new();
    for (key, intervals) in &by_key {
        if key.starts_with("mixed") || key.starts_with("latest") {
            let found = side_by_side(intervals, 1);
            faults.extend(found.into_iter().map(|fault| format!("two with the key {key}: {fault}")));
        }
    }
    faults.extend(latest_that_never_ran(evidence, &by_key));
    faults.extend(within_a_period(evidence, intervals));
    faults
}

/// After each push with `keep_latest`, a task with its key must start a run. This finds pushes without such a run.
fn latest_that_never_ran(evidence: &Evidence, by_key: &HashMap<&str, Vec<Interval>>) -> Vec<String> {
    let ledger = &evidence.ledger;
    let none = Vec::new();
    let mut faults = Vec::new();
    for push in &ledger.acknowledged {
        for id in &push.ids {
            let Some(key) = ledger.wanted[id].key.as_deref().filter(|key| key.starts_with("latest")) else {
                continue;
            };
            let runs = by_key.get(key).unwrap_or(&none);
            if !runs.iter().any(|run| run.begin >= push.asked) {
                faults.push(format!("the push {id} of {key} at {} was followed by no run", push.asked));
            }
        }
    }
    faults
}

/// Two tasks with the same period key must be at least the period apart. A push may wait for storage until the period
/// is over. So the time of the second task is when it was certainly stored: when its push was answered or its run
/// began.
fn within_a_period(evidence: &Evidence, intervals: &[Interval]) -> Vec<String> {
    let told = evidence.ledger.acknowledged.iter().flat_map(|push| push.ids.iter().map(|id| (*id, push.told)));
    let begun = intervals.iter().map(|run| (run.task, run.begin));
    let mut stored_by: HashMap<TaskId, i64> = HashMap::new();
    for (id, at) in told.chain(begun) {
        stored_by.entry(id).and_modify(|known| *known = at.min(*known)).or_insert(at);
    }
    let mut pushed: HashMap<&str, Vec<(i64, TaskId)>> = HashMap::new();
    for (id, wanted) in &evidence.ledger.wanted {
        let key = wanted.key.as_deref().filter(|key| key.starts_with("period"));
        if let (Some(key), Some((task, _))) = (key, evidence.tasks.get(id)) {
            pushed.entry(key).or_default().push((task.created_at.as_micros(), *id));
        }
    }
    let mut faults = Vec::new();
    for (key, pushed) in &mut pushed {
        pushed.sort_unstable();
        let apart = |pair: &[(i64, TaskId)]| stored_by.get(&pair[1].1).map(|stored| stored - pair[0].0);
        let near = pushed.windows(2).filter(|pair| apart(pair).is_some_and(|apart| apart < micros(PERIOD - OFF)));
        faults.extend(near.map(|pair| format!("two of {key} within a period: {pair:?}")));
    }
    faults
}
