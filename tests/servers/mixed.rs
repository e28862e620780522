//! Four processes on a server of the test's own under mixed load, while everything breaks that can: processes, the
//! network, the server.

mod crowd;
mod faults;
mod limits;

use std::time::{Duration, Instant};

use callboard::backend::{OpenOptions, open};
use callboard::{Board, ExecutionStatus, TaskState};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use tempfile::TempDir;

use self::crowd::{CONCURRENCY, Crowd, PROCESSES, SCHEDULES};
use self::faults::Fault;
use self::limits::{Limits, Seen};
use crate::ledger::{Ledger, Stored};
use crate::place::{Place, on_both};
use crate::waiting::soon;
use crate::{firings, frozen, rescue};

on_both!(every_fault_under_load, a_frozen_node_is_refused, the_tasks_of_a_dead_node_are_rescued_in_time);

/// How long the load lasts.
fn span() -> Duration {
    let long = std::env::var_os("CALLBOARD_TEST_LONG").is_some_and(|long| long == "1");
    Duration::from_secs(if long { 600 } else { 60 })
}

fn seed() -> u64 {
    match std::env::var("CHAOS_SEED") {
        Ok(seed) => seed.parse().expect("CHAOS_SEED is a number"),
        Err(_) => rand::random(),
    }
}

async fn every_fault_under_load<P: Place>() {
    let (started, seed) = (Instant::now(), seed());
    println!("to repeat this: CHAOS_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults = Fault::ALL.to_vec();
    faults.shuffle(&mut rng);
    println!("first round: {faults:?}");
    let mut faults = faults.into_iter();
    let mut crowd = Crowd::<P>::new(rng);
    let url = crowd.place.url();
    limits::set(&url).await;
    crowd.gather();
    let limits = Limits::watch(&crowd);
    let begun = Instant::now();
    while let Some(fault) =
        faults.next().or_else(|| Fault::ALL.choose(&mut crowd.rng).copied().filter(|_| begun.elapsed() < span()))
    {
        crowd.meet(fault);
    }
    crowd.leave();
    // Nothing is to become due any more, or the last node would never find everything done.
    let board = Board::builder().url(&url).start().await.unwrap();
    for number in 0..SCHEDULES {
        soon("the pause", board.schedules().pause(format!("schedule {number}"))).await.unwrap();
    }
    soon("the stop", board.stop()).await;
    crowd.finish();
    let seen = limits.end();
    judge(&crowd, &seen, started);
}

fn judge<P: Place>(crowd: &Crowd<P>, limits: &Seen, started: Instant) {
    let ledger = Ledger::read(&crowd.notes());
    let backend = open(&crowd.place.url(), &OpenOptions::default()).unwrap();
    let stored = Stored::read(&backend);
    let (extra, lost) = (stored.check(&ledger), stored.runs(ExecutionStatus::Lost));
    let fired = firings::each_once(&backend, SCHEDULES);
    let faults = crowd.faults();
    println!(
        "{faults:?}; {} tasks, {} acknowledged, {} pushes without an answer, {} completed, {} dead, {} cancelled; {} runs \
         begun, {extra} of them cut short, {lost} lost, {} rescued, {} fenced; {fired} firings; {limits:?}; {:.1?}",
        stored.tasks.len(),
        ledger.acknowledged.len(),
        ledger.open,
        stored.count(TaskState::Completed),
        stored.count(TaskState::Dead),
        stored.count(TaskState::Cancelled),
        ledger.runs.values().sum::<usize>(),
        ledger.rescued,
        ledger.fenced,
        started.elapsed(),
    );
    let stops = faults[&Fault::Stopped] + PROCESSES;
    // A node that dies, stands still or is cut off for longer than its lease loses what it runs, and what it has claimed
    // without hearing of it; a fault of the server or of the network may do that to all of them. Once more for leases
    // that end because the machine is busy.
    let lapses = PROCESSES * (1 + faults.values().sum::<usize>() - faults[&Fault::Stopped]);
    let most = lapses * 2 * CONCURRENCY;
    assert!(lost <= most, "{lost} lost runs");
    // A stopped node drops what does not end in time; such a run is given back and begins again.
    assert!(extra <= most + stops * CONCURRENCY, "{extra} extra runs");
    assert!(faults.values().all(|times| *times > 0), "some fault never happened: {faults:?}");
    assert!(ledger.rescued > 0 && lost > 0 && ledger.acknowledged.len() > 100, "the faults met no load");
    limits.check();
}

async fn a_frozen_node_is_refused<P: Place>() {
    let (place, folder) = (P::new(), TempDir::new().unwrap());
    frozen::is_rescued_and_refused(&place.url(), &folder.path().join("gate")).await;
}

async fn the_tasks_of_a_dead_node_are_rescued_in_time<P: Place>() {
    let (place, folder) = (P::new(), TempDir::new().unwrap());
    rescue::comes_in_time(&place.url(), &folder.path().join("gate")).await;
}
