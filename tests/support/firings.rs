//! What schedules have fired, held against what their triggers say.

use std::collections::{BTreeMap, HashSet};

use callboard::backend::{Opened, ScheduleFilter, TaskFilter, TaskOrder};
use callboard::{FiringStatus, ScheduleRecord, Timestamp, Trigger};

/// Asserts that there are so many schedules, and that each nominal time of theirs up to the cursor has fired once and made
/// one task. Returns how many these are.
pub(crate) fn each_once(backend: &Opened, schedules: usize) -> usize {
    let tasks = tasks(backend);
    let mut fired = 0;
    let records = backend.list_schedules(&ScheduleFilter::default(), None, 10_000).expect("schedules");
    assert_eq!(records.len(), schedules, "each is defined once");
    for record in &records {
        let firings = backend.firings(record.schedule_id, None, 100_000).expect("firings");
        let odd: Vec<_> = firings.iter().filter(|firing| firing.status != FiringStatus::Fired).collect();
        assert!(odd.is_empty(), "missed, or passed by: {odd:?}");
        let times: Vec<Timestamp> = firings.iter().rev().map(|firing| firing.nominal_at).collect();
        assert_eq!(times, expected(record), "{}", record.name);
        let made = tasks.get(&record.schedule_id.to_string()).cloned().unwrap_or_default();
        assert_eq!(made, times, "tasks of {}", record.name);
        fired += times.len();
    }
    fired
}

fn expected(record: &ScheduleRecord) -> Vec<Timestamp> {
    let trigger: Trigger = record.read_trigger().expect("a trigger");
    let times = std::iter::successors(trigger.next_after(record.created_at), |time| trigger.next_after(*time));
    times.take_while(|time| *time <= record.cursor).collect()
}

/// The nominal times of all tasks that schedules have made, by schedule.
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
