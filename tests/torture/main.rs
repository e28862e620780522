//! The torture: processes with every kind of load on a single storage, under every possible fault. Each process notes
//! its work in a ledger outside storage. At the end the ledgers are compared with storage. See docs/reliability.md.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "each test says what it did")]

mod faults;
mod judge;
mod ledger;
mod limits;
mod memory;
#[path = "../support/node.rs"]
mod node;
#[path = "../chaos/bin/torture/mod.rs"]
mod nodes;
#[path = "../servers/own.rs"]
#[allow(dead_code, reason = "each test program uses a part")]
mod own;
#[path = "../servers/place.rs"]
#[allow(dead_code, unused_macros, unused_imports, reason = "each test program uses a part")]
mod place;
#[path = "../servers/proxy.rs"]
mod proxy;
#[path = "../support/servers.rs"]
mod servers;
mod storage;
#[path = "../support/waiting.rs"]
mod waiting;
mod world;

use std::time::Duration;

use storage::{File, OnServer};
use world::World;

/// The time for which faults continue.
fn span() -> Duration {
    let seconds = std::env::var("CALLBOARD_TORTURE_SECONDS");
    Duration::from_secs(seconds.map_or(60, |text| text.parse().expect("CALLBOARD_TORTURE_SECONDS is a number")))
}

/// The random seed, which determines all faults and the load.
fn seed() -> u64 {
    let seed = std::env::var("CALLBOARD_TORTURE_SEED");
    seed.map_or_else(|_| rand::random(), |text| text.parse().expect("CALLBOARD_TORTURE_SEED is a number"))
}

#[test]
fn memory() {
    memory::torture(span(), seed());
}

#[test]
fn sqlite() {
    if storage::again_where_it_may_mount("sqlite") {
        return;
    }
    World::new("sqlite", seed(), File::new).torture(span());
}

#[test]
fn postgres() {
    World::new("postgres", seed(), OnServer::<servers::Schema>::new).torture(span());
}

#[test]
fn mysql() {
    World::new("mysql", seed(), OnServer::<servers::Database>::new).torture(span());
}
