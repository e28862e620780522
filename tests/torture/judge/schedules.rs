//! Checks that no firing is doubled or missed, and that runs overlap only where the policy allows it.

use std::collections::HashMap;

use callboard::{FiringCause, FiringStatus, Overlap, ScheduleId, ScheduleRecord, TaskId, Timestamp};

use super::Evidence;
use super::runs::{Interval, side_by_side};
use crate::nodes::schedules::KINDS;

pub(super) fn faults(evidence: &Evidence, intervals: &[Interval]) -> Vec<String> {
    let mut made: HashMap<ScheduleId, Vec<(Timestamp, TaskId)>> = HashMap::new();
    let mut of_task: HashMap<TaskId, ScheduleId> = HashMap::new();
    for (task, _) in evidence.tasks.values() {
        if let Some(firing) = task.firing {
            made.entry(firing.schedule_id).or_default().push((firing.nominal_at, task.task_id));
            of_task.insert(task.task_id, firing.schedule_id);
        }
    }
    let mut ran: HashMap<ScheduleId, Vec<Interval>> = HashMap::new();
    for interval in intervals {
        if let Some(schedule) = of_task.get(&interval.task) {
            ran.entry(*schedule).or_default().push(*interval);
        }
    }
    let mut faults = Vec::new();
    if evidence.schedules.len() != KINDS.len() {
        faults.push(format!("{} schedules, not {}", evidence.schedules.len(), KINDS.len()));
    }
    for (record, firings) in &evidence.schedules {
        let name = record.name.to_string();
        let mut fault = |text: String| faults.push(format!("{name}: {text}"));
        let mut made = made.remove(&record.schedule_id).unwrap_or_default();
        made.sort_unstable();
        let by_clock = firings.iter().rev().filter(|firing| firing.cause == FiringCause::Schedule);
        let firings: Vec<_> = by_clock.collect();
        let fired = firings.iter().filter(|firing| firing.status == FiringStatus::Fired);
        let fired: Vec<(Timestamp, TaskId)> =
            fired.map(|firing| (firing.nominal_at, firing.task_id.expect("it made a task"))).collect();
        if fired != made {
            fault(format!("its history and its tasks are not the same: {fired:?}, {made:?}"));
        }
        let times: Vec<Timestamp> = firings.iter().map(|firing| firing.nominal_at).collect();
        let expected = expected(record);
        if times != expected {
            let missed: Vec<_> = expected.iter().filter(|time| !times.contains(time)).collect();
            let odd: Vec<_> = times.iter().filter(|time| !expected.contains(time)).collect();
            fault(format!(
                "{} times dealt with, {} expected; missed {missed:?}, odd {odd:?}",
                times.len(),
                expected.len()
            ));
        }
        let passed = firings.iter().filter(|firing| firing.status != FiringStatus::Fired);
        let lets = matches!(record.policy.overlap, Overlap::Allow | Overlap::BufferAll);
        for firing in passed.filter(|firing| lets || firing.status != FiringStatus::Skipped || firing.times > 1) {
            fault(format!("passed by: {firing:?}"));
        }
        if record.policy.overlap != Overlap::Allow {
            let ran = ran.remove(&record.schedule_id).unwrap_or_default();
            side_by_side(&ran, record.policy.max_instances as usize).into_iter().for_each(fault);
        }
    }
    faults
}

/// The nominal times of a schedule, from the start of its history up to its cursor.
fn expected(record: &ScheduleRecord) -> Vec<Timestamp> {
    let trigger = record.read_trigger().expect("a trigger");
    let from = record.forgotten_to.map_or(record.created_at, |forgotten| forgotten.max(record.created_at));
    let times = std::iter::successors(trigger.next_after(from), |time| trigger.next_after(*time));
    times.take_while(|time| *time <= record.cursor).collect()
}
