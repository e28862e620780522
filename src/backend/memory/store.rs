//! Rows with all their indexes, and the single function that changes a row.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::hash::FastMap;
use super::ids::Ids;
use super::limits::Limiter;
use super::pending::Place;
use super::queues::Queues;
use super::rows::{ByState, Row, Rows};
use super::schedules::Schedules;
use crate::backend::{NodeRecord, QueueSettings};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{NodeId, TaskId, TaskState};

/// The number of earlier claims that may have ended in a crash. From this number on, a task runs alone.
const LAST_CHANCE: u32 = 2;

/// All data of the backend. Each index holds only the tasks that need it, so that a task which is claimed as it is
/// pushed enters few of them.
#[derive(Default)]
pub(super) struct Store {
    pub(super) rows: Rows,
    pub(super) ids: Ids,
    pub(super) queues: Queues,
    /// The task that holds each unique key, or held it last.
    pub(super) keys: FastMap<Box<str>, i64>,
    /// Scheduled and retrying tasks by `run_at`.
    pub(super) due: BTreeSet<(Timestamp, i64)>,
    /// Tasks that can expire. Started and terminal tasks are not among them.
    pub(super) expiring: BTreeSet<(Timestamp, i64)>,
    /// Running tasks, in no order; each knows its slot.
    pub(super) running: Vec<i64>,
    /// The running tasks on their last chance, with their nodes.
    suspects: Vec<(NodeId, i64)>,
    /// Terminal tasks per state in the order of their finish, for pruning.
    pub(super) finished: ByState<Finished>,
    pub(super) nodes: BTreeMap<NodeId, NodeRecord>,
    pub(super) settings: BTreeMap<Name, QueueSettings>,
    pub(super) schedules: Schedules,
    pub(super) limiter: Limiter,
    /// Queues in which a stored task became `pending`, for the report of the present call.
    pub(super) woken: BTreeSet<Name>,
    /// True if a waiting task became free during the present call.
    pub(super) freed: bool,
    /// Bytes of all rows.
    pub(super) bytes: usize,
}

/// The terminal tasks of one state.
#[derive(Default)]
pub(super) struct Finished {
    /// By time and position, earliest first. The entry of a task that was retried or deleted since then stays until a
    /// scan reaches it.
    pub(super) order: VecDeque<(Timestamp, i64)>,
    /// Tasks in this state; `order` may be longer.
    pub(super) tasks: usize,
}

impl Finished {
    fn push(&mut self, at: Timestamp, seq: i64) {
        self.tasks += 1;
        let entry = (at, seq);
        match self.order.back() {
            // This happens with two nodes whose clocks differ, or with a clock that was set back.
            Some(last) if *last > entry => {
                let place = self.order.partition_point(|other| *other <= entry);
                self.order.insert(place, entry);
            }
            _ => self.order.push_back(entry),
        }
    }
}

impl Row {
    /// True if at most one such task may run on a node. The caller must check before a claim increments `crash_count`.
    fn on_last_chance(&self) -> bool {
        self.crash_count >= LAST_CHANCE
    }

    fn place(&self, seq: i64) -> Place {
        Place { priority: self.spec.priority, run_at: self.run_at, seq }
    }

    /// True if it finished at this time in this state and has not changed its state since.
    pub(super) fn finished_as(&self, state: TaskState, at: Timestamp) -> bool {
        self.state == state && self.updated_at == at
    }
}

impl Store {
    /// The number of tasks, and their bytes.
    pub(super) fn size(&self) -> (u64, usize) {
        (self.queues.tasks(), self.bytes)
    }

    /// The row of a task.
    pub(super) fn find(&self, task_id: TaskId) -> Option<(i64, &Row)> {
        let seq = self.ids.get(task_id)?;
        Some((seq, self.rows.get(seq)?))
    }

    /// Stores a new row; the caller has already added its id to `ids`.
    pub(super) fn add(&mut self, row: Row) -> i64 {
        let seq = self.rows.next_seq();
        if let Some(key) = row.firing() {
            self.schedules.added(key, seq);
        }
        self.rows.push(row);
        self.enter(seq);
        seq
    }

    /// Changes a row and moves it between the indexes. A task that becomes terminal frees the task that waits for it.
    pub(super) fn change(&mut self, seq: i64, change: impl FnOnce(&mut Row)) {
        self.leave(seq);
        let Some(row) = self.rows.get_mut(seq) else { return };
        change(row);
        let ended = (row.rare.is_some() && row.state.is_terminal()).then_some(row.updated_at);
        self.enter(seq);
        if let Some(now) = ended {
            self.free_follower(seq, now);
        }
    }

    /// Moves a stored task to `state`.
    pub(super) fn move_to(&mut self, seq: i64, state: TaskState, now: Timestamp) {
        self.change(seq, |row| {
            row.state = state;
            row.updated_at = now;
        });
        if state == TaskState::Pending {
            self.wake(seq);
        }
    }

    /// Ends a task for a reason that does not come from a run of its own.
    pub(super) fn end_for(&mut self, seq: i64, state: TaskState, reason: &str, now: Timestamp) {
        self.change(seq, |row| {
            row.rare().reason = Some(reason.into());
            row.state = state;
            row.updated_at = now;
        });
        self.unlink_parent(seq);
    }

    /// Records that a task became `pending` in its queue.
    pub(super) fn wake(&mut self, seq: i64) {
        if let Some(row) = self.rows.get(seq)
            && !self.woken.contains(&row.spec.queue)
        {
            self.woken.insert(row.spec.queue.clone());
        }
    }

    /// Removes a task and its history. The task must not be running, and no task may wait for it.
    pub(super) fn delete(&mut self, seq: i64) {
        self.unlink_parent(seq);
        self.leave(seq);
        let Some(row) = self.rows.remove(seq) else { return };
        self.ids.remove(row.spec.task_id);
        if let Some(key) = row.firing() {
            self.schedules.deleted(key, row.state);
        }
        if let Some(unique) = &row.spec.extras().unique
            && self.keys.get(unique.key.as_str()) == Some(&seq)
        {
            self.keys.remove(unique.key.as_str());
        }
        self.queues.forget_if_empty(row.queue);
    }

    /// True if `node` runs a task on its last chance.
    pub(super) fn runs_suspect(&self, node: NodeId) -> bool {
        self.suspects.iter().any(|(holder, _)| *holder == node)
    }

    /// The running tasks that `wanted` selects, in push order.
    pub(super) fn running_where(&self, wanted: impl Fn(&Row) -> bool) -> Vec<i64> {
        let picked = |seq: &&i64| self.rows.get(**seq).is_some_and(&wanted);
        let mut picked: Vec<i64> = self.running.iter().filter(picked).copied().collect();
        picked.sort_unstable();
        picked
    }

    /// Puts a row into the indexes of its state.
    fn enter(&mut self, seq: i64) {
        let Some(row) = self.rows.get_mut(seq) else { return };
        let state = row.state;
        self.bytes += row.bytes();
        let queue = self.queues.get_mut(row.queue);
        queue.counts[state as usize] += 1;
        match state {
            TaskState::Running => {
                row.slot = u32::try_from(self.running.len()).expect("fewer than 2^32 tasks run at once");
                self.running.push(seq);
                // The claim has already incremented `crash_count`.
                if let Some(claim) = row.claim
                    && row.crash_count > LAST_CHANCE
                {
                    self.suspects.push((claim.node, seq));
                }
            }
            TaskState::Pending => queue.pending.insert(&row.spec.kind, row.on_last_chance(), row.place(seq)),
            TaskState::Scheduled | TaskState::Retrying => drop(self.due.insert((row.run_at, seq))),
            TaskState::Waiting => {}
            TaskState::Completed | TaskState::Dead | TaskState::Cancelled => {
                self.finished[state as usize].push(row.updated_at, seq);
            }
        }
        if let Some(time) = row.expires_at() {
            self.expiring.insert((time, seq));
        }
        if let Some(key) = row.firing() {
            self.schedules.entered(key, seq, state, true);
        }
        self.rows.count(seq, state, true);
    }

    /// Takes a row out of the indexes of its state.
    fn leave(&mut self, seq: i64) {
        let Some(row) = self.rows.get(seq) else { return };
        let state = row.state;
        self.bytes -= row.bytes();
        let queue = self.queues.get_mut(row.queue);
        queue.counts[state as usize] -= 1;
        if let Some(time) = row.expires_at() {
            self.expiring.remove(&(time, seq));
        }
        if let Some(key) = row.firing() {
            self.schedules.entered(key, seq, state, false);
        }
        match state {
            TaskState::Running => {
                let (slot, suspect) = (row.slot, row.crash_count > LAST_CHANCE);
                self.leave_running(slot);
                if suspect {
                    self.suspects.retain(|(_, suspect)| *suspect != seq);
                }
            }
            TaskState::Pending => queue.pending.remove(&row.spec.kind, row.on_last_chance(), row.place(seq)),
            TaskState::Scheduled | TaskState::Retrying => drop(self.due.remove(&(row.run_at, seq))),
            TaskState::Waiting => {}
            TaskState::Completed | TaskState::Dead | TaskState::Cancelled => self.leave_finished(state),
        }
        self.rows.count(seq, state, false);
    }

    fn leave_running(&mut self, slot: u32) {
        self.running.swap_remove(slot as usize);
        if let Some(moved) = self.running.get(slot as usize)
            && let Some(row) = self.rows.get_mut(*moved)
        {
            row.slot = slot;
        }
    }

    /// Subtracts a task from the count of a terminal state. Its entry stays, because a search for it costs more than
    /// skipping it later. All stale entries are removed once they outnumber the rest.
    fn leave_finished(&mut self, state: TaskState) {
        let finished = &mut self.finished[state as usize];
        finished.tasks -= 1;
        if finished.order.len() > 64 + 2 * finished.tasks {
            let rows = &self.rows;
            finished.order.retain(|(at, seq)| rows.get(*seq).is_some_and(|row| row.finished_as(state, *at)));
        }
    }
}
