//! Decisions about schedules, and their history.

use std::sync::Arc;

use super::super::rows::Row;
use super::super::store::Store;
use super::Stored;
use crate::backend::{Chain, Commit, Fired, Insertion, Run, Turn, next_turn, replacing};
use crate::clock::Timestamp;
use crate::schedule::{Firing, FiringCause, FiringStatus};
use crate::task::{ScheduleId, TaskId, TaskState};

impl Store {
    pub(in crate::backend::memory) fn fire(&mut self, turns: &[Turn]) -> Vec<Fired> {
        turns.iter().map(|turn| self.fire_one(turn)).collect()
    }

    fn fire_one(&mut self, turn: &Turn) -> Fired {
        let holds = |stored: &&mut Stored| stored.record.turn == turn.turn;
        let Some(stored) = self.schedules.rows.get_mut(&turn.schedule_id).filter(holds) else { return Fired::Lost };
        let record = &mut stored.record;
        record.turn = next_turn(Some(turn.turn));
        record.status = turn.status;
        record.status_reason.clone_from(&turn.reason);
        record.paused_until = turn.paused_until;
        record.cursor = turn.cursor;
        record.next_run_at = turn.next_run_at;
        for task_id in &turn.cancel {
            if let Some((seq, row)) = self.find(*task_id)
                && !row.state.is_terminal()
            {
                self.cancel(seq, "a later run takes its place", turn.now);
            }
        }
        let follows = replacing(turn, self.ending(turn));
        let made: Vec<Option<TaskState>> = {
            let mut chain = Chain::default();
            let runs = turn.runs.iter().zip(follows);
            runs.map(|(run, follows)| self.make(turn, run, chain.resolve(follows), &mut chain)).collect()
        };
        self.pass_by(turn);
        let by_clock = turn.runs.iter().zip(&made);
        let by_clock = by_clock.filter(|(run, made)| made.is_some() && run.cause == FiringCause::Schedule).count();
        if let Some(stored) = self.schedules.rows.get_mut(&turn.schedule_id) {
            stored.record.run_count += by_clock as u64;
            if made.iter().any(Option::is_some) {
                stored.record.last_run_at = Some(turn.now);
            }
        }
        self.schedules.trim(turn.schedule_id, turn.keep_firings);
        // The search visits all kept entries, so it runs only once in many turns.
        if turn.turn % (i64::from(turn.keep_runs) / 16 + 1) == 0 {
            self.schedules.forget_runs(turn.schedule_id, turn.keep_runs);
        }
        Fired::Done(made)
    }

    /// Cancelled tasks that still run and that no task waits for.
    fn ending(&self, turn: &Turn) -> Vec<TaskId> {
        let runs = |row: &Row| row.state == TaskState::Running && row.follower().is_none();
        let ending = |task_id: &&TaskId| self.find(**task_id).is_some_and(|(_, row)| runs(row));
        turn.cancel.iter().filter(ending).copied().collect()
    }

    /// Stores the task of a run, unless its nominal time already had a task.
    fn make(&mut self, turn: &Turn, run: &Run, follows: Option<TaskId>, chain: &mut Chain) -> Option<TaskState> {
        let nominal_at = run.spec.extras().firing?.nominal_at;
        if self.schedules.has_run(turn.schedule_id, nominal_at, run.cause) {
            chain.leave_out(run.spec.task_id, follows);
            return None;
        }
        let follows = follows.and_then(|task_id| self.find(task_id));
        let follows =
            follows.filter(|(_, row)| !row.state.is_terminal() && row.follower().is_none()).map(|(seq, _)| seq);
        let state = if follows.is_some() { TaskState::Waiting } else { TaskState::Pending };
        let insertion = Insertion { spec: Arc::clone(&run.spec), state, claim: false };
        let commit = Commit::new(turn.node, turn.now);
        self.ids.insert(run.spec.task_id, self.rows.next_seq()).ok()?;
        let row: Row = self.new_row(&insertion, &commit);
        let seq = self.add(row);
        if let Some(parent) = follows {
            self.follow(seq, parent);
        }
        let firing = Firing {
            nominal_at,
            status: FiringStatus::Fired,
            cause: run.cause,
            times: 1,
            reason: None,
            task_id: Some(run.spec.task_id),
            node: turn.node,
            at: turn.now,
            state: None,
            finished_at: None,
            error: None,
        };
        self.schedules.firings.insert((turn.schedule_id, nominal_at), firing);
        Some(state)
    }

    fn pass_by(&mut self, turn: &Turn) {
        for passed in &turn.passed {
            let firing = Firing {
                nominal_at: passed.nominal_at,
                status: passed.status,
                cause: FiringCause::Schedule,
                times: passed.times,
                reason: Some(passed.reason.clone()),
                task_id: None,
                node: turn.node,
                at: turn.now,
                state: None,
                finished_at: None,
                error: None,
            };
            self.schedules.firings.entry((turn.schedule_id, passed.nominal_at)).or_insert(firing);
        }
    }

    pub(in crate::backend::memory) fn firings(
        &self,
        id: ScheduleId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Vec<Firing> {
        let before = before.unwrap_or(Timestamp::from_micros(i64::MAX));
        let range = (id, Timestamp::from_micros(i64::MIN))..(id, before);
        let found = self.schedules.firings.range(range).rev().take(limit);
        found.map(|(_, firing)| self.with_task(id, firing.clone())).collect()
    }

    /// A firing with the outcome of its task.
    fn with_task(&self, id: ScheduleId, firing: Firing) -> Firing {
        match firing.task_id.and_then(|task_id| self.get(task_id)) {
            Some(task) => {
                Firing { state: Some(task.state), finished_at: task.finished_at, error: task.last_error, ..firing }
            }
            None => {
                let state = self.schedules.gone.get(&(id, firing.nominal_at)).copied();
                Firing { state: state.filter(|state| state.is_terminal()), ..firing }
            }
        }
    }
}
