//! The health of a board.

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

/// The health of a board, part by part.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The node.
    pub node: NodeId,
    /// The stage of the board's life.
    pub stage: Stage,
    /// True when every part is up, storage answers and the lease holds.
    pub healthy: bool,
    /// The capabilities of the storage.
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
    /// Commits that storage refused and that were retried.
    pub storage_retries: u64,
    /// Transactions that storage repeated because of a conflict with a concurrent transaction, such as a deadlock. A
    /// few of them are normal; many make everything slow.
    pub storage_conflicts: u64,
    /// Runs that continued past their timeout, because a handler blocked its thread: see
    /// [`BoardBuilder::blocking`](crate::BoardBuilder::blocking).
    pub late_runs: u64,
    /// Tasks that this node rescued from dead nodes.
    pub rescued: u64,
    /// Events that a subscriber missed because it was too slow.
    pub missed_events: u64,
    /// Threads of blocking handlers that still run although their run was given up, because of its timeout or a cancel.
    /// They keep their places in their queues until they end.
    pub overdue_threads: usize,
    /// Log records at which the application's logger panicked. A logger that `fuse`s its drain does so when its disk is
    /// full. These records are lost; there is no other harm.
    pub lost_log_records: u64,
    /// Parts of the setup that work, but hardly as intended: see [`HealthWarning`]. Warnings do not change `healthy`.
    pub warnings: Vec<HealthWarning>,
}

/// A part of a board.
#[derive(Clone, Debug, Serialize)]
pub struct PartHealth {
    /// Which part.
    pub part: Part,
    /// Whether it works.
    pub state: PartState,
    /// How long ago the part last finished a round, answered, or replied to a ping. `None` for a part that does not
    /// exist, such as the watch on a storage that no other process shares. For workers, it is the age of their longest
    /// silent thread: a handler may block it.
    pub last_tick_age: Option<Duration>,
    /// How often it died and was restarted.
    pub restarts: u32,
}

/// Whether a part works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// It works.
    Up,
    /// It runs, but its last round failed: storage refused it. Its last tick is from the last successful round.
    Failing,
    /// It died. It is being restarted, unless the board has failed.
    Down,
}

/// A queue on this node.
#[derive(Clone, Debug, Serialize)]
pub struct QueueHealth {
    /// Its name.
    pub queue: String,
    /// Its tasks that run here, including blocking runs that were given up while their thread continues.
    pub running: usize,
}

impl Board {
    /// The health of the board. This asks storage, so it may take as long as storage takes to answer.
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
