//! One transaction of the queue: what goes in, and what comes back.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Timestamp;
use crate::limit::{HeldBack, Limits};
use crate::name::Name;
use crate::task::{ClaimToken, ExecutionStatus, NodeId, Progress, TaskId, TaskSpec, TaskState};

/// Everything that goes into one transaction.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The time of the writer.
    pub now: Timestamp,
    /// When it was sent: it may wait on its way, for a connection or a lock. Rates are counted by the time at which it is
    /// under way, that of storage if it has a clock. Without this, `now` is that time.
    pub sent: Option<Instant>,
    /// The node that writes, and that claims.
    pub node: NodeId,
    /// The token of all claims of this commit.
    pub token: ClaimToken,
    /// Runs that ended.
    pub settle: Vec<Settlement>,
    /// Tasks that were pushed.
    pub insert: Vec<InsertGroup>,
    /// How far running tasks have come.
    pub progress: Vec<ProgressUpdate>,
    /// What there is room for.
    pub claim: Vec<ClaimRequest>,
    /// The limits that the writer knows of: claims obey those of them that storage has, in the form that storage has.
    /// Nothing when it knows of none; limits then cost nothing.
    pub limits: Option<Arc<Limits>>,
    /// A run that ends here was under a limit of running tasks: other nodes may wait for its place.
    pub frees: bool,
    /// It was answered with [`Inserted::Busy`] or [`Settled::Busy`] before: storage is not to wait for it even a moment.
    pub again: bool,
}

impl Commit {
    /// A commit in which nothing happens.
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

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.settle.is_empty() && self.insert.is_empty() && self.progress.is_empty() && self.claim.is_empty()
    }
}

/// The end of one run, or the release of a claim that did not run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The task's place in push order.
    pub seq: i64,
    /// The task.
    pub task_id: TaskId,
    /// The claim it ran under.
    pub token: ClaimToken,
    /// Where the task goes: terminal, `retrying`, `scheduled` or `pending`.
    pub state: TaskState,
    /// When it may run again, for a state that is not terminal.
    pub run_at: Timestamp,
    /// Attempts used up, this run included where it counts.
    pub attempt: u32,
    /// What happened, for the history; nothing for a claim that is given back.
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
    /// Why it failed, or why it was cancelled; becomes the task's `last_error`.
    pub error: Option<Box<str>>,
}

/// Tasks that are stored together or not at all.
#[derive(Clone, Debug)]
pub struct InsertGroup {
    /// The tasks, in push order; never empty.
    pub tasks: Vec<Insertion>,
}

/// One task to store.
#[derive(Clone, Debug)]
pub struct Insertion {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// `pending` or `scheduled`.
    pub state: TaskState,
    /// Store it as `running`, claimed by the commit's node under its token. Only with state `pending`, and not with
    /// unique mode `keep_latest`, for such a task may have to wait. Limits are not looked at: whoever sets this knows
    /// of none that applies.
    pub claim: bool,
}

/// What became of one insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Stored and claimed at once, as was asked.
    Claimed {
        /// Its place in push order.
        seq: i64,
    },
    /// Stored. Its place is nobody's business before it is claimed, and some storage would have to be asked for it.
    New {
        /// Where it stands: the state asked for, or `waiting` by its unique mode.
        state: TaskState,
    },
    /// A task with this id, or with its unique key, is there already.
    Duplicate {
        /// The one that is there.
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
    /// The unique key is held and the mode is `reject`: nothing of the group was stored.
    Refused {
        /// The holder.
        existing: TaskId,
    },
    /// Another task of the group was refused.
    GroupRefused,
    /// Nothing of the group was stored: another transaction, which has not ended, has the unique key in hand. The push is to be
    /// sent again later, in a commit of its own.
    Busy,
}

/// How far a running task has come.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressUpdate {
    /// The task's place in push order.
    pub seq: i64,
    /// The claim it runs under; a stale one changes nothing.
    pub token: ClaimToken,
    /// How far.
    pub progress: Progress,
}

/// Room for tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRequest {
    /// From this queue.
    pub queue: Name,
    /// Only these types; any type when nothing is given.
    pub types: Option<Arc<[Name]>>,
    /// At most so many.
    pub limit: usize,
}

/// A task in the hands of a node.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// Its place in push order.
    pub seq: i64,
    /// The claim.
    pub token: ClaimToken,
    /// Attempts used up before this run.
    pub attempt: u32,
}

/// What became of a [`Commit`], part by part in the same order.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    /// For each settlement.
    pub settled: Vec<Settled>,
    /// For each insertion, group after group.
    pub inserted: Vec<Inserted>,
    /// For each claim request. Fewer tasks than asked for means that the queue has no more for it now, save those
    /// that [`passed_over`](Receipt::passed_over) and [`held_back`](Receipt::held_back) tell of.
    pub claimed: Vec<Vec<Claimed>>,
    /// Some task moved from `waiting` to `pending`.
    pub freed_waiting: bool,
    /// A claim passed over a task on its last chance because another one runs on this node: that one's end makes
    /// room for it.
    pub passed_over: bool,
    /// Claims that came back with fewer tasks than asked for because limits held some back; at most one for each.
    pub held_back: Vec<HeldBack>,
    /// Rows that a claim met and that cannot run, because they cannot be read: they are `dead` now. Every row that a claim
    /// makes `dead` is named here, or nobody hears of its end.
    pub unreadable: Vec<Unreadable>,
}

/// A row that cannot run, set aside by the claim that met it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The task; nothing when not even its id can be read.
    pub task_id: Option<TaskId>,
    /// Its type.
    pub kind: Name,
    /// Its queue.
    pub queue: Name,
    /// Why it cannot run, as its `last_error` says.
    pub reason: String,
}

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Written.
    Accepted,
    /// Written, but as cancelled: it would have let the task run again, and its cancel was asked for.
    Cancelled,
    /// The claim no longer holds; nothing was written.
    Fenced,
    /// Nothing was written: another transaction, which has not ended, has locked the task. The end is to be sent again later, in
    /// a commit of its own.
    Busy,
}
