//! Five processes on the same database, with clocks some seconds apart. Processes are frozen and killed. Each nominal
//! time makes a single task, and no time is left out.

use std::time::{Duration, Instant};

use callboard::backend::{OpenOptions, Opened, ScheduleFilter, open};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::firings;
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
        // All processes start at once, so that they define the same schedules at the same time.
        all.nodes = [0, 2_000, -2_000, 700, -300].map(|ahead| Node::start(&all.plan(ahead))).into();
        for node in &mut all.nodes {
            node.id();
        }
        all
    }
}

/// The number of firings of all schedules together.
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
    let fired = firings::each_once(&backend, SCHEDULES);
    println!("{fired} firings of {SCHEDULES} schedules, none twice, none missed, in {:.1?}", begun.elapsed());
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
