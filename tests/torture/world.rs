//! The processes, their storage, and the network between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use callboard::backend::{OpenOptions, open};
use callboard::{Board, NodeId};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faults::{Fault, OF_NETWORKS, OF_PROCESSES, Window};
use crate::judge::{Evidence, judge};
use crate::ledger::Follower;
use crate::limits::{self, Limits};
use crate::node::Node;
use crate::nodes::Plan;
use crate::nodes::note::now;
use crate::nodes::schedules::KINDS;
use crate::proxy::Proxy;
use crate::storage::Storage;
use crate::waiting::{soon, until};

const PROCESSES: usize = 4;
/// The numbers of pushes and of new runs after a fault that prove that the load goes on.
const ENOUGH: usize = 20;
/// The greatest clock error of a node, in milliseconds, where nodes run on separate machines.
const SKEW_MS: i64 = 2_000;

/// A process and its network path to a server.
pub(crate) struct Seat {
    pub(crate) node: Node,
    pub(crate) id: NodeId,
    pub(crate) way: Option<Proxy>,
}

/// All parts of a torture run, in the order in which they are dropped: the processes first, the storage after them.
pub(crate) struct World {
    pub(crate) seats: Vec<Seat>,
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) rng: StdRng,
    /// All faults that can happen in this world.
    pub(crate) faults: Vec<Fault>,
    /// How often each fault has happened.
    pub(crate) met: BTreeMap<Fault, usize>,
    pub(crate) windows: Vec<Window>,
    pub(crate) begun: Instant,
    follower: Follower,
    started: usize,
    name: &'static str,
    seed: u64,
    folder: Folder,
}

impl World {
    pub(crate) fn new<S: Storage + 'static>(name: &'static str, seed: u64, make: impl FnOnce(&Path) -> S) -> Self {
        let folder = Folder::new(name, seed);
        let storage: Box<dyn Storage> = Box::new(make(folder.path()));
        let networks = storage.address().map_or(&[][..], |_| &OF_NETWORKS);
        let faults: Vec<Fault> = [storage.faults(), OF_PROCESSES.to_vec(), networks.to_vec()].concat();
        let met = faults.iter().map(|fault| (*fault, 0)).collect();
        let (follower, rng) = (Follower::new(folder.path()), StdRng::seed_from_u64(seed));
        let (seats, windows, begun) = (Vec::new(), Vec::new(), Instant::now());
        Self { seats, storage, rng, faults, met, windows, begun, follower, started: 0, name, seed, folder }
    }

    /// Runs the whole torture.
    pub(crate) fn torture(mut self, span: Duration) {
        self.prepare();
        for _ in 0..PROCESSES {
            let way = self.storage.address().map(Proxy::new);
            let (node, id) = self.start(way.as_ref());
            self.seats.push(Seat { node, id, way });
        }
        let limits = Limits::watch(self.storage.rows(), self.storage.prefix());
        let mut first = self.faults.clone();
        first.shuffle(&mut self.rng);
        let mut first = first.into_iter();
        self.begun = Instant::now();
        // Every fault happens at least once, however short the run.
        while let Some(fault) = first.next().or_else(|| {
            let any = self.faults.choose(&mut self.rng).copied();
            any.filter(|_| self.begun.elapsed() < span)
        }) {
            self.meet(fault);
        }
        let seconds = self.begun.elapsed();
        self.leave();
        self.finish();
        let seen = limits.end();
        let backend = open(&self.storage.url(None), &OpenOptions::default()).unwrap();
        let evidence = Evidence::gather(self.folder.path(), &*backend, self.windows.clone());
        judge(self.name, self.seed, seconds, &self.met, &evidence, Some(&seen));
    }

    /// Sets the limits.
    fn prepare(&self) {
        let url = self.storage.url(None);
        actix_rt::System::new().block_on(async {
            let board = Board::builder().url(url).start().await.unwrap();
            limits::set(&board).await;
            soon("the stop", board.stop()).await;
        });
    }

    fn plan(&mut self, way: Option<&Proxy>, producers: u64) -> Plan {
        self.started += 1;
        let way = way.map(Proxy::address);
        // Processes on the same machine share a clock.
        let skew = if way.is_some() { self.rng.random_range(-SKEW_MS..SKEW_MS) } else { 0 };
        Plan {
            url: self.storage.url(way),
            app_url: Some(self.storage.app_url(way)),
            ledger: self.folder.path().join(format!("{}.ledger", self.started)),
            producers,
            seed: self.rng.random_range(0..1 << 40),
            clock_ahead_ms: skew,
        }
    }

    fn start(&mut self, way: Option<&Proxy>) -> (Node, NodeId) {
        let plan = self.plan(way, 2);
        let mut node = Node::ready(&json!({ "torture": plan }));
        let id = node.id();
        (node, id)
    }

    /// Starts a new process in place of one that has ended.
    fn replace(&mut self, at: usize) {
        let errors = self.seats[at].node.errors();
        self.folder.keep_errors(&errors);
        let way = self.seats[at].way.take();
        let (node, id) = self.start(way.as_ref());
        self.seats[at] = Seat { node, id, way };
    }

    pub(crate) fn kill(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        seat.node.kill();
        // The killed process does not come back.
        self.windows.push(Window { node: Some(seat.id), begin: now(), end: i64::MAX / 2 });
        self.replace(at);
    }

    pub(crate) fn stop(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        seat.node.signal(Signal::SIGTERM);
        let status = seat.node.end();
        assert!(status.success(), "{status}: {}", seat.node.errors());
        self.replace(at);
    }

    /// Causes a fault, and waits until the load goes on.
    fn meet(&mut self, fault: Fault) {
        // A random delay that spreads the moments of the faults.
        std::thread::sleep(Duration::from_millis(self.rng.random_range(0..1_000)));
        fault.strike(self);
        let before = self.follower.counts();
        until(&format!("the load goes on after {fault:?}"), || {
            for seat in &mut self.seats {
                assert!(seat.node.is_running(), "a process ended by itself: {}", seat.node.errors());
            }
            let now = self.follower.counts();
            (now.0 >= before.0 + ENOUGH && now.1 >= before.1 + ENOUGH).then_some(())
        });
    }

    /// Stops all processes when they are healthy.
    fn leave(&mut self) {
        for seat in &mut self.seats {
            let mut health = Value::Null;
            until("a process is well again", || {
                health = seat.node.health();
                (health["healthy"] == true).then_some(())
            });
        }
        for seat in &self.seats {
            seat.node.signal(Signal::SIGTERM);
        }
        for seat in &mut self.seats {
            let status = seat.node.end();
            assert!(status.success(), "{status}: {}", seat.node.errors());
            self.folder.keep_errors(&seat.node.errors());
        }
    }

    /// Starts a last process that runs all tasks that are left.
    fn finish(&mut self) {
        let url = self.storage.url(None);
        // No further task may become due, because otherwise the last process would never find all tasks done.
        actix_rt::System::new().block_on(async {
            let board = Board::builder().url(url).queue("default", 1).start().await.unwrap();
            for kind in &KINDS {
                soon("the pause", board.schedules().pause(kind.name)).await.unwrap();
            }
            soon("the resume", board.resume("held")).await.unwrap();
            soon("the stop", board.stop()).await;
        });
        let plan = self.plan(None, 0);
        let mut last = Node::start(&json!({ "torture": plan }));
        // After hours of load the chain of a schedule that buffers every firing is long, and its tasks run in sequence.
        let status = last.end_while_growing(&plan.ledger);
        assert!(status.success(), "the last node: {status}, {}", last.errors());
    }
}

/// The folder of the processes' ledgers and errors. It is kept when the run fails.
pub(crate) struct Folder {
    folder: Option<TempDir>,
    again: String,
}

impl Folder {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        let seconds = crate::span().as_secs();
        let again = format!(
            "CALLBOARD_TORTURE_SEED={seed} CALLBOARD_TORTURE_SECONDS={seconds} \
             cargo test --all-features --test torture {name} -- --exact --nocapture"
        );
        println!("to repeat this: {again}");
        Self { folder: Some(TempDir::new().unwrap()), again }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.as_ref().expect("it is there until the end").path()
    }

    fn keep_errors(&self, errors: &str) {
        use std::io::Write;
        let file = std::fs::File::options().create(true).append(true).open(self.path().join("errors"));
        file.and_then(|mut file| file.write_all(errors.as_bytes())).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept: PathBuf = self.folder.take().map(TempDir::keep).unwrap_or_default();
            println!("failed; the ledgers are in {}; run it again with: {}", kept.display(), self.again);
        }
    }
}
