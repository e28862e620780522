//! Upkeep: leases, rescue, promotion, and what is kept.

use std::time::Duration;

use serde::Serialize;

use super::QueueSettings;
use crate::clock::Timestamp;
use crate::limit::Limit;
use crate::name::Name;
use crate::task::{NodeId, TaskId, TaskState};

/// One round of upkeep.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The time.
    pub now: Timestamp,
    /// The node that asks.
    pub node: NodeId,
    /// Look for dead nodes as well.
    pub rescue: bool,
    /// A task that crashed so often is dead.
    pub crash_limit: u32,
    /// At most so many tasks for each kind of work.
    pub limit: usize,
    /// Tasks whose end somebody on this node waits for.
    pub awaited: Vec<TaskId>,
}

/// What a round of upkeep did and found.
#[derive(Clone, Debug, Default)]
pub struct SweepReport {
    /// Queues in which tasks came to `pending`.
    pub promoted: Vec<Name>,
    /// The next `run_at` or `expires_at` that lies ahead.
    pub next_due: Option<Timestamp>,
    /// More was due than `limit`: sweep again soon.
    pub more: bool,
    /// Tasks taken from dead nodes.
    pub rescued: Vec<Rescued>,
    /// Tasks that expired and are now cancelled.
    pub expired: Vec<TaskId>,
    /// Running tasks of this node that somebody asked to cancel.
    pub cancel: Vec<TaskId>,
    /// All stored queue settings.
    pub queues: Vec<QueueSettings>,
    /// All stored limits, by scope and name.
    pub limits: Vec<Limit>,
    /// Awaited tasks that have come to a terminal state, or no longer exist.
    pub ended: Vec<TaskId>,
    /// True when no task was pending at the end of the round, so that a claim would find nothing; false where storage does
    /// not know.
    pub nothing_pending: bool,
}

/// A task taken from a dead node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescued {
    /// The task.
    pub task_id: TaskId,
    /// Its type.
    pub kind: Name,
    /// Its queue.
    pub queue: Name,
    /// The node that died.
    pub node: NodeId,
    /// `pending`; `dead` when it crashed too often; `cancelled` when its cancel was asked for.
    pub state: TaskState,
}

/// A sign of life.
#[derive(Clone, Debug)]
pub struct NodeBeat {
    /// The incarnation.
    pub node_id: NodeId,
    /// The name it was given.
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
    /// The time.
    pub now: Timestamp,
    /// How long it is to be believed alive after this.
    pub lease: Duration,
    /// The program's version.
    pub version: String,
    /// Its queues with their concurrency.
    pub queues: Vec<(Name, usize)>,
    /// The types that it has handlers for.
    pub types: Vec<Name>,
    /// The queues that somebody on it pulls from, whatever the type.
    pub pulls: Vec<Name>,
}

/// A node as storage knows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeRecord {
    /// The incarnation.
    pub node_id: NodeId,
    /// The name it was given.
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last gave a sign of life.
    pub heartbeat_at: Timestamp,
    /// Until when it is believed alive.
    pub lease_until: Timestamp,
    /// The version of callboard in the program, `CARGO_PKG_VERSION`: what matters in a rolling upgrade.
    pub version: String,
    /// Its queues with their concurrency. [`Board::nodes`](crate::Board::nodes) shows what
    /// [`set_concurrency`](crate::Board::set_concurrency) has set, a backend what the node was configured with.
    pub queues: Vec<(Name, usize)>,
    /// The types that it has handlers for, by name.
    pub types: Vec<Name>,
    /// The queues that somebody on it pulls from with [`Board::pop`](crate::Board::pop), or did in the last ten minutes,
    /// by name; 1,000 at most.
    pub pulls: Vec<Name>,
}

impl NodeRecord {
    /// How long ago its last sign of life was; `now` is the time of the board that asks, `board.clock().now()`.
    pub fn heartbeat_age(&self, now: Timestamp) -> Duration {
        now.since(self.heartbeat_at)
    }
}

/// The pending tasks of one type in one queue, as [`in_line`](super::Backend::in_line) tells of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InLine {
    /// The queue.
    pub queue: Name,
    /// The type.
    pub kind: Name,
    /// How many of those that were looked at.
    pub tasks: u64,
    /// The earliest `run_at` of them.
    pub oldest: Timestamp,
    /// As many tasks of the queue were looked at as was asked for: it may have more.
    pub more: bool,
}

/// What [`release`](super::Backend::release) gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// How many tasks.
    pub tasks: u64,
}

/// How long finished tasks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// For this terminal state.
    pub state: TaskState,
    /// Delete those finished before this time.
    pub finished_before: Option<Timestamp>,
    /// Keep at most so many, the latest.
    pub keep: Option<u64>,
}

/// A finished task that is not to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// Its place in push order.
    pub seq: i64,
    /// When it finished: one that was retried since, and finished again, is another matter.
    pub finished_at: Timestamp,
}
