//! Five processes on one database, with clocks some seconds apart, that are stopped and killed: each nominal time makes
//! one task, and none is left out.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use callboard::backend::{OpenOptions, Opened, ScheduleFilter, TaskFilter, TaskOrder, open};
use callboard::{FiringStatus, ScheduleRecord, Timestamp, Trigger};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::node::Node;

const SCHEDULES: usize = 40;
const EVERY_MS: u64 = 200;
const FIRINGS: usize = 2_000;

struct Nodes {
    url: String,
    nodes: Vec<Node>,
}

impl Nodes {
    fn plan(&self, ahead_ms: i64) -> Value {
        json!({"url": self.url, "lease_ms": 1_500, "check_ms": 500, "clock_ahead_ms": ahead_ms,
            "queues": [["default", 4]], "schedules": SCHEDULES, "every_ms": EVERY_MS})
    }

    fn start(url: &str) -> Self {
        let mut all = Self { url: url.into(), nodes: Vec::new() };
        // All at once: they define the same schedules.
        all.nodes = [0, 2_000, -2_000, 700, -300].map(|ahead| Node::start(&all.plan(ahead))).into();
        for node in &mut all.nodes {
            node.id();
        }
        all
    }
}

impl Nodes {}

/// How often the schedules have fired.
fn count(backend: &Opened) -> usize {
    let records = backend.list_schedules(&ScheduleFilter::default(), None, SCHEDULES).expect("schedules");
    records.iter().map(|record| usize::try_from(record.run_count).unwrap()).sum()
}

fn until_fired(backend: &Opened, firings: usize) {
    let begun = Instant::now();
    while count(backend) < firings {
        assert!(begun.elapsed() < Duration::from_secs(300), "only {} of {firings} fired", count(backend));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn under_fire(url: &str) {
    let begun = Instant::now();
    let mut all = Nodes::start(url);
    let backend = open(url, &OpenOptions::default()).expect("open");
    until_fired(&backend, FIRINGS / 5);
    all.nodes[0].freeze(url);
    all.nodes[3].freeze(url);
    until_fired(&backend, FIRINGS * 2 / 5);
    all.nodes[1].kill();
    all.nodes[3].signal(Signal::SIGCONT);
    until_fired(&backend, FIRINGS * 3 / 5);
    let fresh = all.plan(-1_000);
    all.nodes[1] = Node::ready(&fresh);
    all.nodes[2].kill();
    all.nodes[0].signal(Signal::SIGCONT);
    until_fired(&backend, FIRINGS);
    drop(all);
    check(&backend, begun);
}

/// Holds the history, the cursors and the tasks against what the triggers say.
fn check(backend: &Opened, begun: Instant) {
    let tasks = tasks(backend);
    let mut fired = 0;
    let records = backend.list_schedules(&ScheduleFilter::default(), None, 10_000).expect("schedules");
    assert_eq!(records.len(), SCHEDULES, "each is defined once");
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
    println!("{fired} firings of {SCHEDULES} schedules, none twice, none missed, in {:.1?}", begun.elapsed());
}

fn expected(record: &ScheduleRecord) -> Vec<Timestamp> {
    let trigger: Trigger = record.read_trigger().expect("a trigger");
    let times = std::iter::successors(trigger.next_after(record.created_at), |time| trigger.next_after(*time));
    times.take_while(|time| *time <= record.cursor).collect()
}

/// The nominal times of all tasks, by schedule.
fn tasks(backend: &Opened) -> BTreeMap<String, Vec<Timestamp>> {
    let (mut by_schedule, mut ids) = (BTreeMap::<String, Vec<Timestamp>>::new(), HashSet::new());
    let mut after = None;
    loop {
        let page = backend.list(&TaskFilter::default(), TaskOrder::OldestFirst, after, 1_000).expect("list");
        for task in page.tasks {
            let firing = task.firing.expect("all tasks are made by schedules");
            assert!(ids.insert(task.task_id));
            by_schedule.entry(firing.schedule_id.to_string()).or_default().push(firing.nominal_at);
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

#[test]
fn five_processes_on_sqlite() {
    let folder = tempfile::TempDir::new().unwrap();
    under_fire(&format!("sqlite:{}", folder.path().join("tasks.db").display()));
}

#[cfg(feature = "postgres")]
#[test]
fn five_processes_on_postgres() {
    let schema = crate::servers::Schema::new();
    under_fire(&schema.url());
}

#[cfg(feature = "mysql")]
#[test]
fn five_processes_on_mysql() {
    let database = crate::servers::Database::new();
    under_fire(&database.url());
}
