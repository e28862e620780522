//! The requests to storage, besides commits. Adding a request is a single entry here.

use crate::backend::{
    Backend, BackendError, Cursor, Edit, EditReport, Fired, InLine, Limit, LimitScope, NodeRecord, Outdated,
    QueueChange, QueueSettings, Released, Retention, Saved, ScheduleChanges, ScheduleFilter, ScheduleState,
    StateCount, Sweep, SweepReport, TaskFilter, TaskOrder, TaskPage, Turn,
};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::schedule::{Firing, ScheduleRecord};
use crate::task::{ClaimToken, Execution, NodeId, ScheduleId, TaskId, TaskRecord};

/// A query to storage, or a change.
pub(crate) trait Request: Clone + Send + 'static {
    /// The type of the reply.
    type Reply: Send + 'static;
    /// Its name in errors and logs.
    const OPERATION: &'static str;
    /// Writes go to the writing threads.
    const WRITES: bool;

    /// Runs the request on the backend.
    fn apply(self, backend: &dyn Backend) -> Result<Self::Reply, BackendError>;
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* } -> $reply:ty,
        $operation:literal, writes $writes:literal, |$backend:ident, $this:ident| $apply:expr;)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone)]
            pub(crate) struct $name { $(pub(crate) $field: $type),* }

            impl Request for $name {
                type Reply = $reply;
                const OPERATION: &'static str = $operation;
                const WRITES: bool = $writes;

                fn apply(self, $backend: &dyn Backend) -> Result<Self::Reply, BackendError> {
                    let $this = self;
                    $apply
                }
            }
        )+
    };
}

requests! {
    /// A round of upkeep.
    SweepTasks { sweep: Sweep } -> SweepReport, "sweep", writes true, |backend, this| backend.sweep(&this.sweep);
    /// A change to stored tasks.
    ApplyEdit { edit: Edit } -> EditReport, "edit", writes true, |backend, this| backend.edit(&this.edit);
    /// Finds tasks that are no longer kept.
    FindOutdated { rules: Vec<Retention>, now: Timestamp, limit: usize } -> Vec<Outdated>, "outdated", writes false,
        |backend, this| backend.outdated(&this.rules, this.now, this.limit);
    /// Deletes tasks that are no longer kept.
    PruneTasks { tasks: Vec<Outdated> } -> Vec<TaskId>, "prune", writes true, |backend, this| backend.prune(&this.tasks);
    /// Releases the claims of a node that are not in `keep`.
    ReleaseClaims { node: NodeId, keep: Vec<(TaskId, ClaimToken)>, retire: bool, now: Timestamp } -> Released,
        "release", writes true, |backend, this| backend.release(this.node, &this.keep, this.retire, this.now);
    /// Changes the settings of a queue.
    ChangeQueue { change: QueueChange } -> (), "change queue", writes true,
        |backend, this| backend.change_queue(&this.change);
    /// Stores a limit.
    SaveLimit { limit: Limit } -> (), "save limit", writes true, |backend, this| backend.save_limit(&this.limit);
    /// Removes a limit.
    RemoveLimit { scope: LimitScope, name: Name } -> bool, "remove limit", writes true,
        |backend, this| backend.remove_limit(this.scope, &this.name);
    /// Stored limits.
    ListLimits {} -> Vec<Limit>, "limits", writes false, |backend, _this| backend.limits();
    /// A task by its id.
    GetTask { task_id: TaskId } -> Option<TaskRecord>, "get", writes false, |backend, this| backend.get(this.task_id);
    /// The attempts at a task.
    ListExecutions { task_id: TaskId } -> Vec<Execution>, "executions", writes false,
        |backend, this| backend.executions(this.task_id);
    /// A page of tasks.
    ListTasks { filter: TaskFilter, order: TaskOrder, after: Option<Cursor>, limit: usize } -> TaskPage, "list",
        writes false, |backend, this| backend.list(&this.filter, this.order, this.after, this.limit);
    /// Tasks per queue and state.
    CountStates {} -> Vec<StateCount>, "counts", writes false, |backend, _this| backend.counts();
    /// Stored queue settings.
    ListQueues {} -> Vec<QueueSettings>, "queues", writes false, |backend, _this| backend.queues();
    /// Known nodes.
    ListNodes {} -> Vec<NodeRecord>, "nodes", writes false, |backend, _this| backend.nodes();
    /// The first pending tasks of each queue, counted by type.
    ReadLine { after: Option<Name>, queues: usize, most: usize } -> Vec<InLine>, "in line", writes false,
        |backend, this| backend.in_line(this.after.as_deref(), this.queues, this.most);
    /// Stores a schedule.
    SaveSchedule { record: ScheduleRecord, turn: Option<i64> } -> Saved, "save schedule", writes true,
        |backend, this| backend.save_schedule(&this.record, this.turn);
    /// Schedules that were saved after `version`.
    LookForSchedules { version: i64 } -> ScheduleChanges, "schedule changes", writes false,
        |backend, this| backend.schedule_changes(this.version);
    /// Schedules whose cursor lies ahead of the clock.
    LookAhead { now: Timestamp, limit: usize } -> Vec<ScheduleId>, "schedules ahead", writes false,
        |backend, this| backend.schedules_ahead(this.now, this.limit);
    /// Schedules with the data that a decision needs.
    ReadSchedules { ids: Vec<ScheduleId> } -> Vec<ScheduleState>, "schedules", writes false,
        |backend, this| backend.schedules(&this.ids);
    /// The schedule that has a name.
    FindScheduleByName { name: String } -> Option<ScheduleId>, "schedule named", writes false,
        |backend, this| backend.schedule_named(&this.name);
    /// The id of the schedule that code has defined under a name.
    FindScheduleByCodeName { name: String } -> Option<ScheduleId>, "schedule defined", writes false,
        |backend, this| backend.schedule_defined(&this.name);
    /// A page of schedules.
    ListSchedules { filter: ScheduleFilter, after: Option<String>, limit: usize } -> Vec<ScheduleRecord>,
        "list schedules", writes false,
        |backend, this| backend.list_schedules(&this.filter, this.after.as_deref(), this.limit);
    /// Writes decisions about schedules.
    FireSchedules { turns: Vec<Turn> } -> Vec<Fired>, "fire", writes true, |backend, this| backend.fire(&this.turns);
    /// The history of a schedule.
    ListFirings { schedule_id: ScheduleId, before: Option<Timestamp>, limit: usize } -> Vec<Firing>, "firings",
        writes false, |backend, this| backend.firings(this.schedule_id, this.before, this.limit);
    /// Removes schedules that were deleted or finished long ago.
    ForgetSchedules { deleted_before: Timestamp, finished_before: Option<Timestamp> } -> (), "forget schedules",
        writes true, |backend, this| backend.forget_schedules(this.deleted_before, this.finished_before);
    /// Checks whether storage answers.
    CheckHealth {} -> (), "health", writes false, |backend, _this| backend.health();
}
