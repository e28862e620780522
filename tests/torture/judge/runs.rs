//! Checks when tasks ran, and which tasks ran at the same time.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use callboard::{ExecutionStatus, NodeId, TaskId};

use super::{Evidence, micros};
use crate::limits::RUNNING;
use crate::nodes::note::How;

/// Tolerance between clocks. A rescue carries the time of the database, a run that of the machine, and the two are read
/// at different moments.
const SLACK: Duration = Duration::from_millis(250);
/// The longest time after a fault for which a node may still lack the lease that it lost by the fault.
const AFTER: Duration = Duration::from_secs(8);

/// The span in which a run held its task, as far as the ledgers know. It lasts from the start of the run to its end, to
/// the death of its process, or to the rescue of the task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) task: TaskId,
    #[allow(dead_code, reason = "shown when it is wrong")]
    node: NodeId,
    pub(super) begin: i64,
    pub(super) end: i64,
}

pub(super) fn intervals(evidence: &Evidence) -> Vec<Interval> {
    let killed: HashMap<NodeId, i64> = evidence
        .windows
        .iter()
        .filter(|window| window.end > i64::MAX / 4)
        .filter_map(|window| Some((window.node?, window.begin)))
        .collect();
    let mut lost: HashMap<(TaskId, NodeId), Vec<i64>> = HashMap::new();
    for run in evidence.executions(ExecutionStatus::Lost) {
        let at = run.finished_at.map_or(i64::MAX, |at| at.as_micros());
        lost.entry((run.task_id, run.node)).or_default().push(at);
    }
    let interval = |run: &crate::ledger::Run| {
        let killed = killed.get(&run.node).copied().unwrap_or(i64::MAX);
        let mut end = run.end.map_or(killed, |(end, _)| end);
        if !evidence.accepted.contains_key(&(run.node, run.id)) {
            let rescues = lost.get(&(run.id.task, run.node)).map_or(&[][..], Vec::as_slice);
            let later = rescues.iter().filter(|at| **at >= run.begin - micros(SLACK)).min();
            // Without a later rescue the run began after the rescue, because its process was frozen in between. It never
            // had its claim.
            let lost_at = later.map_or(run.begin, |at| at - micros(SLACK));
            end = if rescues.is_empty() { end } else { end.min(lost_at) };
        }
        Interval { task: run.id.task, node: run.node, begin: run.begin, end: end.max(run.begin) }
    };
    evidence.ledger.runs.iter().map(interval).collect()
}

/// Finds moments at which more than `most` of these intervals overlap.
pub(super) fn side_by_side(intervals: &[Interval], most: usize) -> Vec<String> {
    let mut intervals = intervals.to_vec();
    intervals.sort_by_key(|interval| interval.begin);
    let mut running: Vec<Interval> = Vec::new();
    let mut faults = Vec::new();
    for interval in intervals {
        running.retain(|earlier| earlier.end > interval.begin);
        if running.len() >= most {
            faults.push(format!("{} run side by side, {most} may: {running:?} and {interval:?}", running.len() + 1));
        }
        running.push(interval);
    }
    faults
}

/// Checks three rules. No task has two runs at the same time. Every accepted run has begun. A task is rescued only from
/// a node in trouble.
pub(super) fn faults(evidence: &Evidence, intervals: &[Interval]) -> Vec<String> {
    let mut of_task: HashMap<TaskId, Vec<Interval>> = HashMap::new();
    for interval in intervals {
        of_task.entry(interval.task).or_default().push(*interval);
    }
    let mut faults: Vec<String> = of_task.values().flat_map(|intervals| side_by_side(intervals, 1)).collect();
    let begun: HashMap<_, _> = evidence.ledger.runs.iter().map(|run| ((run.node, run.id), run)).collect();
    for (run, status) in &evidence.accepted {
        // A task cancelled before its run has no run in a ledger.
        if *status != ExecutionStatus::Cancelled && !begun.contains_key(run) {
            faults.push(format!("accepted as {status}, and never begun: {run:?}"));
        }
    }
    let lost: HashSet<(TaskId, NodeId)> =
        evidence.executions(ExecutionStatus::Lost).map(|run| (run.task_id, run.node)).collect();
    for (run, known) in &begun {
        // A run that was dropped, or that ended because it was asked to, may have been given back.
        let ended =
            known.end.is_some_and(|(_, how)| matches!(how, How::Done | How::Fatal | How::Failed | How::Snoozed));
        if ended && !evidence.accepted.contains_key(run) && !lost.contains(&(run.1.task, run.0)) {
            faults.push(format!("came to its end, and storage knows nothing of it: {known:?}"));
        }
    }
    for run in evidence.executions(ExecutionStatus::Lost) {
        let at = run.finished_at.map_or(0, |at| at.as_micros());
        let in_trouble = evidence.windows.iter().any(|window| {
            window.node.is_none_or(|node| node == run.node)
                && window.begin <= at + micros(SLACK)
                && at <= window.end.saturating_add(micros(AFTER))
        });
        if !in_trouble {
            faults.push(format!("taken from a node that nothing has happened to: {run:?}"));
        }
    }
    faults
}

/// Checks the limit of running tasks against the ledgers.
pub(super) fn narrow(evidence: &Evidence, intervals: &[Interval]) -> Vec<String> {
    let limited = |task: TaskId| {
        let task = evidence.tasks.get(&task);
        task.is_some_and(|(task, _)| task.limit_key.as_deref() == Some("narrow"))
    };
    let narrow: Vec<Interval> = intervals.iter().filter(|interval| limited(interval.task)).copied().collect();
    side_by_side(&narrow, RUNNING)
}
