//! Compares the firings of schedules with the times of their triggers.

use std::collections::{BTreeMap, HashSet};

use callboard::backend::{Opened, ScheduleFilter, TaskFilter, TaskOrder};
use callboard::{Firing, FiringStatus, ScheduleRecord, Timestamp, Trigger};

/// Asserts that there are `schedules` schedules. Each nominal time up to a schedule's cursor must have fired once and
/// made a single task. Returns the number of these firings.
pub(crate) fn each_once(backend: &Opened, schedules: usize) -> usize {
    let stored = at_rest(backend);
    assert_eq!(stored.len(), schedules, "each is defined once");
    let mut fired = 0;
    for Stored { record, firings, tasks } in &stored {
        let odd: Vec<_> = firings.iter().filter(|firing| firing.status != FiringStatus::Fired).collect();
        assert!(odd.is_empty(), "missed, or passed by: {odd:?}");
        let times: Vec<Timestamp> = firings.iter().rev().map(|firing| firing.nominal_at).collect();
        assert_eq!(times, expected(record), "{}", record.name);
        assert_eq!(*tasks, times, "tasks of {}", record.name);
        fired += times.len();
    }
    fired
}

/// A schedule with its firings and its tasks: the nominal times of the tasks, in order.
struct Stored {
    record: ScheduleRecord,
    firings: Vec<Firing>,
    tasks: Vec<Timestamp>,
}

/// Reads all schedules at a moment without changes. A server may still be executing statements that a process sent
/// before it was killed.
fn at_rest(backend: &Opened) -> Vec<Stored> {
    let records = || backend.list_schedules(&ScheduleFilter::default(), None, 10_000).expect("schedules");
    let cursors = |records: &[ScheduleRecord]| records.iter().map(|record| record.cursor).collect::<Vec<_>>();
    loop {
        let before = records();
        let mut tasks = tasks(backend);
        let stored = before.iter().map(|record| Stored {
            record: record.clone(),
            firings: backend.firings(record.schedule_id, None, 100_000).expect("firings"),
            tasks: tasks.remove(&record.schedule_id.to_string()).unwrap_or_default(),
        });
        let stored = stored.collect();
        if cursors(&records()) == cursors(&before) {
            return stored;
        }
    }
}

fn expected(record: &ScheduleRecord) -> Vec<Timestamp> {
    let trigger: Trigger = record.read_trigger().expect("a trigger");
    let times = std::iter::successors(trigger.next_after(record.created_at), |time| trigger.next_after(*time));
    times.take_while(|time| *time <= record.cursor).collect()
}

/// The nominal times of all tasks made by schedules, by schedule.
fn tasks(backend: &Opened) -> BTreeMap<String, Vec<Timestamp>> {
    let (mut by_schedule, mut ids) = (BTreeMap::<String, Vec<Timestamp>>::new(), HashSet::new());
    let mut after = None;
    loop {
        let page = backend.list(&TaskFilter::default(), TaskOrder::OldestFirst, after, 1_000).expect("list");
        for task in page.tasks {
            assert!(ids.insert(task.task_id));
            if let Some(firing) = task.firing {
                by_schedule.entry(firing.schedule_id.to_string()).or_default().push(firing.nominal_at);
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    for times in by_schedule.values_mut() {
        times.sort_unstable();
    }
    by_schedule
}
