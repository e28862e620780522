//! What travels between the actors and a backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::limit::{HeldBack, Limit, Limits};
use crate::clock::Timestamp;
use crate::name::Name;
pub use crate::task::Execution;
use crate::task::{ClaimToken, ExecutionStatus, NodeId, Progress, TaskId, TaskRecord, TaskSpec, TaskState};

/// What a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// The URL scheme.
    pub name: &'static str,
    /// Acknowledged tasks survive the process.
    pub durable: bool,
    /// Several processes may share it.
    pub shared: bool,
    /// Its methods touch no disk and no network, so an actor may call them directly.
    pub never_blocks: bool,
    /// How many commits it can take side by side.
    pub parallel_commits: usize,
    /// It tells by itself what other nodes change, so that looking without a wake-up may be rare.
    pub notifies: bool,
}

impl Capabilities {
    /// A backend that keeps nothing, shares nothing, and blocks.
    pub const fn new(name: &'static str) -> Self {
        Self { name, durable: false, shared: false, never_blocks: false, parallel_commits: 1, notifies: false }
    }
}

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
    pub buried: Vec<Buried>,
}

/// A row that cannot run, set aside by the claim that met it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buried {
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

/// How a queue is to be run, on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// Its name.
    pub queue: Name,
    /// Nothing is claimed from it.
    pub paused: bool,
    /// Concurrency on each node, in place of the configured one.
    pub concurrency: Option<usize>,
}

/// A change to how a queue is to be run; what it does not name stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueChange {
    /// The queue.
    pub queue: Name,
    /// Whether nothing is claimed from it from now on.
    pub paused: Option<bool>,
    /// Concurrency on each node from now on; `Some(None)` goes back to the configured one.
    pub concurrency: Option<Option<usize>>,
}

impl QueueChange {
    /// A change of nothing yet.
    pub fn of(queue: impl Into<Name>) -> Self {
        Self { queue: queue.into(), paused: None, concurrency: None }
    }
}

/// Which tasks. Every field narrows it; the default matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskFilter {
    /// In one of these states; any when empty.
    pub states: Vec<TaskState>,
    /// In one of these queues; any when empty.
    pub queues: Vec<String>,
    /// Of one of these types; any when empty.
    pub types: Vec<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Pushed at or after this time.
    pub created_from: Option<Timestamp>,
    /// Pushed before this time.
    pub created_until: Option<Timestamp>,
    /// With this text in params or last error; upper and lower case of ASCII letters are the same, those of others are
    /// not. All texts of a filter together have at most 10,000 bytes.
    pub text: Option<String>,
}

impl TaskFilter {
    /// The tasks of this filter that `action` may change; nothing when there can be none.
    pub(crate) fn narrowed(&self, action: &EditAction) -> Option<Self> {
        let mut narrow = self.clone();
        if let Some(states) = action.live_only() {
            let wanted = |state: &&TaskState| self.states.is_empty() || self.states.contains(state);
            narrow.states = states.iter().filter(wanted).copied().collect();
            if narrow.states.is_empty() {
                return None;
            }
        }
        Some(narrow)
    }

    /// True when it matches every task.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it, if anything is: not every database can be asked for every text.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_texts("filter", self.queues.iter().chain(&self.types).chain(&self.tag).chain(&self.text))
    }
}

/// The most that databases take in a search, in bytes, with room to spare: SQLite's limit for patterns is 50,000.
const MOST_FILTER_BYTES: usize = 10_000;

/// What is wrong with the texts of a filter together, if anything is.
pub(crate) fn check_texts<'a>(what: &str, texts: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut bytes = 0_usize;
    for text in texts {
        if text.contains('\0') {
            let start: String = text.chars().take(100).collect();
            return Err(format!("the {what} contains the character NUL in {start:?}; leave it out"));
        }
        bytes = bytes.saturating_add(text.len());
    }
    if bytes > MOST_FILTER_BYTES {
        return Err(format!(
            "the texts of the {what} have {bytes} bytes, and {MOST_FILTER_BYTES} are allowed; give fewer or shorter ones"
        ));
    }
    Ok(())
}

/// Which end of the list comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOrder {
    /// The latest push first.
    #[default]
    NewestFirst,
    /// The earliest push first.
    OldestFirst,
}

/// Where the next page begins; opaque to callers, and stable while tasks come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub(crate) i64);

impl Cursor {
    /// The cursor after the task at `seq`.
    pub const fn after(seq: i64) -> Self {
        Self(seq)
    }

    /// The place in push order after which the next page begins.
    pub const fn seq(self) -> i64 {
        self.0
    }
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// Where the next page begins; nothing on the last.
    pub next: Option<Cursor>,
}

/// How many tasks of a queue are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateCount {
    /// The queue.
    pub queue: Name,
    /// The state.
    pub state: TaskState,
    /// How many.
    pub tasks: u64,
}

/// A change to stored tasks.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Which tasks.
    pub selection: Selection,
    /// What to do with them.
    pub action: EditAction,
    /// The time.
    pub now: Timestamp,
    /// At most so many tasks of a filter; [`EditReport::next`] tells where the others begin.
    pub limit: usize,
    /// Of a filter only the tasks behind this place: where the edit before this one ended.
    pub after: Option<Cursor>,
}

/// Which tasks an [`Edit`] is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<TaskId>),
    /// Those that match and that the action can change.
    Filter(TaskFilter),
}

/// What an [`Edit`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditAction {
    /// Call off; the text is the reason.
    Cancel(String),
    /// Run again, now.
    Retry,
    /// Remove.
    Delete,
    /// Change the priority.
    Reprioritise(i32),
    /// Change `run_at`.
    Reschedule(Timestamp),
}

impl EditAction {
    /// The states of tasks that it may change, when these are all states before the end; nothing when tasks that have ended
    /// may be among them.
    pub(crate) fn live_only(&self) -> Option<&'static [TaskState]> {
        use TaskState::{Pending, Retrying, Running, Scheduled, Waiting};
        match self {
            Self::Cancel(_) => Some(&[Waiting, Scheduled, Pending, Running, Retrying]),
            Self::Reprioritise(_) | Self::Reschedule(_) => Some(&[Waiting, Scheduled, Pending, Retrying]),
            Self::Retry | Self::Delete => None,
        }
    }
}

/// Tasks that one edit by a filter looks at, at most: its transaction ends soon also when there is nothing to change among
/// many.
pub(crate) const MOST_LOOKED_AT: usize = 5_000;

/// What an [`Edit`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditReport {
    /// Tasks that were changed.
    pub changed: Vec<TaskId>,
    /// Running tasks that got a cancel request.
    pub cancelling: Vec<TaskId>,
    /// Queues in which tasks came to `pending`.
    pub queues: Vec<Name>,
    /// The filter may match more tasks than this edit has looked at: an edit [`after`](Edit::after) this place does the
    /// others. What it has changed it does not meet again, whatever becomes of that meanwhile. An edit that changed
    /// nothing may have a next place, too.
    pub next: Option<Cursor>,
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

/// JSON text from storage as a value; text that is no JSON becomes a JSON string, so that it is shown.
pub(crate) fn shown_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()))
}
