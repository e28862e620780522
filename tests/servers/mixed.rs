//! Several processes on one database under mixed load, while they are killed, frozen and stopped.

use std::path::Path;
use std::time::{Duration, Instant};

use callboard::{ExecutionStatus, TaskState};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::frozen;
use crate::ledger::{Ledger, Stored};
use crate::node::Node;
use crate::place::{Place, on_both};
use crate::rescue;

on_both!(
    killed_frozen_and_stopped_under_load,
    a_frozen_node_is_refused,
    the_tasks_of_a_dead_node_are_rescued_in_time
);

const PROCESSES: usize = 4;
const CONCURRENCY: usize = 8;
const LEASE: Duration = Duration::from_secs(2);

/// What happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Frozen,
    Stopped,
}

/// How long the load lasts.
fn span() -> Duration {
    let long = std::env::var_os("CALLBOARD_TEST_LONG").is_some_and(|long| long == "1");
    Duration::from_secs(if long { 600 } else { 20 })
}

fn seed() -> u64 {
    match std::env::var("CHAOS_SEED") {
        Ok(seed) => seed.parse().expect("CHAOS_SEED is a number"),
        Err(_) => rand::random(),
    }
}

/// The processes, and what has happened to them.
struct Crowd<'a> {
    url: String,
    notes: &'a Path,
    rng: StdRng,
    nodes: Vec<Node>,
    fates: Vec<Fate>,
    /// What those that are gone have logged.
    said: String,
}

impl Crowd<'_> {
    fn plan(&mut self, producers: u64) -> Value {
        json!({"url": self.url, "ledger": self.notes, "lease_ms": LEASE.as_millis() as u64,
            "queues": [["default", CONCURRENCY]], "producers": producers, "pace_ms": 20,
            "seed": self.rng.random_range(0..1_u64 << 40), "leave_when_empty": producers == 0})
    }

    fn start(&mut self) -> Node {
        let plan = self.plan(2);
        Node::ready(&plan)
    }

    fn meet(&mut self, fate: Fate) {
        let at = self.rng.random_range(0..self.nodes.len());
        match fate {
            Fate::Killed => {
                self.nodes[at].kill();
                self.replace(at);
            }
            Fate::Frozen => {
                self.nodes[at].signal(Signal::SIGSTOP);
                // Until others have taken it for dead, and rescued what it had.
                std::thread::sleep(LEASE + Duration::from_millis(1_500));
                self.nodes[at].signal(Signal::SIGCONT);
            }
            Fate::Stopped => {
                self.nodes[at].signal(Signal::SIGTERM);
                let status = self.nodes[at].end();
                assert!(status.success(), "{status}: {}", self.nodes[at].errors());
                self.replace(at);
            }
        }
        self.fates.push(fate);
    }

    fn replace(&mut self, at: usize) {
        self.said.push_str(&self.nodes[at].errors());
        self.nodes[at] = self.start();
    }

    fn count(&self, fate: Fate) -> usize {
        self.fates.iter().filter(|met| **met == fate).count()
    }
}

async fn killed_frozen_and_stopped_under_load<P: Place>() {
    let (started, seed, place, folder) = (Instant::now(), seed(), P::new(), TempDir::new().unwrap());
    println!("to repeat this: CHAOS_SEED={seed}");
    let notes = folder.path().join("ledger");
    let rng = StdRng::seed_from_u64(seed);
    let mut crowd =
        Crowd { url: place.url(), notes: &notes, rng, nodes: Vec::new(), fates: Vec::new(), said: String::new() };
    for _ in 0..PROCESSES {
        let node = crowd.start();
        crowd.nodes.push(node);
    }
    let mut first = [Fate::Frozen, Fate::Killed, Fate::Stopped].into_iter();
    while started.elapsed() < span() {
        // To spread the moments.
        std::thread::sleep(Duration::from_millis(crowd.rng.random_range(0..1_000)));
        let fates = [Fate::Killed, Fate::Killed, Fate::Frozen, Fate::Stopped];
        let fate = first.next().or_else(|| fates.choose(&mut crowd.rng).copied()).unwrap_or(Fate::Killed);
        crowd.meet(fate);
    }
    for node in &crowd.nodes {
        node.signal(Signal::SIGTERM);
    }
    for node in &mut crowd.nodes {
        let status = node.end();
        assert!(status.success(), "{status}: {}", node.errors());
        crowd.said.push_str(&node.errors());
    }
    let plan = crowd.plan(0);
    let mut last = Node::start(&plan);
    let status = last.end();
    assert!(status.success(), "the last node: {status}, {}", last.errors());
    judge(&crowd, &Stored::at(&place.url()), started);
}

fn judge(crowd: &Crowd<'_>, stored: &Stored, started: Instant) {
    let ledger = Ledger::read(crowd.notes);
    if !ledger.errors.is_empty() {
        println!("{}", crowd.said);
    }
    let (extra, lost) = (stored.check(&ledger), stored.runs(ExecutionStatus::Lost));
    let (killed, frozen) = (crowd.count(Fate::Killed), crowd.count(Fate::Frozen));
    println!(
        "{killed} killed, {frozen} frozen, {} stopped; {} tasks, {} acknowledged, {} completed, {} dead, {} cancelled; \
         {} runs begun, {extra} of them cut short, {lost} lost, {} rescued, {} fenced; {:.1?}",
        crowd.count(Fate::Stopped),
        stored.tasks.len(),
        ledger.acknowledged.len(),
        stored.count(TaskState::Completed),
        stored.count(TaskState::Dead),
        stored.count(TaskState::Cancelled),
        ledger.runs.values().sum::<usize>(),
        ledger.rescued,
        ledger.fenced,
        started.elapsed(),
    );
    let most = (killed + frozen) * CONCURRENCY;
    // A stopped node drops what does not end in time; such a run is given back and begins again.
    let dropped = crowd.count(Fate::Stopped) * CONCURRENCY + PROCESSES * CONCURRENCY;
    assert!(extra <= most + dropped, "{extra} extra runs");
    assert!(lost <= most, "{lost} lost runs");
    assert!(killed > 0 && frozen > 0 && ledger.acknowledged.len() > 100, "the faults met no load");
}

async fn a_frozen_node_is_refused<P: Place>() {
    let (place, folder) = (P::new(), TempDir::new().unwrap());
    frozen::is_rescued_and_refused(&place.url(), &folder.path().join("gate")).await;
}

async fn the_tasks_of_a_dead_node_are_rescued_in_time<P: Place>() {
    let (place, folder) = (P::new(), TempDir::new().unwrap());
    rescue::comes_in_time(&place.url(), &folder.path().join("gate")).await;
}
