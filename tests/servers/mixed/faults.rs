//! What can break.

use std::time::{Duration, Instant};

use diesel::Connection;
use nix::sys::signal::Signal;
use rand::Rng;

use super::crowd::{CONNECTIONS, Crowd, LEASE, PROCESSES};
use crate::exhausted;
use crate::own::Own;
use crate::place::Place;
use crate::proxy::{Cut, Proxy};
use crate::waiting::until;

/// How long something is out of reach: the span of the fault, not a wait for something. Others then have taken the
/// process for dead, and rescued what it had.
const OUTAGE: Duration = Duration::from_millis(LEASE.as_millis() as u64 + 1_500);
/// Longer than a transaction waits for a lock.
const LOCKED: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A process is killed, and another one started.
    Killed,
    /// A process stands still for longer than its lease.
    Frozen,
    /// A process is asked to end, and another one started.
    Stopped,
    /// The server is stopped and started again.
    ShutDown,
    /// The server is killed and started again.
    Crashed,
    CutBeforeCommit,
    CutAfterCommit,
    /// The commit reaches the server when its sender has given up.
    CommitLate,
    /// Connections are cut at any moment.
    Cut,
    /// Nothing comes through, and nobody is told.
    BlackHole,
    Slow,
    Refused,
    /// Somebody else locks all tasks, until every thread of a node waits.
    Locked,
    /// Somebody else has all connections that the server takes.
    Crowded,
}

impl Fault {
    pub(super) const ALL: [Self; 14] = [
        Self::Killed,
        Self::Frozen,
        Self::Stopped,
        Self::ShutDown,
        Self::Crashed,
        Self::CutBeforeCommit,
        Self::CutAfterCommit,
        Self::CommitLate,
        Self::Cut,
        Self::BlackHole,
        Self::Slow,
        Self::Refused,
        Self::Locked,
        Self::Crowded,
    ];

    /// Happens, and is over.
    pub(super) fn strike<P: Place>(self, crowd: &mut Crowd<P>) {
        let at = crowd.rng.random_range(0..PROCESSES);
        // The network of one process, or of all.
        let hit = if crowd.rng.random_bool(0.5) { at..at + 1 } else { 0..PROCESSES };
        let delay = Duration::from_millis(crowd.rng.random_range(3..25));
        let network = &crowd.proxies[hit];
        let each = |change: &dyn Fn(&Proxy)| network.iter().for_each(change);
        let outage = || std::thread::sleep(OUTAGE);
        match self {
            Self::Killed => {
                crowd.nodes[at].kill();
                crowd.replace(at);
            }
            Self::Frozen => {
                crowd.nodes[at].signal(Signal::SIGSTOP);
                outage();
                crowd.nodes[at].signal(Signal::SIGCONT);
            }
            Self::Stopped => {
                crowd.nodes[at].signal(Signal::SIGTERM);
                let status = crowd.nodes[at].end();
                assert!(status.success(), "{status}: {}", crowd.nodes[at].errors());
                crowd.replace(at);
            }
            Self::ShutDown => restart(&mut crowd.server, Own::shut_down),
            Self::Crashed => restart(&mut crowd.server, Own::kill),
            Self::CutBeforeCommit => cut_at_commit(network, Cut::Before),
            Self::CutAfterCommit => cut_at_commit(network, Cut::After),
            Self::CommitLate => cut_at_commit(network, Cut::Late),
            Self::Cut => each(&Proxy::cut),
            Self::BlackHole => {
                each(&|proxy| proxy.swallow(true));
                outage();
                each(&|proxy| proxy.swallow(false));
                // What was swallowed is missing from the stream, so no connection can be used any more.
                each(&Proxy::cut);
            }
            Self::Slow => {
                each(&|proxy| proxy.delay(delay));
                outage();
                each(&|proxy| proxy.delay(Duration::ZERO));
            }
            Self::Refused => {
                each(&|proxy| proxy.refuse(true));
                each(&Proxy::cut);
                outage();
                each(&|proxy| proxy.refuse(false));
            }
            Self::Locked => {
                let locked = exhausted::lock(&crowd.place);
                std::thread::sleep(LOCKED);
                drop(locked);
            }
            Self::Crowded => use_up::<P>(&crowd.server.url(), &crowd.proxies),
        }
    }
}

fn restart(server: &mut Own, bring_down: fn(&mut Own)) {
    bring_down(server);
    server.start_again();
}

/// Cuts on each of these ways at the next commit.
fn cut_at_commit(network: &[Proxy], cut: Cut) {
    for proxy in network {
        let before = proxy.cuts();
        proxy.cut_at_commit(cut);
        until("a commit comes by", || (proxy.cuts() > before).then_some(()));
    }
}

/// Takes every connection that the server gives, for a while.
fn use_up<P: Place>(url: &str, network: &[Proxy]) {
    let free = || P::Conn::establish(url).ok();
    let mut held = Vec::new();
    while let Some(conn) = free() {
        held.push(conn);
        assert!(held.len() <= CONNECTIONS, "the server takes more than it should");
    }
    // What the processes have is to be had by whoever comes first.
    network.iter().for_each(Proxy::cut);
    let begun = Instant::now();
    while begun.elapsed() < OUTAGE {
        held.extend(free());
        std::thread::sleep(Duration::from_millis(5));
    }
}
