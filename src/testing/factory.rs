//! A test environment for backends: a backend, a node, and a clock that moves by hand.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Harness;
use crate::backend::{
    ClaimRequest, Claimed, Commit, Cursor, Edit, EditAction, EditReport, ExecutionEnd, InsertGroup, Inserted,
    Insertion, Limit, Limits, NodeBeat, Opened, Receipt, Selection, Settled, Settlement, StateCount, Sweep,
    SweepReport, TaskFilter,
};
use crate::clock::{Clock, Timestamp};
use crate::name::Name;
use crate::schedule::trigger::{Trigger, Zone};
use crate::schedule::{Schedule, ScheduleRecord};
use crate::task::{
    Bounds, ClaimToken, DEFAULT_QUEUE, ExecutionStatus, NewTask, NodeId, TaskId, TaskRecord, TaskState,
};

/// The moment `seconds` after the start of every [`World`], which is 2026-01-01T00:00:00Z.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000) + Duration::from_secs(seconds)
}

/// A schedule before it is first stored. It makes a task of the type `work` every ten seconds from [`at(0)`](at) on.
pub fn schedule(name: impl Into<Name>) -> ScheduleRecord {
    let trigger = Trigger::every(Duration::from_secs(10)).expect("a valid trigger");
    let schedule = Schedule::new(name, trigger, NewTask::new("work", &json!({"at": "{{nominal_time}}"})));
    let checked = schedule.check(&Clock::manual(at(0)), Bounds::all(usize::MAX), Zone::UTC);
    checked.expect("a valid schedule").record(at(0))
}

/// A backend under test with a live node, and the time that its calls carry.
pub struct World {
    /// The backend under test.
    pub backend: Opened,
    /// The node that commits. Its lease lasts for a day.
    pub node: NodeId,
    now: Cell<Timestamp>,
    limits: RefCell<Option<Arc<Limits>>>,
}

impl World {
    /// A fresh backend, at [`at(0)`](at).
    pub fn new(harness: &dyn Harness) -> Self {
        Self::on(harness.open())
    }

    /// A world on a backend that is already open, with a node of its own.
    pub fn on(backend: Opened) -> Self {
        let (node, now) = (NodeId::new(at(0)), Cell::new(at(0)));
        let world = Self { backend, node, now, limits: RefCell::default() };
        world.beat(world.node, Duration::from_secs(86_400));
        world
    }

    /// The same backend and time, seen by a second live node.
    pub fn other_node(&self) -> Self {
        let other = Self::on(Arc::clone(&self.backend));
        other.now.set(self.now());
        other.limits.replace(self.limits.borrow().clone());
        other
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// Sets the time to `seconds` after the start.
    pub fn go_to(&self, seconds: u64) {
        self.now.set(at(seconds));
    }

    /// Lets `span` pass.
    pub fn advance(&self, span: Duration) {
        self.now.set(self.now() + span);
    }

    /// Sends a heartbeat of `node`.
    pub fn beat(&self, node: NodeId, lease: Duration) {
        self.backend.heartbeat(&self.sign_of_life(node, lease)).expect("heartbeat");
    }

    /// The heartbeat that [`beat`](Self::beat) sends to storage.
    pub fn sign_of_life(&self, node: NodeId, lease: Duration) -> NodeBeat {
        NodeBeat {
            node_id: node,
            name: "stage".into(),
            started_at: at(0),
            now: self.now(),
            lease,
            version: "1.2.3".into(),
            queues: vec![(DEFAULT_QUEUE.into(), 4)],
            types: vec!["x".into()],
            pulls: Vec::new(),
        }
    }

    /// A node that dies: its lease ends `seconds` from now.
    pub fn mortal(&self, seconds: u64) -> Self {
        let (backend, node) = (Arc::clone(&self.backend), NodeId::new(at(0)));
        let mortal = Self { backend, node, now: Cell::new(self.now()), limits: self.limits.clone() };
        mortal.beat(mortal.node, Duration::from_secs(seconds));
        mortal
    }

    /// An empty commit of this node. It names the limits that the node knows.
    pub fn blank(&self) -> Commit {
        Commit { limits: self.limits.borrow().clone(), ..Commit::new(self.node, self.now()) }
    }

    /// Sets a limit. From now on the commits of this node name all limits that are set.
    pub fn set_limit(&self, limit: &Limit) {
        self.backend.save_limit(limit).expect("save a limit");
        self.look_at_limits();
    }

    /// Reads the limits. From now on the commits of this node name all limits that are set.
    pub fn look_at_limits(&self) {
        self.limits.replace(Limits::new(self.backend.limits().expect("limits")));
    }

    /// Sends a commit.
    pub fn commit(&self, commit: &Commit) -> Receipt {
        self.backend.commit(commit).expect("commit")
    }

    /// The insertion for `task`: pending, or scheduled when its time lies ahead.
    pub fn insertion(&self, task: NewTask) -> Insertion {
        let spec =
            task.into_spec(&Clock::manual(self.now()), crate::task::Bounds::all(usize::MAX)).expect("a valid task");
        let state = if spec.run_at > self.now() { TaskState::Scheduled } else { TaskState::Pending };
        Insertion { spec: Arc::new(spec), state, claim: false }
    }

    /// Pushes a task and returns the answer.
    pub fn offer(&self, task: NewTask) -> Inserted {
        self.offer_group(vec![task]).remove(0)
    }

    /// Pushes a group and returns the answer for each of its tasks.
    pub fn offer_group(&self, tasks: Vec<NewTask>) -> Vec<Inserted> {
        let tasks = tasks.into_iter().map(|task| self.insertion(task)).collect();
        let commit = Commit { insert: vec![InsertGroup { tasks }], ..self.blank() };
        self.commit(&commit).inserted
    }

    /// Pushes a task that must be stored as new.
    pub fn push(&self, task: NewTask) -> TaskId {
        let insertion = self.insertion(task);
        let task_id = insertion.spec.task_id;
        let commit = Commit { insert: vec![InsertGroup { tasks: vec![insertion] }], ..self.blank() };
        let receipt = self.commit(&commit);
        assert!(matches!(receipt.inserted[..], [Inserted::New { .. }]), "{:?}", receipt.inserted);
        task_id
    }

    /// Pushes the tasks of a group. All of them must be stored as new.
    pub fn push_all(&self, tasks: impl IntoIterator<Item = NewTask>) -> Vec<TaskId> {
        let tasks: Vec<Insertion> = tasks.into_iter().map(|task| self.insertion(task)).collect();
        let ids = tasks.iter().map(|task| task.spec.task_id).collect();
        let receipt = self.commit(&Commit { insert: vec![InsertGroup { tasks }], ..self.blank() });
        assert!(receipt.inserted.iter().all(|one| matches!(one, Inserted::New { .. })), "{:?}", receipt.inserted);
        ids
    }

    /// Pushes a task that is claimed at once.
    pub fn push_claimed(&self, task: NewTask) -> Claimed {
        let insertion = Insertion { claim: true, ..self.insertion(task) };
        let spec = Arc::clone(&insertion.spec);
        let commit = Commit { insert: vec![InsertGroup { tasks: vec![insertion] }], ..self.blank() };
        match self.commit(&commit).inserted[..] {
            [Inserted::Claimed { seq }] => Claimed { spec, seq, token: commit.token, attempt: 0 },
            ref other => panic!("not stored: {other:?}"),
        }
    }

    /// Claims from the default queue, any type.
    pub fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.claim_from(DEFAULT_QUEUE, None, limit)
    }

    /// Claims from a queue: the given types, or any type.
    pub fn claim_from(&self, queue: &'static str, types: Option<&[&'static str]>, limit: usize) -> Vec<Claimed> {
        let types = types.map(|types| types.iter().copied().map(Name::from).collect());
        let request = ClaimRequest { queue: queue.into(), types, limit };
        self.commit(&Commit { claim: vec![request], ..self.blank() }).claimed.remove(0)
    }

    /// Claims the only task that can be claimed.
    pub fn claim_one(&self) -> Claimed {
        let mut claimed = self.claim(10);
        assert_eq!(claimed.len(), 1, "one task to claim");
        claimed.remove(0)
    }

    /// The ids that a claim of up to `limit` tasks takes, in order.
    pub fn claim_ids(&self, limit: usize) -> Vec<TaskId> {
        ids(&self.claim(limit))
    }

    /// A settlement of `claimed` with an execution that ends now.
    pub fn ended(&self, claimed: &Claimed, state: TaskState, error: Option<&str>) -> Settlement {
        let status = match (state, error) {
            (TaskState::Completed, _) => ExecutionStatus::Success,
            (TaskState::Cancelled, _) => ExecutionStatus::Cancelled,
            (TaskState::Scheduled, None) => ExecutionStatus::Snoozed,
            _ => ExecutionStatus::Failed,
        };
        let attempt = claimed.attempt + 1;
        let end = ExecutionEnd {
            attempt,
            status,
            started_at: self.now(),
            finished_at: self.now(),
            result: None,
            error: error.map(Into::into),
        };
        let counted = if status == ExecutionStatus::Snoozed { claimed.attempt } else { attempt };
        Settlement { execution: Some(end), attempt: counted, ..self.given_back(claimed, state) }
    }

    /// A settlement of `claimed` without an execution.
    pub fn given_back(&self, claimed: &Claimed, state: TaskState) -> Settlement {
        Settlement {
            seq: claimed.seq,
            task_id: claimed.spec.task_id,
            token: claimed.token,
            state,
            run_at: self.now(),
            attempt: claimed.attempt,
            execution: None,
        }
    }

    /// Sends a settlement.
    pub fn settle(&self, settlement: Settlement) -> Settled {
        self.commit(&Commit { settle: vec![settlement], ..self.blank() }).settled[0]
    }

    /// Settles a run. The settlement must be accepted.
    pub fn end(&self, claimed: &Claimed, state: TaskState, error: Option<&str>) {
        assert_eq!(self.settle(self.ended(claimed, state, error)), Settled::Accepted);
    }

    /// Completes a run.
    pub fn complete(&self, claimed: &Claimed) {
        self.end(claimed, TaskState::Completed, None);
    }

    /// Fails a run; the task is to run again at `run_at`.
    pub fn try_again(&self, claimed: &Claimed, run_at: Timestamp) -> Settled {
        self.settle(Settlement { run_at, ..self.ended(claimed, TaskState::Retrying, Some("failed")) })
    }

    /// As [`try_again`](Self::try_again), and the settlement must be accepted.
    pub fn fail_until(&self, claimed: &Claimed, run_at: Timestamp) {
        assert_eq!(self.try_again(claimed, run_at), Settled::Accepted);
    }

    /// Pushes a task and brings it to a state in which it does not depend on anything outside.
    pub fn push_in(&self, state: TaskState, task: NewTask) -> TaskId {
        if state == TaskState::Scheduled {
            return self.push(task.run_at(self.now() + Duration::from_secs(3_600)));
        }
        if state == TaskState::Pending {
            return self.push(task);
        }
        let claimed = self.push_claimed(task);
        match state {
            TaskState::Running => {}
            TaskState::Retrying => self.fail_until(&claimed, self.now() + Duration::from_secs(3_600)),
            TaskState::Completed => self.complete(&claimed),
            state => self.end(&claimed, state, Some("ended")),
        }
        claimed.spec.task_id
    }

    /// The record of a task that must exist.
    pub fn record(&self, task_id: TaskId) -> TaskRecord {
        self.backend.get(task_id).expect("get").expect("the task is there")
    }

    /// The state of a task that must exist.
    pub fn state(&self, task_id: TaskId) -> TaskState {
        self.record(task_id).state
    }

    /// The number of tasks in `state`, over all queues.
    pub fn count(&self, state: TaskState) -> u64 {
        let counts: Vec<StateCount> = self.backend.counts().expect("counts");
        counts.iter().filter(|count| count.state == state).map(|count| count.tasks).sum()
    }

    /// A sweep that does not look for dead nodes.
    pub fn upkeep(&self) -> Sweep {
        Sweep { now: self.now(), node: self.node, rescue: false, crash_limit: 3, limit: 100, awaited: Vec::new() }
    }

    /// Sweeps without looking for dead nodes.
    pub fn sweep(&self) -> SweepReport {
        self.sweep_with(&self.upkeep())
    }

    /// Sweeps, including the rescue from dead nodes.
    pub fn rescue(&self) -> SweepReport {
        self.sweep_with(&Sweep { rescue: true, ..self.upkeep() })
    }

    /// Runs the given sweep.
    pub fn sweep_with(&self, sweep: &Sweep) -> SweepReport {
        self.backend.sweep(sweep).expect("sweep")
    }

    /// Releases the claims of this node, except `keep`.
    pub fn release(&self, keep: &[(TaskId, ClaimToken)], retire: bool) -> u64 {
        self.backend.release(self.node, keep, retire, self.now()).expect("release").tasks
    }

    /// Edits the given tasks.
    pub fn edit(&self, ids: &[TaskId], action: EditAction) -> EditReport {
        let selection = Selection::Ids(ids.to_vec());
        self.edit_with(Edit { selection, action, now: self.now(), limit: 100, after: None })
    }

    /// Edits up to `limit` matching tasks that lie behind the cursor `after`.
    pub fn edit_where(
        &self,
        filter: TaskFilter,
        action: EditAction,
        limit: usize,
        after: Option<Cursor>,
    ) -> EditReport {
        self.edit_with(Edit { selection: Selection::Filter(filter), action, now: self.now(), limit, after })
    }

    fn edit_with(&self, edit: Edit) -> EditReport {
        self.backend.edit(&edit).expect("edit")
    }
}

/// The ids of claimed tasks.
pub(super) fn ids(claimed: &[Claimed]) -> Vec<TaskId> {
    claimed.iter().map(|claimed| claimed.spec.task_id).collect()
}

/// A task with no content but its number.
pub(super) fn task(number: usize) -> NewTask {
    NewTask::new("work", &serde_json::json!({ "number": number }))
}
