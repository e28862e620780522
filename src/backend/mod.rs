//! What keeps tasks: the [`Backend`] trait, and the backends.
//!
//! A backend is synchronous and works in batches: the queue hands it everything that gathered since the last
//! call as one [`Commit`], and the backend makes it one transaction. It never sees an actor, and actors never see
//! a connection. All of its methods take `&self` and may be called from several threads at once.
//!
//! Adding one: implement [`Backend`], pass the conformance suite, and give it a URL scheme in [`open`].

mod capabilities;
mod commit;
mod env;
mod error;
pub mod memory;
mod open;
mod query;
mod schedules;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
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
use crate::task::ScheduleId;
use crate::task::{ClaimToken, NodeId, TaskId, TaskRecord};

/// Keeps tasks, their executions, nodes and queue settings.
///
/// # Rules for every implementation
/// - Each method is atomic: it happens wholly or not at all, also when the process dies in the middle.
/// - An error means that nothing happened, save [`BackendError::Unknown`]: then it may have. Every write can be
///   repeated safely: inserts by task id, settlements by claim token.
/// - A row that cannot be read (a state that is no state, params that are no JSON) never makes a method fail: it
///   is moved to `dead` with the reason when a claim meets it, and shown as well as possible in lists.
/// - No method panics on bad data, and none blocks for longer than a few seconds.
pub trait Backend: Send + Sync + 'static {
    /// What this backend can and cannot do.
    fn capabilities(&self) -> Capabilities;

    /// What time it is in storage, when it has a clock of its own: leases and due times then go by it, so that nodes
    /// whose clocks differ agree.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn time(&self) -> Result<Option<Timestamp>, BackendError> {
        Ok(None)
    }

    /// Why there is no room for new tasks, when there is none: pushes are refused with it. What is under way is written all
    /// the same. Asked for each push, so it takes no lock and no time.
    fn full(&self) -> Option<String> {
        None
    }

    /// One transaction that records progress, settles finished runs, inserts pushed tasks, and claims the next
    /// tasks, in this order.
    ///
    /// - **Settle**: a settlement applies only to a row that is `running` under its token; otherwise it answers
    ///   [`Settled::Fenced`] and changes nothing. An applied one writes its execution row, sets `crash_count` to 0
    ///   unless it is a release (no `execution`), which gives the crash count back the 1 that the claim added, and
    ///   clears node, token and the cancel request. One that would let the task run again makes it `cancelled`
    ///   instead when its cancel was asked for, so that no request is lost, and answers [`Settled::Cancelled`]. An error
    ///   or a result of the run becomes the task's `last_error` or `result`; a run without one leaves what an earlier
    ///   run wrote. A task that came to a terminal state, by this or any other method, sets the tasks that waited for it (`waiting`, `parent_id`) to `pending`, or to
    ///   `scheduled` when their `run_at` lies ahead, and passes its unique key on to them.
    /// - **Insert**: a group is all or nothing. A known `task_id` is a duplicate and changes nothing. A unique key
    ///   that is held (see [`holds_key`](crate::task::holds_key)) is treated by its
    ///   [`UniqueMode`](crate::task::UniqueMode); one that is no longer held is taken from its old holder, whose
    ///   record then shows none. A holder that is terminal, but holds its key for a period, is a duplicate to
    ///   `replace` and `keep_latest`. With `keep_latest` and a running holder the task is stored as `waiting` with
    ///   the holder as its parent; while one waits, also when its parent is back in line, the next push replaces
    ///   that one.
    ///   A group whose key, and an end whose task, another transaction has locked is not waited for, at least not for longer
    ///   than a second: it answers [`Inserted::Busy`] or [`Settled::Busy`] and is sent again later, with
    ///   [`Commit::again`]. Storage in which no such transactions are gives neither answer.
    ///   An insertion with `claim` set becomes `running` under the commit's token at once, without being read back.
    /// - **Claim**: per request up to `limit` pending tasks of its queue and types, by priority, then
    ///   `run_at`, then push order. A claim writes node, token and start, and adds 1 to `crash_count`. Tasks whose
    ///   `crash_count` is 2 or more before the claim are on their last chance: at most one of them runs on a node at a time, so that
    ///   the one that kills its process is found without taking its neighbours with it. A receipt whose claims passed
    ///   one over says so.
    /// - **Limits** hold over all nodes: a claim takes a task only when each limit that applies to it has room. Of a
    ///   limit of running tasks those count that are `running`, whoever started them and however; of a rate the claims
    ///   in the span of the period that ends with `now`, its beginning not included. A task that is held back does not
    ///   hold up those behind it, up to 5,000 that a claim looks through. Nodes that claim side by side never exceed a
    ///   limit together. Only limits that the commit names are looked at, as storage has them. A receipt says which
    ///   claims came back short for it, and when to ask again.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn commit(&self, commit: &Commit) -> Result<Receipt, BackendError>;

    /// The same on a connection of the application, as a part of the transaction that is open there: what is settled and
    /// inserted is so if that transaction commits, and not if it does not. A commit without progress and without claims.
    /// On an error nothing is left of it, and the transaction may be good for nothing more.
    ///
    /// `conn` is a connection of the kind that this backend uses itself. Other nodes, and this one, are to notice by
    /// [`watch`](Backend::watch) what has been committed.
    ///
    /// # Errors
    /// [`BackendError::Connection`] when the connection leads elsewhere or no transaction is open on it, and any other
    /// [`BackendError`]; [`BackendError::Unsupported`] from a backend that keeps tasks where an application has no
    /// connections of its own.
    fn commit_in(&self, conn: &mut dyn Any, commit: &Commit) -> Result<Receipt, BackendError> {
        let _ = (conn, commit);
        Err(BackendError::Unsupported("take part in a transaction of the application"))
    }

    /// Promotes what is due, cancels what expired, rescues the tasks of dead nodes, and reports what this node
    /// should know. Safe to repeat; each kind of work is bounded by `sweep.limit`.
    ///
    /// - **Expire**, first: waiting, scheduled, pending and retrying tasks with `expires_at <= now` that were never claimed
    ///   (their `started_at` says so) become `cancelled`, with a `last_error` that says `expired`. **Promote**: scheduled and retrying tasks with
    ///   `run_at <= now` become `pending` and keep their `run_at`; so does a waiting one whose parent is gone.
    /// - **Rescue**: a running task whose node has a lease that ended before `now`, or no row, gets an execution
    ///   row with status `lost`, keeps `attempt` and `crash_count`, and becomes `pending`; `cancelled` when its
    ///   cancel was asked for; else `dead` when `crash_count` has come to `crash_limit`, with the `last_error`
    ///   `crash loop: its node died N times while it ran`. The row of a dead node goes with the last of its tasks.
    ///   The node that sweeps (`sweep.node`) is alive by that: its tasks and its row are left alone, also when its
    ///   lease has ended by the clock, as after a suspended machine wakes, and when its row is gone.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn sweep(&self, sweep: &Sweep) -> Result<SweepReport, BackendError>;

    /// Says that a node lives, and renews its lease. Creates its row when it is not there.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn heartbeat(&self, beat: &NodeBeat) -> Result<(), BackendError>;

    /// Gives back the tasks that `node` holds and whose token is not in `keep`: they become pending again, at
    /// once, without using up an attempt or counting a crash; one whose cancel was asked for becomes cancelled.
    /// With `retire` the node's row goes too.
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

    /// One task.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn get(&self, task_id: TaskId) -> Result<Option<TaskRecord>, BackendError>;

    /// The attempts at a task, oldest first; one that is under way is included with status `running`.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn executions(&self, task_id: TaskId) -> Result<Vec<Execution>, BackendError>;

    /// Tasks that match `filter`, one page.
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

    /// How many tasks there are in each state of each queue; pairs without tasks are left out.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn counts(&self) -> Result<Vec<StateCount>, BackendError>;

    /// Applies `edit` to what it selects. Of a filter these are at most `edit.limit` tasks in push order, those behind
    /// `edit.after`; the report says where to go on, so that a row of edits meets each task once, also one that matches
    /// again at once. It ends after a few thousand tasks that it has looked at, so that its transaction is short also when
    /// there is nothing to change. A filter passes by tasks that the action would leave as they are (the same priority or `run_at`, a
    /// cancel that was asked for already).
    ///
    /// - `Cancel`: a task that is not running becomes `cancelled`; a running one gets its cancel request.
    /// - `Retry`: a terminal, scheduled or retrying task becomes `pending` now, a terminal one with its attempts
    ///   and crashes back at 0 and no longer bound to start before its `expires_at`. A running or pending one is left alone, and so is a terminal one whose unique key
    ///   another task holds now.
    /// - `Delete`: the task and its executions go, unless it is running.
    /// - `Reprioritise`, `Reschedule`: for tasks that are neither running nor terminal. A time that has come makes a
    ///   scheduled or retrying task pending, one that lies ahead makes a pending one scheduled.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn edit(&self, edit: &Edit) -> Result<EditReport, BackendError>;

    /// Changes how a queue is to be run; it reaches the nodes with their next sweep. What the change does not name stays as
    /// it is, also when somebody else changes it at the same time; a queue without settings is neither paused nor has it
    /// a concurrency of its own.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn change_queue(&self, change: &QueueChange) -> Result<(), BackendError>;

    /// All stored queue settings, by name.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn queues(&self) -> Result<Vec<QueueSettings>, BackendError>;

    /// Stores a limit, in place of one with the same scope and name. Starts that its rate remembers stay, for as long as
    /// it has a rate.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn save_limit(&self, limit: &Limit) -> Result<(), BackendError>;

    /// Removes a limit with the starts that it remembers; false when there was none.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn remove_limit(&self, scope: LimitScope, name: &str) -> Result<bool, BackendError>;

    /// All stored limits, by scope and name.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn limits(&self) -> Result<Vec<Limit>, BackendError>;

    /// The nodes that are known, by name.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn nodes(&self) -> Result<Vec<NodeRecord>, BackendError>;

    /// What is first in line: of up to `queues` queues that have pending tasks, those after the name `after`, by name, the
    /// first `most` pending tasks in the order in which they would be claimed, counted by type. Reads no more rows than
    /// that. Nothing where storage cannot say it.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn in_line(&self, after: Option<&str>, queues: usize, most: usize) -> Result<Vec<InLine>, BackendError> {
        let _ = (after, queues, most);
        Ok(Vec::new())
    }

    /// Stores a schedule: a new one without `turn`, else over the row that has this `turn`. Its row gets the next turn,
    /// whatever `record` says, and becomes part of [`schedule_changes`](Backend::schedule_changes).
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn save_schedule(&self, record: &ScheduleRecord, turn: Option<i64>) -> Result<Saved, BackendError>;

    /// Schedules that were saved after `version`; all that fire when it is 0. What is saved has a version above 0, so one
    /// below 0 asks for all that ever was. Firings are no changes: whoever finds a schedule due looks at its row anyway.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedule_changes(&self, version: i64) -> Result<ScheduleChanges, BackendError>;

    /// Schedules that fire, and whose cursor lies after `now`: at most `limit` of those that fire last. There are some after a
    /// clock that was set ahead and back, and where a cursor was moved ahead.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedules_ahead(&self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, BackendError>;

    /// These schedules with what a decision about them needs, in any order; unknown ids are left out.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedules(&self, ids: &[ScheduleId]) -> Result<Vec<ScheduleState>, BackendError>;

    /// The id of the schedule with this name, a deleted one included.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedule_named(&self, name: &str) -> Result<Option<ScheduleId>, BackendError>;

    /// The id of the schedule that code has defined under this name ([`code_name`](ScheduleRecord::code_name)), whatever it
    /// is called now, a deleted one included.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn schedule_defined(&self, name: &str) -> Result<Option<ScheduleId>, BackendError>;

    /// Up to `limit` schedules that match, by name, those after the name `after`.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn list_schedules(
        &self,
        filter: &ScheduleFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, BackendError>;

    /// Writes decisions, each of them wholly or not at all, and all of them in one transaction.
    ///
    /// A turn whose row has another turn by now writes nothing, nor does one while another transaction
    /// writes to its row or to a task that it calls off or waits for: none waits for a lock. Otherwise the tasks in `cancel` are called off, the runs
    /// are stored as `pending`, or as `waiting` behind the one that they follow, the row takes over status, cursor and
    /// next time and counts what was made by the clock, and each nominal time gets its row of history. A nominal time
    /// that has a task already, or had one that is gone, gets none; that of a time which was passed by is written over
    /// when it runs after all.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn fire(&self, turns: &[Turn]) -> Result<Vec<Fired>, BackendError>;

    /// The history of a schedule before the nominal time `before`, the latest first, at most `limit`.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn firings(
        &self,
        schedule_id: ScheduleId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Firing>, BackendError>;

    /// Removes schedules that were deleted before `deleted_before`, and those that have finished and were changed, fired and
    /// had their cursor before `finished_before`, with their history. Those that code defines stay, for that is how a later
    /// start knows of their end.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn forget_schedules(
        &self,
        deleted_before: Timestamp,
        finished_before: Option<Timestamp>,
    ) -> Result<(), BackendError>;

    /// Finds finished tasks that the retention rules do not keep: for each rule those that finished first, at most `limit`
    /// of all. Rules for states that are not terminal find nothing. Tasks that hold their unique key for a period that is not
    /// over at `now` are kept until then. A long history may have to be counted for it, so this only reads.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn outdated(&self, rules: &[Retention], now: Timestamp, limit: usize) -> Result<Vec<Outdated>, BackendError>;

    /// Deletes tasks that were found to be [`outdated`](Backend::outdated), with their executions, and names them. Those
    /// that came back to life since, or are gone, are passed by.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn prune(&self, tasks: &[Outdated]) -> Result<Vec<TaskId>, BackendError>;

    /// Answers when storage can be read.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn health(&self) -> Result<(), BackendError>;

    /// Blocks until another process may have changed something (true), or `timeout` has passed (false). Called on
    /// a thread of its own.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn watch(&self, timeout: Duration) -> Result<bool, BackendError>;

    /// How many transactions since the start were given up because others were in their way (deadlocks, serialisation
    /// failures, a key taken at the same moment), and done once more.
    fn conflicts(&self) -> u64 {
        0
    }
}
