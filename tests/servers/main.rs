//! Tests on database servers under production conditions: roles without rights, poolers, broken networks, restarts and
//! several processes at once. The promises of callboard hold under these conditions, too.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "each test says what it did")]

mod boards;
mod claims;
mod dying;
mod edited;
mod exact;
mod examined;
mod exhausted;
mod idle;
mod keys;
mod load;
mod locks;
mod microseconds;
mod migrations;
mod network;
mod notified;
mod own;
mod passwords;
mod place;
mod pooler;
mod proxy;
mod rescued;
mod restarts;
mod roles;
mod scripts;
mod sessions;
mod sizes;
mod tls;
mod upgrades;

#[path = "../support/frozen.rs"]
mod frozen;
#[path = "../support/ledger.rs"]
mod ledger;
#[path = "../support/node.rs"]
mod node;
#[path = "../support/rescue.rs"]
mod rescue;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/waiting.rs"]
mod waiting;
