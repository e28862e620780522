//! A transaction of the queue: its request and its result.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Timestamp;
use crate::limit::{HeldBack, Limits};
use crate::name::Name;
use crate::task::{ClaimToken, ExecutionStatus, NodeId, Progress, TaskId, TaskSpec, TaskState};

/// The contents of a transaction.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The time of the writer.
    pub now: Timestamp,
    /// The time of sending. A commit may wait on its way for a connection or a lock. Rates count by the time at which
    /// the commit runs: storage's time if it has a clock. If `sent` is `None`, that time is `now`.
    pub sent: Option<Instant>,
    /// The node that writes and claims.
    pub node: NodeId,
    /// The token of all claims of this commit.
    pub token: ClaimToken,
    /// Runs that ended.
    pub settle: Vec<Settlement>,
    /// Tasks that were pushed.
    pub insert: Vec<InsertGroup>,
    /// Progress of running tasks.
    pub progress: Vec<ProgressUpdate>,
    /// Requests for tasks, for the queues that have room.
    pub claim: Vec<ClaimRequest>,
    /// The limits that the writer knows. Claims obey those of them that exist in storage, in the form that storage has.
    /// `None` if the writer knows no limits; limits then cost nothing.
    pub limits: Option<Arc<Limits>>,
    /// True if a run that ends here was under a limit of running tasks: other nodes may wait for its place.
    pub frees: bool,
    /// True if an earlier try answered [`Inserted::Busy`] or [`Settled::Busy`]. Storage then does not wait for a lock
    /// at all.
    pub again: bool,
}

impl Commit {
    /// An empty commit.
    pub fn new(node: NodeId, now: Timestamp) -> Self {
        Self {
            now,
            sent: None,
            node,
            token: ClaimToken::random(),
            settle: Vec::new(),
            insert: Vec::new(),
            progress: Vec::new(),
            claim: Vec::new(),
            limits: None,
            frees: false,
            again: false,
        }
    }

    /// True if the commit has nothing to do.
    pub fn is_empty(&self) -> bool {
        self.settle.is_empty() && self.insert.is_empty() && self.progress.is_empty() && self.claim.is_empty()
    }
}

/// The end of a run, or the release of a claim that did not run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The task's place in push order.
    pub seq: i64,
    /// The task.
    pub task_id: TaskId,
    /// The token of the claim that it ran under.
    pub token: ClaimToken,
    /// The next state of the task: terminal, `retrying`, `scheduled` or `pending`.
    pub state: TaskState,
    /// The time of the next run, for a state that is not terminal.
    pub run_at: Timestamp,
    /// Attempts used up. This run is included if it counts.
    pub attempt: u32,
    /// The end of the run, for the history; `None` if the claim is released without a run.
    pub execution: Option<ExecutionEnd>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionEnd {
    /// The number of the run: 1 is the first attempt.
    pub attempt: u32,
    /// How it ended.
    pub status: ExecutionStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// JSON text to keep as the task's result.
    pub result: Option<Box<str>>,
    /// The reason of a failure or a cancel; becomes the task's `last_error`.
    pub error: Option<Box<str>>,
}

/// Tasks that are stored together or not at all.
#[derive(Clone, Debug)]
pub struct InsertGroup {
    /// The tasks, in push order; never empty.
    pub tasks: Vec<Insertion>,
}

/// A task to store.
#[derive(Clone, Debug)]
pub struct Insertion {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// `pending` or `scheduled`.
    pub state: TaskState,
    /// Stores the task as `running`, claimed by the commit's node under its token. Allowed only with state `pending`,
    /// and not with unique mode `keep_latest`, because such a task may have to wait. Storage does not check limits
    /// here: a caller sets `claim` only if it knows no limit that applies.
    pub claim: bool,
}

/// The result of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Stored and claimed at once, as requested.
    Claimed {
        /// Its place in push order.
        seq: i64,
    },
    /// Stored. `seq` is not returned: it is needed only after a claim, and some storage would need an extra query for
    /// it.
    New {
        /// The stored state: the requested state, or `waiting` by its unique mode.
        state: TaskState,
    },
    /// A task with this id or this unique key already exists.
    Duplicate {
        /// The existing task.
        task_id: TaskId,
        /// Its state.
        state: TaskState,
    },
    /// The task that holds the unique key took over the params, priority and run_at.
    Replaced {
        /// The holder.
        task_id: TaskId,
        /// Its state.
        state: TaskState,
    },
    /// The unique key is held and the mode is `reject`: no task of the group was stored.
    Refused {
        /// The holder.
        existing: TaskId,
    },
    /// A different task of the group was rejected.
    GroupRefused,
    /// No task of the group was stored, because an unfinished transaction holds a lock on the unique key. The push must
    /// be sent again later, in a commit of its own.
    Busy,
}

/// Progress of a running task.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressUpdate {
    /// The task's place in push order.
    pub seq: i64,
    /// The token of the claim that it runs under; a stale token changes nothing.
    pub token: ClaimToken,
    /// The progress.
    pub progress: Progress,
}

/// A request for tasks that there is room for.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRequest {
    /// From this queue.
    pub queue: Name,
    /// Only these types; `None` allows any type.
    pub types: Option<Arc<[Name]>>,
    /// The maximum number of tasks.
    pub limit: usize,
}

/// A task that a node has claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// Its place in push order.
    pub seq: i64,
    /// The token of the claim.
    pub token: ClaimToken,
    /// Attempts used up before this run.
    pub attempt: u32,
}

/// The result of a [`Commit`], in the order of its parts.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    /// The results of the settlements.
    pub settled: Vec<Settled>,
    /// The results of the insertions, group after group.
    pub inserted: Vec<Inserted>,
    /// The claimed tasks for each claim request. Fewer tasks than requested means that the queue has no more tasks for
    /// this request now. The exceptions are reported by [`passed_over`](Receipt::passed_over) and
    /// [`held_back`](Receipt::held_back).
    pub claimed: Vec<Vec<Claimed>>,
    /// A task moved from `waiting` to `pending`.
    pub freed_waiting: bool,
    /// A claim passed over a task on its last chance because this node already runs such a task. The end of that run
    /// makes room.
    pub passed_over: bool,
    /// Claims that returned fewer tasks than requested because limits held some back. No claim is listed twice.
    pub held_back: Vec<HeldBack>,
    /// Unreadable rows that a claim read and moved to `dead`. Every row that a claim makes `dead` must be listed here,
    /// otherwise its end is never reported.
    pub unreadable: Vec<Unreadable>,
}

/// A row that cannot run, made `dead` by the claim that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The task; `None` if even its id is unreadable.
    pub task_id: Option<TaskId>,
    /// Its type.
    pub kind: Name,
    /// Its queue.
    pub queue: Name,
    /// The reason, the same text as in its `last_error`.
    pub reason: String,
}

/// The result of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Written.
    Accepted,
    /// Written as cancelled: the settlement would have let the task run again, but its cancel was requested.
    Cancelled,
    /// The claim no longer holds; nothing was written.
    Fenced,
    /// Nothing was written, because an unfinished transaction has locked the task. The end must be sent again later, in
    /// a commit of its own.
    Busy,
}
