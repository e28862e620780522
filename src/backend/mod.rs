//! Storage for tasks: the [`Backend`] trait and its implementations.
//!
//! A backend is synchronous and works in batches. The queue collects all work since the last call in a single
//! [`Commit`], and the backend runs it as a single transaction. A backend never sees an actor, and actors never see a
//! connection. All methods take `&self` and may be called from several threads at once.
//!
//! To add a backend, implement [`Backend`], pass the conformance suite, and give it a URL scheme in [`open`].

mod capabilities;
mod commit;
mod env;
mod error;
pub mod memory;
mod open;
mod query;
mod schedules;
#[cfg(feature = "sql")]
pub mod sql;
mod upkeep;

use std::any::Any;
use std::time::Duration;

pub use crate::limit::{HeldBack, Limit, LimitScope, Limits, Rate};
pub use capabilities::Capabilities;
pub use commit::{
    ClaimRequest, Claimed, Commit, ExecutionEnd, InsertGroup, Inserted, Insertion, ProgressUpdate, Receipt, Settled,
    Settlement, Unreadable,
};
pub(crate) use env::url_from_env;
pub use error::BackendError;
pub(crate) use open::{MOST_CONNECTIONS, redact};
pub use open::{OpenOptions, Opened, Synchronous, open};
pub use query::{
    Cursor, Edit, EditAction, EditReport, QueueChange, QueueSettings, Selection, StateCount, TaskFilter, TaskOrder,
    TaskPage,
};
pub(crate) use query::{MOST_LOOKED_AT, check_texts};
pub(crate) use schedules::{Chain, MOST_FIRED, next_turn, replacing};
pub use schedules::{Fired, Run, Saved, ScheduleChanges, ScheduleFilter, ScheduleState, Turn};
pub use upkeep::{InLine, NodeBeat, NodeRecord, Outdated, Released, Rescued, Retention, Sweep, SweepReport};

pub use crate::schedule::{Instance, SkippedTime};
pub use crate::task::Execution;

use crate::clock::Timestamp;
use crate::schedule::{Firing, ScheduleRecord};
use crate::task::{ClaimToken, NodeId, ScheduleId, TaskId, TaskRecord};

/// Stores tasks, their executions, nodes and queue settings.
///
/// # Rules for every implementation
/// - Each method is atomic: it happens wholly or not at all, even if the process dies in the middle.
/// - An error means that nothing happened, except [`BackendError::Unknown`]: then the write may have happened. Every
///   write is idempotent: inserts by task id, settlements by claim token.
/// - An unreadable row (an invalid state, params that are not JSON) never makes a method fail. A claim that reads such
///   a row moves it to `dead` with the reason. Lists show as much of it as they can.
/// - No method panics on bad data, and no method blocks for longer than a few seconds.
pub trait Backend: Send + Sync + 'static {
    /// The features of this backend.
    fn capabilities(&self) -> Capabilities;

    /// The time of storage, if it has a clock of its own. Leases and due times then follow this clock, so that nodes
    /// with different clocks agree.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn time(&self) -> Result<Option<Timestamp>, BackendError> {
        Ok(None)
    }

    /// The reason why storage is full, or `None` while it has room. Pushes are rejected with this reason. Work already
    /// in flight is still written. Every push calls this, so it takes no lock and returns at once.
    fn full(&self) -> Option<String> {
        None
    }

    /// Records progress, settles finished runs, inserts pushed tasks, and claims the next tasks, in this order and in a
    /// single transaction.
    ///
    /// - **Settle**: a settlement applies only to a row that is `running` under its token. Otherwise it answers
    ///   [`Settled::Fenced`] and changes nothing. An applied settlement writes its execution row and clears node, token
    ///   and the cancel request. It sets `crash_count` to 0. A release (a settlement without `execution`) instead
    ///   subtracts the 1 that the claim added to `crash_count`. If a cancel was requested and the settlement would let
    ///   the task run again, the task becomes `cancelled`, so that no request is lost; the answer is then
    ///   [`Settled::Cancelled`]. The error or result of the run becomes the task's `last_error` or `result`. If the run
    ///   has none, the value of an earlier run stays. When this or any other method makes a task terminal, the tasks
    ///   that wait for it (`waiting`, `parent_id`) become `pending`, or `scheduled` if their `run_at` lies ahead. The
    ///   terminal task passes its unique key on to them.
    /// - **Insert**: a group is all or nothing. A known `task_id` is a duplicate and changes nothing. If a unique key
    ///   is held (see [`holds_key`](crate::task::holds_key)), its [`UniqueMode`](crate::task::UniqueMode) decides. If
    ///   the stored holder no longer holds it, the new task takes the key, and the old holder's record then shows none.
    ///   If the holder is terminal but holds its key for a period, `replace` and `keep_latest` answer with a duplicate.
    ///   With `keep_latest` and a running holder, the task is stored as `waiting` with the holder as its parent. As
    ///   long as such a task waits, the next push replaces it, even if its parent has become `pending` again. A commit
    ///   does not wait for a unique key or a task that a different transaction has locked, or at most for one second.
    ///   It answers [`Inserted::Busy`] or [`Settled::Busy`], and the push or end is sent again later with
    ///   [`Commit::again`]. Storage without such transactions gives neither answer. An insertion with `claim` set
    ///   becomes `running` under the commit's token at once, without being read back.
    /// - **Claim**: each request takes up to `limit` pending tasks of its queue and types, by priority, then `run_at`,
    ///   then push order. A claim writes node, token and start, and adds 1 to `crash_count`. A task whose `crash_count`
    ///   is 2 or more before the claim is on its last chance. At most one such task runs on a node at a time, so that a
    ///   task that kills its process is found without killing its neighbours. If a claim passed over such a task, the
    ///   receipt says so.
    /// - **Limits** hold over all nodes: a claim takes a task only if each limit that applies to it has room. A limit
    ///   of running tasks counts every `running` task, no matter which node started it and how. A rate counts the
    ///   claims in the period that ends with `now`; the beginning of the period is exclusive. A held-back task does not
    ///   block the tasks behind it, up to 5,000 tasks that a claim looks through. Concurrent claims of several nodes
    ///   never exceed a limit together. A claim looks only at the limits that the commit names, in the form that
    ///   storage has them. The receipt names the claims that a limit made come back short, and the time of the next
    ///   try.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn commit(&self, commit: &Commit) -> Result<Receipt, BackendError>;

    /// The same as [`commit`](Backend::commit), on a connection of the application and inside its open transaction. The
    /// writes become visible if that transaction commits, and are undone if it rolls back. `commit` has no progress and
    /// no claims. After an error no part of it is left, and the transaction may be unusable.
    ///
    /// `conn` is a connection of the type that this backend uses itself. All nodes, this one included, learn of the
    /// committed changes by [`watch`](Backend::watch).
    ///
    /// # Errors
    /// [`BackendError::Connection`] if the connection leads to a different database or has no open transaction.
    /// [`BackendError::Unsupported`] from a backend in whose storage an application has no connections of its own.
    /// Otherwise any [`BackendError`].
    fn commit_in(&self, conn: &mut dyn Any, commit: &Commit) -> Result<Receipt, BackendError> {
        let _ = (conn, commit);
        Err(BackendError::Unsupported("take part in a transaction of the application"))
    }

    /// Promotes due tasks, cancels expired tasks, rescues the tasks of dead nodes, and reports changes that this node
    /// needs to know. Idempotent. `sweep.limit` bounds each kind of work.
    ///
    /// - **Expire** runs first: waiting, scheduled, pending and retrying tasks with `expires_at <= now` become
    ///   `cancelled`, with a `last_error` that says `expired`. This applies only to tasks that were never claimed,
    ///   which their `started_at` shows. **Promote**: scheduled and retrying tasks with `run_at <= now` become
    ///   `pending` and keep their `run_at`. A waiting task whose parent no longer exists becomes `pending` too.
    /// - **Rescue**: applies to a running task whose node has no row, or a lease that ended before `now`. The task gets
    ///   an execution row with status `lost` and keeps `attempt` and `crash_count`. It becomes `cancelled` if its
    ///   cancel was requested. Otherwise it becomes `dead` if `crash_count` has reached `crash_limit`, with the
    ///   `last_error` `crash loop: its node died N times while it ran`. Otherwise it becomes `pending`. The row of a
    ///   dead node is removed with its last task. The sweeping node (`sweep.node`) counts as alive because it sweeps.
    ///   Its tasks and its row are left alone, even if its row is missing or its lease has ended by the clock, for
    ///   example after a suspended machine wakes.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn sweep(&self, sweep: &Sweep) -> Result<SweepReport, BackendError>;

    /// Records a heartbeat of a node and renews its lease. Creates the node's row if it is missing.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn heartbeat(&self, beat: &NodeBeat) -> Result<(), BackendError>;

    /// Releases the tasks that `node` holds and whose token is not in `keep`. They become pending again at once,
    /// without using up an attempt or counting a crash. A task whose cancel was requested becomes cancelled instead.
    /// With `retire` the node's row is removed too.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn release(
        &self,
        node: NodeId,
        keep: &[(TaskId, ClaimToken)],
        retire: bool,
        now: Timestamp,
    ) -> Result<Released, BackendError>;

    /// Reads one task.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn get(&self, task_id: TaskId) -> Result<Option<TaskRecord>, BackendError>;

    /// The attempts at a task, oldest first. An attempt in progress is included with status `running`.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn executions(&self, task_id: TaskId) -> Result<Vec<Execution>, BackendError>;

    /// One page of the tasks that match `filter`.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn list(
        &self,
        filter: &TaskFilter,
        order: TaskOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, BackendError>;

    /// The number of tasks in each state of each queue; pairs without tasks are left out.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn counts(&self) -> Result<Vec<StateCount>, BackendError>;

    /// Applies `edit` to the tasks that it selects. A filter selects at most `edit.limit` tasks in push order, starting
    /// behind `edit.after`. The report says where the next edit continues. So a sequence of edits meets each task once,
    /// even a task that matches again at once. An edit stops after looking at a few thousand tasks, so that its
    /// transaction stays short even if there is nothing to change. A filter skips tasks that the action would leave
    /// unchanged (the same priority or `run_at`, a cancel already requested).
    ///
    /// - `Cancel`: a task that is not running becomes `cancelled`; a running task gets a cancel request.
    /// - `Retry`: a terminal, scheduled or retrying task becomes `pending` now. A terminal task also gets its attempts
    ///   and crashes reset to 0, and its `expires_at` no longer applies. A running or pending task is left alone, and
    ///   so is a terminal task whose unique key is now held by a different task.
    /// - `Delete`: removes the task and its executions, unless the task is running.
    /// - `Reprioritise`, `Reschedule`: change tasks that are neither running nor terminal. A time that has come makes a
    ///   scheduled or retrying task pending. A time that lies ahead makes a pending task scheduled.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn edit(&self, edit: &Edit) -> Result<EditReport, BackendError>;

    /// Changes the settings of a queue; the nodes read them with their next sweep. Fields that the change does not name
    /// keep their value, even if they are changed concurrently. A queue without settings is not paused and has no
    /// concurrency of its own.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn change_queue(&self, change: &QueueChange) -> Result<(), BackendError>;

    /// All stored queue settings, by name.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn queues(&self) -> Result<Vec<QueueSettings>, BackendError>;

    /// Stores a limit and replaces a limit with the same scope and name. Starts that its rate remembers stay as long as
    /// the limit has a rate.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn save_limit(&self, limit: &Limit) -> Result<(), BackendError>;

    /// Removes a limit with the starts that it remembers; false if the limit did not exist.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn remove_limit(&self, scope: LimitScope, name: &str) -> Result<bool, BackendError>;

    /// All stored limits, by scope and name.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn limits(&self) -> Result<Vec<Limit>, BackendError>;

    /// All known nodes, by name.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn nodes(&self) -> Result<Vec<NodeRecord>, BackendError>;

    /// The pending tasks at the front of up to `queues` queues, counted by type. It reads the queues with pending tasks
    /// whose name follows `after`, by name. Of each it reads the first `most` pending tasks, in claim order, and no
    /// more rows than that. Empty if storage does not support it.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn in_line(&self, after: Option<&str>, queues: usize, most: usize) -> Result<Vec<InLine>, BackendError> {
        let _ = (after, queues, most);
        Ok(Vec::new())
    }

    /// Stores a schedule. Without `turn` it is new; otherwise it overwrites the row that has this `turn`. The row gets
    /// the next turn, and the turn in `record` is ignored. The row becomes part of
    /// [`schedule_changes`](Backend::schedule_changes).
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn save_schedule(&self, record: &ScheduleRecord, turn: Option<i64>) -> Result<Saved, BackendError>;

    /// Schedules that were saved after `version`. A `version` of 0 returns all schedules that fire. Versions start at
    /// 1, so a negative `version` returns every schedule, deleted ones included. Firings do not count as changes,
    /// because a node reads the row of each due schedule anyway.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedule_changes(&self, version: i64) -> Result<ScheduleChanges, BackendError>;

    /// Up to `limit` schedules that fire and whose cursor lies after `now`, those with the latest next time. They exist
    /// after a clock was set ahead and back, and after a cursor was moved ahead.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedules_ahead(&self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, BackendError>;

    /// These schedules with the data that a decision about them needs, in any order. Unknown ids are left out.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedules(&self, ids: &[ScheduleId]) -> Result<Vec<ScheduleState>, BackendError>;

    /// The id of the schedule with this name, a deleted one included.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedule_named(&self, name: &str) -> Result<Option<ScheduleId>, BackendError>;

    /// The id of the schedule that code defines under this name ([`code_name`](ScheduleRecord::code_name)), a deleted
    /// one included. Its present name may differ.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedule_defined(&self, name: &str) -> Result<Option<ScheduleId>, BackendError>;

    /// Up to `limit` schedules that match and whose name follows `after`, by name.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn list_schedules(
        &self,
        filter: &ScheduleFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, BackendError>;

    /// Writes decisions in one transaction. Each decision is written wholly or not at all.
    ///
    /// A decision writes nothing if its row has a different turn by now. It also writes nothing while a concurrent
    /// transaction writes to its row, or to a task that it cancels or waits for, because no decision waits for a lock.
    /// Otherwise it does the following:
    ///
    /// - It cancels the tasks in `cancel`.
    /// - It stores the runs as `pending`, or as `waiting` behind the task that they follow.
    /// - It writes status, cursor and next time to the row, and counts the runs that the clock made.
    /// - It writes one history row for each nominal time.
    ///
    /// A nominal time that already has a task, or had a task that was deleted, makes no task and gets no history row.
    /// The history row of a skipped time is overwritten if that time runs after all.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn fire(&self, turns: &[Turn]) -> Result<Vec<Fired>, BackendError>;

    /// The history of a schedule before the nominal time `before`, latest first, at most `limit` entries.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn firings(
        &self,
        schedule_id: ScheduleId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Firing>, BackendError>;

    /// Removes schedules with their history: schedules deleted before `deleted_before`, and finished schedules whose
    /// last change, last firing and cursor all lie before `finished_before`. Schedules defined by code stay, because
    /// their row tells a later start that they have ended.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn forget_schedules(
        &self,
        deleted_before: Timestamp,
        finished_before: Option<Timestamp>,
    ) -> Result<(), BackendError>;

    /// Finds finished tasks that the retention rules do not keep. Each rule returns the tasks that finished first, at
    /// most `limit` for all rules together. Rules for states that are not terminal find nothing. A task that holds its
    /// unique key for a period is kept until that period is over at `now`. This method only reads, because it may have
    /// to count a long history.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn outdated(&self, rules: &[Retention], now: Timestamp, limit: usize) -> Result<Vec<Outdated>, BackendError>;

    /// Deletes tasks that [`outdated`](Backend::outdated) found, with their executions, and returns their ids. Tasks
    /// that became active again or were deleted since then are skipped.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn prune(&self, tasks: &[Outdated]) -> Result<Vec<TaskId>, BackendError>;

    /// Succeeds if storage can be read.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn health(&self) -> Result<(), BackendError>;

    /// Blocks until a different process may have changed something (true), or `timeout` has passed (false). Called on a
    /// thread of its own.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn watch(&self, timeout: Duration) -> Result<bool, BackendError>;

    /// The number of transactions since the start that were aborted by a conflict and retried (deadlocks, serialisation
    /// failures, a key taken at the same moment).
    fn conflicts(&self) -> u64 {
        0
    }
}
