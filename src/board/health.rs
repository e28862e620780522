//! How a board is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::Board;
use super::warning::{HealthWarning, warnings};
use crate::actor::Part;
use crate::backend::Capabilities;
use crate::runtime::core::Stage;
use crate::runtime::persistence::CheckHealth;
use crate::task::NodeId;

/// How a board is, part by part.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The node.
    pub node: NodeId,
    /// How far the board has come.
    pub stage: Stage,
    /// True when every part is up, storage answers and the lease holds.
    pub healthy: bool,
    /// What the storage is.
    pub backend: Capabilities,
    /// Why storage does not answer, if it does not.
    pub storage_error: Option<String>,
    /// True while the node may claim.
    pub lease_holds: bool,
    /// The parts.
    pub parts: Vec<PartHealth>,
    /// The queues that this node runs.
    pub queues: Vec<QueueHealth>,
    /// Outcomes refused because their claim no longer held.
    pub fenced: u64,
    /// Commits that storage refused and that were tried again.
    pub storage_retries: u64,
    /// Transactions that others were in the way of, such as in a deadlock, and that storage did once more. Now and then
    /// one is as it should be; many of them make everything slow.
    pub storage_conflicts: u64,
    /// Runs that went on past their timeout, because a handler blocked its thread: see
    /// [`BoardBuilder::blocking`](crate::BoardBuilder::blocking).
    pub late_runs: u64,
    /// Tasks that this node rescued from dead ones.
    pub rescued: u64,
    /// Events that some subscriber was too slow for.
    pub missed_events: u64,
    /// Threads of blocking handlers that go on after their run was given up, because of its timeout or a cancel. They keep their
    /// places in their queues until they end.
    pub overdue_threads: usize,
    /// Log records that the application's logger panicked at, as one that `fuse`s its drain does when its disk is full. They
    /// are lost, and hurt nothing else.
    pub lost_log_records: u64,
    /// What works, but hardly as it was meant: see [`HealthWarning`]. It leaves `healthy` as it is.
    pub warnings: Vec<HealthWarning>,
}

/// One part of a board.
#[derive(Clone, Debug, Serialize)]
pub struct PartHealth {
    /// Which.
    pub part: Part,
    /// Whether it works.
    pub state: PartState,
    /// How long ago it last did its round, answered, or showed on request that it lives; nothing for a part that is not
    /// there, such as the watch on a storage that no other process shares. Of the threads that workers live on the one
    /// counts that has been silent longest: a handler may block it.
    pub last_tick_age: Option<Duration>,
    /// How often it died and was started anew.
    pub restarts: u32,
}

/// Whether a part works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// It works.
    Up,
    /// It is there, but its last round failed: storage refused it. Its last tick is that of the last round that did not.
    Failing,
    /// It died, and is being started anew, unless the board has failed.
    Down,
}

/// One queue on this node.
#[derive(Clone, Debug, Serialize)]
pub struct QueueHealth {
    /// Its name.
    pub queue: String,
    /// Tasks of it that run here, and those blocking runs that were given up while their thread goes on.
    pub running: usize,
}

impl Board {
    /// How the board is. Asks storage, so it may take as long as storage does to answer.
    pub async fn health(&self) -> Health {
        let core = &self.core;
        let storage_error = core.persistence.ask(CheckHealth {}).await.err().map(|error| error.to_string());
        let parts: Vec<_> = Part::ALL.iter().map(|part| self.part_health(*part)).collect();
        let lease_holds = core.lease.is_safe(core.clock.elapsed(), Duration::ZERO);
        let stage = core.stage();
        Health {
            node: core.node,
            stage,
            healthy: stage == Stage::Running
                && storage_error.is_none()
                && lease_holds
                && parts.iter().all(|part| part.state == PartState::Up),
            backend: core.backend.capabilities(),
            storage_error,
            lease_holds,
            parts,
            queues: core
                .config
                .queues
                .iter()
                .map(|(name, _)| QueueHealth { queue: name.to_string(), running: core.workers.claims(name).len() })
                .collect(),
            fenced: core.counters.fenced.load(Ordering::Relaxed),
            storage_retries: core.counters.storage_retries.load(Ordering::Relaxed),
            storage_conflicts: core.backend.conflicts(),
            late_runs: core.counters.late.load(Ordering::Relaxed),
            rescued: core.counters.rescued.load(Ordering::Relaxed),
            missed_events: core.events.missed_by_all(),
            overdue_threads: core.workers.blocking().overdue().load(Ordering::Relaxed),
            lost_log_records: core.app_log.lost(),
            warnings: warnings(core),
        }
    }

    fn part_health(&self, part: Part) -> PartHealth {
        let core = &self.core;
        let pulse = core.parts.pulse(part);
        let state = match (core.is_down(part), pulse.is_failing()) {
            (true, _) => PartState::Down,
            (false, true) => PartState::Failing,
            (false, false) => PartState::Up,
        };
        let last_tick_age = match part {
            Part::Worker => core.workers.tick_age(&core.clock),
            _ => pulse.age(&core.clock),
        };
        PartHealth { part, state, last_tick_age, restarts: pulse.restarts() }
    }
}
