//! `kill -9` at random moments under load.

use std::time::{Duration, Instant};

use callboard::backend::{OpenOptions, open};
use callboard::{ExecutionStatus, TaskState};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::ledger::{Follower, Ledger, Stored};
use crate::support::node::Node;
use crate::support::{Place, sql, until};

const KILLS: usize = 50;
const CONCURRENCY: usize = 16;

/// The moment at which a node is killed.
#[derive(Debug)]
enum Moment {
    /// While the node opens the file.
    Opening,
    /// After this many lines since its start.
    Lines(usize),
    /// After this many lines of a kind.
    Of(&'static str, usize),
}

impl Moment {
    fn random(rng: &mut StdRng) -> Self {
        match rng.random_range(0..20) {
            0 | 1 => Self::Opening,
            2..12 => Self::Lines(rng.random_range(0..400)),
            12..14 => Self::Of("try", rng.random_range(1..100)),
            14..16 => Self::Of("ack", rng.random_range(1..100)),
            16 => Self::Of("cancel", rng.random_range(1..4)),
            // Long enough for the leases of the nodes killed before to end.
            _ => Self::Of("rescued", rng.random_range(1..8)),
        }
    }

    fn wait(&self, node: &mut Node, follower: &mut Follower, rescues_due: bool) {
        node.hear("opening", |line| line.get("opening").cloned());
        let (kind, more) = match self {
            Self::Opening => return,
            Self::Lines(lines) => (None, *lines),
            // If no killed node left a task running, there is nothing to rescue.
            Self::Of("rescued", _) if !rescues_due => (None, 200),
            Self::Of("rescued", _) => (Some("rescued"), 1),
            Self::Of(kind, lines) => (Some(*kind), *lines),
        };
        let wanted = follower.lines(kind) + more;
        until("lines in the ledger", || {
            assert!(node.is_running(), "the node ended by itself: {}", node.errors());
            (follower.lines(kind) >= wanted).then_some(())
        });
    }
}

fn seed() -> u64 {
    match std::env::var("CHAOS_SEED") {
        Ok(seed) => seed.parse().expect("CHAOS_SEED is a number"),
        Err(_) => rand::random(),
    }
}

fn running(url: &str) -> bool {
    // The file may not exist yet, or may have no tables.
    let counts = open(url, &OpenOptions::default()).and_then(|backend| backend.counts());
    counts.is_ok_and(|counts| counts.iter().any(|count| count.state == TaskState::Running && count.tasks > 0))
}

#[test]
fn fifty_kills_lose_nothing_and_invent_nothing() {
    let started = Instant::now();
    let seed = seed();
    println!("to repeat this: CHAOS_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let place = Place::new();
    let (file, notes, url) = (place.file(), place.folder().join("ledger"), place.url());
    let plan = |round: usize, producers: u64| -> Value {
        json!({"url": url, "ledger": notes, "lease_ms": 1_000, "queues": [["default", CONCURRENCY]],
            "producers": producers, "seed": seed.wrapping_add(round as u64) % (1 << 40),
            "leave_when_empty": producers == 0})
    };
    let mut follower = Follower::new(&notes);
    let mut moments = Vec::new();
    for round in 0..KILLS {
        let moment = Moment::random(&mut rng);
        let rescues_due = running(&url);
        let mut node = Node::start(&plan(round, 4));
        moment.wait(&mut node, &mut follower, rescues_due);
        // A random delay that spreads the kills over the node's next operations. It is not a wait for an event.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3_000)));
        node.kill();
        moments.push(moment);
    }
    let killed = started.elapsed();
    // The last node must end by itself, when no task is left to run.
    let mut last = Node::start(&plan(KILLS, 0));
    let status = last.end();
    assert!(status.success(), "the last node: {status}, {}", last.errors());

    let (ledger, stored) = (Ledger::read(&notes), Stored::at(&url));
    let extra = stored.check(&ledger);
    let lost = stored.runs(ExecutionStatus::Lost);
    println!(
        "{KILLS} kills in {killed:.1?}, {} tasks of {} tried, {} acknowledged, {} groups: {} completed, {} dead, \
         {} cancelled; {} runs begun, {extra} of them cut short, {lost} lost, {} rescued, {} fenced; {:.1?} in all",
        stored.tasks.len(),
        ledger.tried.len(),
        ledger.acknowledged.len(),
        ledger.groups.len(),
        stored.count(TaskState::Completed),
        stored.count(TaskState::Dead),
        stored.count(TaskState::Cancelled),
        ledger.runs.values().sum::<usize>(),
        ledger.rescued,
        ledger.fenced,
        started.elapsed(),
    );
    println!("moments: {moments:?}");
    assert!(extra <= KILLS * CONCURRENCY, "{extra} extra runs");
    assert!(lost <= KILLS * CONCURRENCY, "{lost} lost runs");
    assert!(lost > 0 && ledger.acknowledged.len() > KILLS, "the kills met no load");
    assert_eq!(sql::integrity(&file), "ok");
}
