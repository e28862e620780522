//! The faults, and the nodes that each fault excuses.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::node::Node;
use crate::nodes::LEASE;
use crate::nodes::note::now;
use crate::proxy::{Cut, Proxy};
use crate::waiting::until;
use crate::world::World;

/// The length of an outage. It is the span of a fault, not a wait for an event. After this time the remaining nodes
/// have taken the process for dead and rescued its tasks.
pub(crate) const OUTAGE: Duration = Duration::from_millis(LEASE.as_millis() as u64 + 1_500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// A process is killed, and a new process is started.
    Killed,
    /// Several processes are killed in a row, while the first of their successors start.
    AllKilled,
    /// A process is frozen for longer than its lease.
    Frozen,
    /// A process is asked to end, and a new process is started.
    Stopped,
    /// A foreign connection holds a lock for long.
    Locked,
    /// A queue is paused, and a second fault happens during the pause.
    Paused,
    /// The disk becomes full, and later has space again.
    DiskFull,
    /// The server is stopped and started again.
    ShutDown,
    /// The server is killed and started again.
    Crashed,
    /// An operator cancels running queries.
    QueriesEnded,
    /// An operator ends sessions.
    SessionsEnded,
    /// A foreign client holds all connections that the server accepts.
    Crowded,
    CutBeforeCommit,
    CutAfterCommit,
    /// The commit reaches the server after its sender has given up.
    CommitLate,
    /// Connections are cut at any moment.
    Cut,
    /// The network drops all data, and neither side gets an error.
    Swallowed,
    Slow,
    Refused,
    /// Memory reports a few times that it is unavailable.
    Away,
    /// Memory writes, but its answers are lost.
    AnswersLost,
    /// Memory panics, before or after it writes.
    Panics,
    /// A part of a board panics.
    PartPanics,
}

/// Faults of processes, possible with every storage.
pub(crate) const OF_PROCESSES: [Fault; 6] =
    [Fault::Killed, Fault::AllKilled, Fault::Frozen, Fault::Stopped, Fault::Locked, Fault::Paused];
/// Faults of a network.
pub(crate) const OF_NETWORKS: [Fault; 7] = [
    Fault::CutBeforeCommit,
    Fault::CutAfterCommit,
    Fault::CommitLate,
    Fault::Cut,
    Fault::Swallowed,
    Fault::Slow,
    Fault::Refused,
];

/// A span in which nodes may lose their leases, in microseconds of the machine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The node; `None` means all nodes.
    pub(crate) node: Option<callboard::NodeId>,
    pub(crate) begin: i64,
    pub(crate) end: i64,
}

impl Fault {
    /// Causes the fault, and returns when it is over.
    pub(crate) fn strike(self, world: &mut World) {
        println!("{:>6.1} s: {self:?}", world.begun.elapsed().as_secs_f64());
        *world.met.entry(self).or_default() += 1;
        let at = world.rng.random_range(0..world.seats.len());
        match self {
            Self::Killed => world.kill(at),
            Self::AllKilled => (0..world.seats.len()).for_each(|at| world.kill(at)),
            Self::Stopped => world.stop(at),
            Self::Frozen => freeze(world, at),
            Self::Paused => paused(world, at),
            Self::Locked => everybody(world, |world| world.storage.lock()),
            Self::Crowded => everybody(world, |world| {
                // Cut the processes' connections first, so that the foreign client gets them.
                world.seats.iter().filter_map(|seat| seat.way.as_ref()).for_each(Proxy::cut);
                world.storage.strike(self);
            }),
            own if world.storage.faults().contains(&own) => everybody(world, |world| world.storage.strike(own)),
            network => of_network(network, world, at),
        }
    }
}

fn everybody(world: &mut World, work: impl FnOnce(&mut World)) {
    let begin = now();
    work(world);
    world.windows.push(Window { node: None, begin, end: now() });
}

fn freeze(world: &mut World, at: usize) {
    let (seat, begin) = (&world.seats[at], now());
    seat.node.freeze(&world.storage.url(None));
    std::thread::sleep(OUTAGE);
    seat.node.signal(Signal::SIGCONT);
    world.windows.push(Window { node: Some(seat.id), begin, end: now() });
}

/// Pauses a queue on a node, causes a second fault, and resumes the queue on a node that runs then.
fn paused(world: &mut World, at: usize) {
    let drained = order(&mut world.seats[at].node, "drain held");
    assert!(drained.is_ok(), "a drain: {drained:?}");
    let inner: Vec<Fault> = world.faults.iter().copied().filter(|fault| *fault != Fault::Paused).collect();
    inner.choose(&mut world.rng).copied().expect("there are faults").strike(world);
    // Long enough for all nodes to learn of the pause.
    std::thread::sleep(Duration::from_millis(world.rng.random_range(3_000..6_000)));
    let at = world.rng.random_range(0..world.seats.len());
    let resumed = order(&mut world.seats[at].node, "resume held");
    assert!(resumed.is_ok(), "a resume: {resumed:?}");
}

/// Sends a command and waits until it is done.
fn order(node: &mut Node, order: &str) -> Result<(), String> {
    let done = |node: &Node| node.count(|line| line["done"] == order);
    let before = done(node);
    node.order(order);
    until(order, || {
        assert!(node.is_running(), "the node ended by itself: {}", node.errors());
        let refused = node.count(|line| line["order"] == order) > 0;
        if refused { Some(Err(node.errors())) } else { (done(node) > before).then_some(Ok(())) }
    })
}

fn of_network(fault: Fault, world: &mut World, at: usize) {
    // The fault hits the network of a single process, or of all processes.
    let all = world.rng.random_bool(0.5);
    let hit = if all { 0..world.seats.len() } else { at..at + 1 };
    let delay = Duration::from_millis(world.rng.random_range(3..25));
    let begin = now();
    let ways: Vec<&Proxy> = world.seats[hit.clone()].iter().filter_map(|seat| seat.way.as_ref()).collect();
    let each = |change: &dyn Fn(&Proxy)| ways.iter().for_each(|way| change(way));
    let outage = || std::thread::sleep(OUTAGE);
    match fault {
        Fault::CutBeforeCommit => cut_at_commit(&ways, Cut::Before),
        Fault::CutAfterCommit => cut_at_commit(&ways, Cut::After),
        Fault::CommitLate => cut_at_commit(&ways, Cut::Late),
        Fault::Cut => each(&Proxy::cut),
        Fault::Swallowed => {
            each(&|way| way.swallow(true));
            outage();
            each(&|way| way.swallow(false));
            // The dropped data is missing from the stream, so no connection is usable any more.
            each(&Proxy::cut);
        }
        Fault::Slow => {
            each(&|way| way.delay(delay));
            outage();
            each(&|way| way.delay(Duration::ZERO));
        }
        Fault::Refused => {
            each(&|way| way.refuse(true));
            each(&Proxy::cut);
            outage();
            each(&|way| way.refuse(false));
        }
        other => panic!("{other:?} is no fault of a network"),
    }
    let end = now();
    let nodes = world.seats[hit].iter().map(|seat| Window { node: Some(seat.id), begin, end });
    world.windows.extend(nodes);
}

/// Cuts each of these network paths at its next commit.
fn cut_at_commit(ways: &[&Proxy], cut: Cut) {
    for way in ways {
        let before = way.cuts();
        way.cut_at_commit(cut);
        until("a commit comes by", || (way.cuts() > before).then_some(()));
    }
}
