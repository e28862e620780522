//! A database as a [`Backend`]: which operations read, which write, and which are retried.

use std::any::Any;
use std::cell::Cell;
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::{AnsiTransactionManager, Connection};

use super::conn::Conn;
use super::errors::Abort;
use super::id_repair;
use super::transaction;
use super::work::{self, Aside, Batch, in_line, limits, nodes, prune, read, rescue, schedules};
use crate::backend::{
    Backend, BackendError, Capabilities, Commit, Cursor, Edit, EditReport, Execution, Fired, InLine, Limit,
    LimitScope, NodeBeat, NodeRecord, Outdated, QueueChange, QueueSettings, Receipt, Released, Retention, Saved,
    ScheduleChanges, ScheduleFilter, ScheduleState, StateCount, Sweep, SweepReport, TaskFilter, TaskOrder, TaskPage,
    Turn,
};
use crate::clock::Timestamp;
use crate::schedule::{Firing, ScheduleRecord};
use crate::task::{ClaimToken, NodeId, ScheduleId, TaskId, TaskRecord};

/// A database: its connections, and the operations that differ between databases.
pub(super) trait Database: Send + Sync + 'static {
    type Conn: Conn + Connection<TransactionManager = AnsiTransactionManager>;

    /// True if an empty write transaction blocks no other. If false, a reader checks first, and the write transaction
    /// is opened only when there is work.
    const WRITERS_SIDE_BY_SIDE: bool;

    fn capabilities(&self) -> Capabilities;

    /// Runs `work` in a transaction, and retries it after database errors that a retry resolves.
    fn write<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut Self::Conn) -> Result<T, Abort>,
    ) -> Result<T, Abort>;

    /// The same as [`write`](Database::write), for work of a single statement. A database may override it to save
    /// round trips.
    fn write_alone<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut Self::Conn) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        self.write(operation, work)
    }

    /// Runs `work`, which only reads, on a connection for reading.
    fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut Self::Conn) -> QueryResult<T>,
    ) -> Result<T, BackendError>;

    /// Runs `work` on a connection of the application, in a savepoint of its transaction. It makes sure that the
    /// statements use the tables of this database, and restores the connection's settings afterwards. Settings that it
    /// cannot restore are undone by the end of the savepoint.
    fn visit<T>(
        &self,
        conn: &mut Self::Conn,
        work: impl FnOnce(&mut Self::Conn) -> Result<T, Abort>,
    ) -> Result<T, Abort>;

    /// See [`Backend::time`].
    fn time(&self) -> Result<Option<Timestamp>, BackendError>;

    /// See [`Backend::watch`].
    fn watch(&self, timeout: Duration) -> Result<bool, BackendError>;

    /// The largest packet that the server accepts, in bytes.
    fn packet(&self) -> usize {
        usize::MAX
    }

    /// See [`Backend::conflicts`].
    fn conflicts(&self) -> u64 {
        0
    }

    /// Called after a write of which other nodes should learn, for example after new tasks that they may run.
    fn written(&self);
}

/// A backend on the database `D`.
pub struct Sql<D>(pub(super) D);

impl<D> std::fmt::Debug for Sql<D>
where
    D: std::fmt::Debug,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

pub(super) fn write<D: Database, T>(
    database: &D,
    operation: &'static str,
    work: impl FnMut(&mut D::Conn) -> Result<T, Abort>,
) -> Result<T, BackendError> {
    database.write(operation, work).map_err(|abort| abort.into_error(operation))
}

/// True for a commit that only stores a single task without extras. That is a single statement, so it is atomic.
fn is_one_push(commit: &Commit) -> bool {
    let Commit { settle, progress, claim, insert, .. } = commit;
    let rest = settle.is_empty() && progress.is_empty() && claim.is_empty();
    rest && matches!(&insert[..], [group] if matches!(&group.tasks[..], [task] if task.spec.extras.is_none()))
}

/// Records the change for nodes that cannot be notified of it, and returns `done`.
fn marked<C: Conn, T>(conn: &mut C, done: T) -> Result<T, Abort> {
    conn.mark_change()?;
    Ok(done)
}

/// Commits `commit`, but leaves out the parts whose rows a different transaction has locked.
fn commit_around<D: Database>(database: &D, commit: &Commit) -> Result<Receipt, Abort> {
    let packet = database.packet();
    // A commit that is sent again holds a part that was deferred before and may still be locked. So it is careful from
    // the start, because it must not wait for that lock.
    let (mut careful, mut aside) = (commit.again, Aside::default());
    // A lock was not free in time, and the work is repeated because of that.
    let waited = Cell::new(false);
    loop {
        let alone = !careful && is_one_push(commit);
        let awaits_limits = !waited.get();
        let work = |conn: &mut D::Conn| {
            let batch =
                Batch { packet, alone, aside: aside.clone(), awaits_limits, ..Batch::new(conn, commit, careful) };
            match batch.run() {
                Err(Abort::Busy) if !careful => Err(Abort::Surprise),
                Err(Abort::Sql(error)) if awaits_limits && D::Conn::gave_up_waiting(&error) => {
                    waited.set(true);
                    Err(Abort::Surprise)
                }
                outcome => outcome,
            }
        };
        let outcome = if alone { database.write_alone("commit", work) } else { database.write("commit", work) };
        match outcome {
            Err(Abort::Surprise) if !careful || (awaits_limits && waited.get()) => careful = true,
            Err(Abort::Aside(group)) => aside.add(group),
            outcome => return outcome,
        }
    }
}

impl<D: Database> Backend for Sql<D> {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn time(&self) -> Result<Option<Timestamp>, BackendError> {
        self.0.time()
    }

    fn commit(&self, commit: &Commit) -> Result<Receipt, BackendError> {
        let only_claims = commit.settle.is_empty() && commit.insert.is_empty() && commit.progress.is_empty();
        let look = only_claims && !D::WRITERS_SIDE_BY_SIDE;
        if look && !self.0.read("claim", |conn| work::any_claim(conn, commit))? {
            let claimed = commit.claim.iter().map(|_| Vec::new()).collect();
            return Ok(Receipt { claimed, ..Receipt::default() });
        }
        commit_around(&self.0, commit).map_err(|abort| abort.into_error("commit")).inspect(|receipt| {
            let pushed = commit.insert.iter().any(|group| group.tasks.iter().any(|task| !task.claim));
            if receipt.freed_waiting || pushed || commit.frees {
                self.0.written();
            }
        })
    }

    fn commit_in(&self, conn: &mut dyn Any, commit: &Commit) -> Result<Receipt, BackendError> {
        transaction::commit(&self.0, conn, commit)
    }

    fn sweep(&self, sweep: &Sweep) -> Result<SweepReport, BackendError> {
        let mut report = SweepReport::default();
        let (mut glance, is_work) = self.0.read("sweep", |conn| work::glance(conn, sweep))?;
        if is_work {
            report = write(&self.0, "sweep", |conn| work::sweep(conn, sweep))?;
            if !report.promoted.is_empty() {
                self.0.written();
            }
            (glance, _) = self.0.read("sweep", |conn| work::glance(conn, sweep))?;
        }
        self.0.read("sweep", |conn| work::look(conn, sweep, &glance, &mut report))?;
        Ok(report)
    }

    fn heartbeat(&self, beat: &NodeBeat) -> Result<(), BackendError> {
        let beat = |conn: &mut D::Conn| nodes::beat(conn, beat);
        self.0.write_alone("heartbeat", beat).map_err(|abort| abort.into_error("heartbeat"))
    }

    fn release(
        &self,
        node: NodeId,
        keep: &[(TaskId, ClaimToken)],
        retire: bool,
        now: Timestamp,
    ) -> Result<Released, BackendError> {
        write(&self.0, "release", |conn| rescue::release(conn, node, keep, retire, now)).inspect(|_| self.0.written())
    }

    fn get(&self, task_id: TaskId) -> Result<Option<TaskRecord>, BackendError> {
        self.0.read("get", |conn| read::get(conn, task_id))
    }

    fn executions(&self, task_id: TaskId) -> Result<Vec<Execution>, BackendError> {
        self.0.read("executions", |conn| read::executions(conn, task_id))
    }

    fn list(
        &self,
        filter: &TaskFilter,
        order: TaskOrder,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<TaskPage, BackendError> {
        self.0.read("list", |conn| read::list(conn, filter, order, after, limit))
    }

    fn counts(&self) -> Result<Vec<StateCount>, BackendError> {
        self.0.read("counts", read::counts)
    }

    fn edit(&self, edit: &Edit) -> Result<EditReport, BackendError> {
        let changes = |report: &EditReport| !report.changed.is_empty() || !report.cancelling.is_empty();
        let edit = |conn: &mut D::Conn| {
            let report = work::edit(conn, edit)?;
            if changes(&report) { marked(conn, report) } else { Ok(report) }
        };
        write(&self.0, "edit", edit).inspect(|report| {
            if changes(report) {
                self.0.written();
            }
        })
    }

    fn change_queue(&self, change: &QueueChange) -> Result<(), BackendError> {
        write(&self.0, "change queue", |conn| nodes::change_queue(conn, change).and_then(|()| marked(conn, ())))
            .inspect(|()| self.0.written())
    }

    fn queues(&self) -> Result<Vec<QueueSettings>, BackendError> {
        self.0.read("queues", nodes::queues)
    }

    fn save_limit(&self, limit: &Limit) -> Result<(), BackendError> {
        write(&self.0, "save_limit", |conn| limits::save(conn, limit).and_then(|()| marked(conn, ())))
            .inspect(|()| self.0.written())
    }

    fn remove_limit(&self, scope: LimitScope, name: &str) -> Result<bool, BackendError> {
        let remove = |conn: &mut D::Conn| limits::remove(conn, scope, name).and_then(|removed| marked(conn, removed));
        write(&self.0, "remove_limit", remove).inspect(|_| self.0.written())
    }

    fn limits(&self) -> Result<Vec<Limit>, BackendError> {
        self.0.read("limits", limits::limits)
    }

    fn in_line(&self, after: Option<&str>, queues: usize, most: usize) -> Result<Vec<InLine>, BackendError> {
        self.0.read("in line", |conn| in_line::in_line(conn, after, queues, most))
    }

    fn nodes(&self) -> Result<Vec<NodeRecord>, BackendError> {
        self.0.read("nodes", nodes::nodes)
    }

    fn save_schedule(&self, record: &ScheduleRecord, turn: Option<i64>) -> Result<Saved, BackendError> {
        write(&self.0, "save schedule", |conn| schedules::save(conn, record, turn)).inspect(|_| self.0.written())
    }

    fn schedule_changes(&self, version: i64) -> Result<ScheduleChanges, BackendError> {
        id_repair::changes(&self.0, version)
    }

    fn schedules_ahead(&self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, BackendError> {
        self.0.read("schedules ahead", |conn| schedules::ahead(conn, now, limit))
    }

    fn schedules(&self, ids: &[ScheduleId]) -> Result<Vec<ScheduleState>, BackendError> {
        self.0.read("schedules", |conn| schedules::states(conn, ids))
    }

    fn schedule_named(&self, name: &str) -> Result<Option<ScheduleId>, BackendError> {
        id_repair::find(&self.0, "schedule named", |conn| schedules::named(conn, name))
    }

    fn schedule_defined(&self, name: &str) -> Result<Option<ScheduleId>, BackendError> {
        id_repair::find(&self.0, "schedule defined", |conn| schedules::defined(conn, name))
    }

    fn list_schedules(
        &self,
        filter: &ScheduleFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, BackendError> {
        self.0.read("list schedules", |conn| schedules::list(conn, filter, after, limit))
    }

    fn fire(&self, turns: &[Turn]) -> Result<Vec<Fired>, BackendError> {
        write(&self.0, "fire", |conn| schedules::fire(conn, turns)).inspect(|fired| {
            if fired.iter().any(|fired| *fired != Fired::Lost) {
                self.0.written();
            }
        })
    }

    fn firings(
        &self,
        schedule_id: ScheduleId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Firing>, BackendError> {
        self.0.read("firings", |conn| schedules::firings(conn, schedule_id, before, limit))
    }

    fn forget_schedules(&self, deleted: Timestamp, finished: Option<Timestamp>) -> Result<(), BackendError> {
        if !self.0.read("forget schedules", |conn| schedules::any_to_forget(conn, deleted, finished))? {
            return Ok(());
        }
        write(&self.0, "forget schedules", |conn| schedules::forget(conn, deleted, finished))
    }

    fn outdated(&self, rules: &[Retention], now: Timestamp, limit: usize) -> Result<Vec<Outdated>, BackendError> {
        self.0.read("outdated", |conn| prune::outdated(conn, rules, now, limit))
    }

    fn prune(&self, tasks: &[Outdated]) -> Result<Vec<TaskId>, BackendError> {
        write(&self.0, "prune", |conn| prune::run(conn, tasks))
    }

    fn health(&self) -> Result<(), BackendError> {
        self.0.read("health", read::health)
    }

    fn watch(&self, timeout: Duration) -> Result<bool, BackendError> {
        self.0.watch(timeout)
    }

    fn conflicts(&self) -> u64 {
        self.0.conflicts()
    }
}
