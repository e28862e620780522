//! A commit: settle, insert, record progress, claim.

use std::sync::Arc;

use super::limits::Judge;
use super::pending::Verdict;
use super::rows::{Claim, Row};
use super::store::Store;
use super::unique::Conflict;
use crate::backend::{
    ClaimRequest, Claimed, Commit, InsertGroup, Inserted, Insertion, ProgressUpdate, Receipt, Settled, Settlement,
};
use crate::clock::Timestamp;
use crate::limit::Gate;
use crate::task::{TaskSpec, TaskState};

impl Store {
    pub(super) fn commit(&mut self, commit: &Commit) -> Receipt {
        self.freed = false;
        for update in &commit.progress {
            self.progress(update);
        }
        let settled = commit.settle.iter().map(|settlement| self.settle(settlement, commit.now)).collect();
        let mut inserted = Vec::with_capacity(commit.insert.len());
        for group in &commit.insert {
            self.insert_group(group, commit, &mut inserted);
        }
        // A row is never unreadable here, because it is the task itself and not stored text.
        let mut receipt = Receipt { settled, inserted, freed_waiting: self.freed, ..Receipt::default() };
        self.claim_all(commit, &mut receipt);
        receipt
    }

    fn claim_all(&mut self, commit: &Commit, receipt: &mut Receipt) {
        let mut gate = self.gate(commit);
        for (place, request) in commit.claim.iter().enumerate() {
            let claimed = self.claim(request, commit, gate.as_mut(), &mut receipt.passed_over);
            let held = gate.as_mut().and_then(|gate| gate.held_back(place));
            receipt.held_back.extend(held.filter(|_| claimed.len() < request.limit));
            receipt.claimed.push(claimed);
        }
        if let Some(gate) = &gate {
            self.remember(gate);
        }
    }

    fn settle(&mut self, settlement: &Settlement, now: Timestamp) -> Settled {
        let holds = |row: &Row| {
            row.spec.task_id == settlement.task_id
                && row.runs_under(settlement.token)
                && row.state.may_become(settlement.state)
        };
        if !self.rows.get(settlement.seq).is_some_and(holds) {
            return Settled::Fenced;
        }
        let mut settled = Settled::Accepted;
        self.change(settlement.seq, |row| settled = apply(row, settlement, now));
        settled
    }

    fn insert_group(&mut self, group: &InsertGroup, commit: &Commit, answers: &mut Vec<Inserted>) {
        match self.refusal(group, commit) {
            Some(refused) => answers.extend(refused),
            None => answers.extend(group.tasks.iter().map(|task| self.insert(task, commit))),
        }
    }

    fn insert(&mut self, insertion: &Insertion, commit: &Commit) -> Inserted {
        let spec = &insertion.spec;
        let conflict = match &spec.extras().unique {
            Some(unique) if self.ids.get(spec.task_id).is_none() => self.conflict(insertion, unique, commit.now),
            _ => Conflict::None,
        };
        let follows = match conflict {
            Conflict::Answered(answer) => return answer,
            Conflict::Follow(parent) => Some(parent),
            Conflict::None => None,
        };
        if let Err(known) = self.ids.insert(spec.task_id, self.rows.next_seq()) {
            let state = self.rows.get(known).map_or(insertion.state, |row| row.state);
            return Inserted::Duplicate { task_id: spec.task_id, state };
        }
        let mut row = self.new_row(insertion, commit);
        if follows.is_some() {
            row.state = TaskState::Waiting;
        } else if insertion.claim {
            row.start(commit.claim());
        }
        let (has_key, state) = (spec.extras().unique.is_some(), row.state);
        let seq = self.add(row);
        match follows {
            Some(parent) => self.follow(seq, parent),
            None if has_key => self.take_key(seq),
            None => {}
        }
        match state {
            TaskState::Running => Inserted::Claimed { seq },
            state => Inserted::New { state },
        }
    }

    pub(super) fn new_row(&mut self, insertion: &Insertion, commit: &Commit) -> Row {
        let spec = &insertion.spec;
        Row {
            spec: Arc::clone(spec),
            run_at: spec.run_at,
            updated_at: commit.now,
            claim: None,
            end: None,
            rare: None,
            attempt: 0,
            crash_count: 0,
            queue: self.queues.number(&spec.queue),
            slot: 0,
            weight: weight(spec),
            state: insertion.state,
        }
    }

    fn progress(&mut self, update: &ProgressUpdate) {
        if let Some(row) = self.rows.get_mut(update.seq).filter(|row| row.runs_under(update.token)) {
            row.rare().progress = Some(update.progress.clone());
        }
    }

    fn claim(
        &mut self,
        request: &ClaimRequest,
        commit: &Commit,
        gate: Option<&mut Gate>,
        passed_over: &mut bool,
    ) -> Vec<Claimed> {
        let last_chance = !self.runs_suspect(commit.node);
        let Some(queue) = self.queues.by_name(&request.queue) else { return Vec::new() };
        let (rows, mut judge) = (&self.rows, Judge { gate, limiter: &self.limiter, held: 0 });
        let judge = |seq| {
            let Some(row) = rows.get(seq) else { return Verdict::Leave };
            match row.expires_at() {
                Some(expires_at) if expires_at <= commit.now => Verdict::Leave,
                _ => judge.judge(row.spec.labels()),
            }
        };
        let taken = queue.pending.take(request.types.as_deref(), request.limit, last_chance, judge);
        *passed_over |= taken.len() < request.limit && queue.pending.any_on_last_chance(request.types.as_deref());
        taken.into_iter().filter_map(|seq| self.start(seq, commit)).collect()
    }

    /// Starts a task that was taken from the pending tasks.
    fn start(&mut self, seq: i64, commit: &Commit) -> Option<Claimed> {
        self.change(seq, |row| row.start(commit.claim()));
        let row = self.rows.get(seq)?;
        Some(Claimed { spec: Arc::clone(&row.spec), seq, token: commit.token, attempt: row.attempt })
    }
}

/// The bytes of the pushed data of a task, for its row.
pub(super) fn weight(spec: &TaskSpec) -> u32 {
    u32::try_from(spec.weight()).unwrap_or(u32::MAX)
}

impl Commit {
    fn claim(&self) -> Claim {
        Claim { token: self.token, node: self.node, started_at: self.now }
    }
}

/// Writes the end of a run, or the release of a claim, to its row.
fn apply(row: &mut Row, settlement: &Settlement, now: Timestamp) -> Settled {
    row.state = settlement.state;
    if !settlement.state.is_terminal() {
        row.run_at = settlement.run_at;
    }
    row.attempt = settlement.attempt;
    row.updated_at = now;
    row.crash_count = match &settlement.execution {
        Some(_) => 0,
        None => row.crash_count.saturating_sub(1),
    };
    row.end.clone_from(&settlement.execution);
    if let Some(rare) = &mut row.rare {
        let asked = rare.cancel.take();
        // The cancel was requested while the run was ending: the task must not run again.
        if asked.is_some() && !row.state.is_terminal() {
            row.state = TaskState::Cancelled;
        }
        let silent = row.end.as_ref().is_none_or(|end| end.error.is_none());
        if row.state == TaskState::Cancelled && (silent || settlement.state != row.state) {
            rare.reason = asked;
        } else if !silent {
            rare.reason = None;
        }
    }
    if row.state == settlement.state { Settled::Accepted } else { Settled::Cancelled }
}
