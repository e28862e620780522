//! The processes, their server, and the network between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::faults::Fault;
use crate::ledger::Follower;
use crate::node::Node;
use crate::own::Own;
use crate::place::{Place, address};
use crate::proxy::Proxy;
use crate::waiting::until;

pub(super) const PROCESSES: usize = 4;
pub(super) const CONCURRENCY: usize = 8;
pub(super) const SCHEDULES: usize = 5;
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// Connections that the server takes: more than the processes need, and few enough to use them up.
pub(super) const CONNECTIONS: usize = 60;
/// Tasks pushed and run after a fault that say that the load goes on.
const ENOUGH: usize = 20;

/// In the order in which they end: the processes first, the server last.
pub(super) struct Crowd<P: Place> {
    pub(super) nodes: Vec<Node>,
    /// The way of each process to the server.
    pub(super) proxies: Vec<Proxy>,
    pub(super) place: P,
    pub(super) server: Own,
    folder: TempDir,
    follower: Follower,
    pub(super) rng: StdRng,
    /// What has happened, and after what time.
    met: Vec<(Duration, Fault)>,
    begun: Instant,
    /// What those that are gone have logged.
    said: String,
}

impl<P: Place> Crowd<P> {
    pub(super) fn new(rng: StdRng) -> Self {
        let server = Own::with::<P>(|_| {
            if P::IS_POSTGRES {
                return vec!["-c".into(), format!("max_connections={CONNECTIONS}")];
            }
            vec![format!("--max-connections={CONNECTIONS}")]
        });
        let place = P::at(&server.url());
        let proxies = (0..PROCESSES).map(|_| Proxy::new(address(&place.url()))).collect();
        let folder = TempDir::new().unwrap();
        let follower = Follower::new(&folder.path().join("ledger"));
        let (nodes, met, begun, said) = (Vec::new(), Vec::new(), Instant::now(), String::new());
        Self { nodes, proxies, place, server, folder, follower, rng, met, begun, said }
    }

    /// Where the ledger is.
    pub(super) fn notes(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    fn plan(&mut self, url: &str, producers: u64) -> Value {
        // Shorter than some outages, so that some pushes come to an end without an answer.
        json!({"url": url, "ledger": self.notes(), "lease_ms": LEASE.as_millis() as u64, "outages": true,
            "push_ms": 2_000, "queues": [["default", CONCURRENCY]], "producers": producers, "pace_ms": 20,
            "long_ms": 1_500, "schedules": if producers > 0 { SCHEDULES } else { 0 }, "every_ms": 500,
            "seed": self.rng.random_range(0..1_u64 << 40), "leave_when_empty": producers == 0})
    }

    /// Starts the process at this place.
    fn start(&mut self, at: usize) -> Node {
        let url = self.place.url_by(self.proxies[at].address());
        let plan = self.plan(&url, 2);
        Node::ready(&plan)
    }

    /// Starts all processes.
    pub(super) fn gather(&mut self) {
        for at in 0..PROCESSES {
            let node = self.start(at);
            self.nodes.push(node);
        }
    }

    /// Starts another process in the place of one that is gone.
    pub(super) fn replace(&mut self, at: usize) {
        self.said.push_str(&self.nodes[at].errors());
        self.nodes[at] = self.start(at);
    }

    /// Lets something happen, and then everybody go on.
    pub(super) fn meet(&mut self, fault: Fault) {
        // To spread the moments.
        std::thread::sleep(Duration::from_millis(self.rng.random_range(0..500)));
        self.met.push((self.begun.elapsed(), fault));
        fault.strike(self);
        let kinds = ["ack", "run"];
        let before = kinds.map(|kind| self.follower.lines(Some(kind)));
        until(&format!("the load goes on after {fault:?}"), || {
            for node in &mut self.nodes {
                assert!(node.is_running(), "a process ended by itself: {}", node.errors());
            }
            let now = kinds.map(|kind| self.follower.lines(Some(kind)));
            now.iter().zip(before).all(|(now, before)| *now >= before + ENOUGH).then_some(())
        });
    }

    /// How often each fault has happened.
    pub(super) fn faults(&self) -> BTreeMap<Fault, usize> {
        let mut faults: BTreeMap<Fault, usize> = Fault::ALL.iter().map(|fault| (*fault, 0)).collect();
        for (_, fault) in &self.met {
            *faults.entry(*fault).or_default() += 1;
        }
        faults
    }

    /// Stops all processes, once they are well.
    pub(super) fn leave(&mut self) {
        for node in &mut self.nodes {
            let mut health = Value::Null;
            until("a process is well again", || {
                health = node.health();
                (health["healthy"] == true).then_some(())
            });
        }
        for node in &self.nodes {
            node.signal(Signal::SIGTERM);
        }
        for node in &mut self.nodes {
            let status = node.end();
            assert!(status.success(), "{status}: {}", node.errors());
        }
    }

    /// Lets one more process run everything that is left.
    pub(super) fn finish(&mut self) {
        let url = self.place.url();
        let plan = self.plan(&url, 0);
        let mut last = Node::start(&plan);
        let status = last.end();
        assert!(status.success(), "the last node: {status}, {}", last.errors());
    }
}

impl<P: Place> Drop for Crowd<P> {
    /// What a failure is found by.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{:.1?}\n{}", self.met, self.said);
            for (at, node) in self.nodes.iter().enumerate() {
                println!("process {at}: {}", node.errors());
            }
        }
    }
}
