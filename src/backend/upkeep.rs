//! Upkeep: leases, rescue, promotion and retention.

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
    /// The present time.
    pub now: Timestamp,
    /// The node that sweeps.
    pub node: NodeId,
    /// Whether to rescue the tasks of dead nodes as well.
    pub rescue: bool,
    /// The number of crashes after which a task becomes dead.
    pub crash_limit: u32,
    /// The maximum number of tasks for each kind of work.
    pub limit: usize,
    /// Tasks whose end a caller on this node awaits.
    pub awaited: Vec<TaskId>,
}

/// The result of a round of upkeep.
#[derive(Clone, Debug, Default)]
pub struct SweepReport {
    /// Queues in which tasks became `pending`.
    pub promoted: Vec<Name>,
    /// The next `run_at` or `expires_at` in the future.
    pub next_due: Option<Timestamp>,
    /// More tasks were due than `limit` allows, so the next sweep must follow soon.
    pub more: bool,
    /// Tasks taken from dead nodes.
    pub rescued: Vec<Rescued>,
    /// Tasks that expired and are now cancelled.
    pub expired: Vec<TaskId>,
    /// Running tasks of this node whose cancel was requested.
    pub cancel: Vec<TaskId>,
    /// All stored queue settings.
    pub queues: Vec<QueueSettings>,
    /// All stored limits, by scope and name.
    pub limits: Vec<Limit>,
    /// Awaited tasks that are terminal or no longer exist.
    pub ended: Vec<TaskId>,
    /// True if no task was pending at the end of the round, so that a claim would find nothing. False if storage does
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
    /// `pending`; `dead` if it crashed too often; `cancelled` if its cancel was requested.
    pub state: TaskState,
}

/// A heartbeat.
#[derive(Clone, Debug)]
pub struct NodeBeat {
    /// The incarnation of the node.
    pub node_id: NodeId,
    /// The configured name.
    pub name: String,
    /// The start time of the node.
    pub started_at: Timestamp,
    /// The present time.
    pub now: Timestamp,
    /// The length of the lease: the node counts as alive for this long after `now`.
    pub lease: Duration,
    /// The program's version.
    pub version: String,
    /// Its queues with their concurrency.
    pub queues: Vec<(Name, usize)>,
    /// The types that it has handlers for.
    pub types: Vec<Name>,
    /// The queues that have pullers on it, for any type.
    pub pulls: Vec<Name>,
}

/// A node as storage knows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeRecord {
    /// The incarnation of the node.
    pub node_id: NodeId,
    /// The configured name.
    pub name: String,
    /// The start time of the node.
    pub started_at: Timestamp,
    /// The time of the last heartbeat.
    pub heartbeat_at: Timestamp,
    /// The end of its lease: until then it counts as alive.
    pub lease_until: Timestamp,
    /// The version of callboard in the program, `CARGO_PKG_VERSION`: the version that matters in a rolling upgrade.
    pub version: String,
    /// Its queues with their concurrency. [`Board::nodes`](crate::Board::nodes) shows the value that
    /// [`set_concurrency`](crate::Board::set_concurrency) has set; a backend shows the node's configured value.
    pub queues: Vec<(Name, usize)>,
    /// The types that it has handlers for, by name.
    pub types: Vec<Name>,
    /// The queues that callers on it pull from with [`Board::pop`](crate::Board::pop), or pulled from in the last ten
    /// minutes, by name; 1,000 at most.
    pub pulls: Vec<Name>,
}

impl NodeRecord {
    /// The time since its last heartbeat. `now` is the time of the board that asks, `board.clock().now()`.
    pub fn heartbeat_age(&self, now: Timestamp) -> Duration {
        now.since(self.heartbeat_at)
    }
}

/// The pending tasks of a type in a queue, as [`in_line`](super::Backend::in_line) reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InLine {
    /// The queue.
    pub queue: Name,
    /// The type.
    pub kind: Name,
    /// The number of tasks of this type among the tasks that were read.
    pub tasks: u64,
    /// The earliest `run_at` of these tasks.
    pub oldest: Timestamp,
    /// True if the read stopped at the requested number of tasks: the queue may have more.
    pub more: bool,
}

/// The result of [`release`](super::Backend::release).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The number of released tasks.
    pub tasks: u64,
}

/// A rule for how long finished tasks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The terminal state that the rule is for.
    pub state: TaskState,
    /// Delete tasks that finished before this time.
    pub finished_before: Option<Timestamp>,
    /// Keep at most this many tasks, the latest.
    pub keep: Option<u64>,
}

/// A finished task that retention does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// Its place in push order.
    pub seq: i64,
    /// Its finish time. If the task was retried since then and finished again, the time differs and the task is kept.
    pub finished_at: Timestamp,
}
