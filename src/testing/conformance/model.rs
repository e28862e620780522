//! Random histories, checked against rules that hold for every history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Harness;
use crate::backend::{
    Claimed, Commit, EditAction, Inserted, Insertion, Retention, Settled, Settlement, TaskFilter, TaskOrder,
};
use crate::task::{NewTask, TaskId, TaskRecord, TaskState, Unique, UniqueMode};
use crate::testing::factory::{World, task};

/// Number of steps in a random history.
const STEPS: u32 = 25;

/// In every order of operations: states change only as allowed, counts add up, tokens fence, each key has a single
/// holder, and no task is lost or invented.
pub fn random_histories(h: &dyn Harness) {
    for seed in 0..h.sequences() {
        let mut history = History::new(World::new(h), seed);
        for _ in 0..STEPS {
            history.step();
        }
        history.drain();
    }
}

struct History {
    w: World,
    /// Nodes whose lease ends soon.
    mortal: Vec<World>,
    dice: StdRng,
    /// Each task that must exist, with its state and unique key.
    tasks: BTreeMap<TaskId, (TaskState, Option<&'static str>)>,
    /// Every claim ever made, including claims that no longer hold.
    claims: Vec<Claimed>,
    /// The events so far, for the message of a failure.
    log: Vec<String>,
}

impl History {
    fn new(w: World, seed: u64) -> Self {
        let log = vec![format!("seed {seed}")];
        let (mortal, dice) = (Vec::new(), StdRng::seed_from_u64(seed));
        Self { w, mortal, dice, tasks: BTreeMap::new(), claims: Vec::new(), log }
    }

    fn step(&mut self) {
        let retried = match self.dice.random_range(0..20) {
            0..5 => self.push(),
            5..8 => self.claim(),
            8..12 => self.settle(),
            12 => self.crash(),
            13 => self.upkeep(),
            14 => self.release(),
            15 => self.prune(),
            _ => self.edit(),
        };
        self.observe(retried);
    }

    fn push(&mut self) -> bool {
        let keys = [None, None, Some("red"), Some("green")];
        let key = keys[self.dice.random_range(0..keys.len())];
        let mode = UniqueMode::ALL[self.dice.random_range(0..UniqueMode::ALL.len())];
        let mut new = task(self.tasks.len()).priority(self.dice.random_range(-2..3));
        if let Some(key) = key {
            new = new.unique(Unique::key(key).mode(mode));
        }
        if self.dice.random_bool(0.3) {
            new = new.delay(Duration::from_secs(self.dice.random_range(1..50)));
        }
        if self.dice.random_bool(0.1) {
            new = new.expires_in(Duration::from_secs(self.dice.random_range(1..50)));
        }
        let waits = key.is_some() && mode == UniqueMode::KeepLatest;
        self.store(new, key, !waits);
        false
    }

    fn store(&mut self, new: NewTask, key: Option<&'static str>, may_claim: bool) {
        let mut insertion = self.w.insertion(new);
        insertion.claim = may_claim && insertion.state == TaskState::Pending && self.dice.random_bool(0.5);
        let Insertion { spec, claim, .. } = insertion.clone();
        let commit = Commit { insert: vec![super::group([insertion])], ..self.w.blank() };
        let answer = self.w.commit(&commit).inserted.remove(0);
        self.log.push(format!("push {} claim {claim} key {key:?}: {answer:?}", spec.task_id));
        let state = match answer {
            Inserted::New { state } => state,
            Inserted::Claimed { seq } => {
                let spec = Arc::clone(&spec);
                self.claims.push(Claimed { spec, seq, token: commit.token, attempt: 0 });
                TaskState::Running
            }
            _ => return,
        };
        assert_eq!((self.w.state(spec.task_id), state == TaskState::Running), (state, claim), "{:#?}", self.log);
        self.tasks.insert(spec.task_id, (state, key));
    }

    fn claim(&mut self) -> bool {
        let limit = self.dice.random_range(1..4);
        let mortal = self.dice.random_bool(0.4).then(|| self.w.mortal(20));
        let claimed = mortal.as_ref().unwrap_or(&self.w).claim(limit);
        self.log.push(format!("claim {limit}: {:?}", crate::testing::factory::ids(&claimed)));
        assert!(claimed.len() <= limit, "{:#?}", self.log);
        for claimed in &claimed {
            let state = self.tasks.get(&claimed.spec.task_id).map(|(state, _)| *state);
            assert_eq!(state, Some(TaskState::Pending), "{:#?}", self.log);
        }
        self.mortal.extend(mortal);
        self.claims.extend(claimed);
        false
    }

    fn settle(&mut self) -> bool {
        if self.claims.is_empty() {
            return false;
        }
        let claimed = self.claims[self.dice.random_range(0..self.claims.len())].clone();
        let ends = [
            (TaskState::Completed, None),
            (TaskState::Dead, Some("dead")),
            (TaskState::Cancelled, Some("cancelled")),
            (TaskState::Retrying, Some("failed")),
            (TaskState::Scheduled, None),
            (TaskState::Pending, None),
        ];
        let (state, error) = ends[self.dice.random_range(0..ends.len())];
        let run_at = self.w.now() + Duration::from_secs(self.dice.random_range(0..30));
        let settlement = match state {
            TaskState::Pending => self.w.given_back(&claimed, state),
            _ => Settlement { run_at, ..self.w.ended(&claimed, state, error) },
        };
        let holds = self.runs_under(&claimed);
        let record = self.w.backend.get(claimed.spec.task_id).expect("get");
        let cancel_asked = record.is_some_and(|record| record.cancel_requested);
        let settled = self.w.settle(settlement);
        self.log.push(format!("settle {} as {state}: {settled:?}", claimed.spec.task_id));
        assert_eq!(settled != Settled::Fenced, holds, "{:#?}", self.log);
        if holds {
            let asked = cancel_asked && !state.is_terminal();
            let state = if asked { TaskState::Cancelled } else { state };
            assert_eq!(self.w.state(claimed.spec.task_id), state, "{:#?}", self.log);
        }
        false
    }

    /// True if the run in flight shows this token in the history.
    fn runs_under(&self, claimed: &Claimed) -> bool {
        let runs = self.w.backend.executions(claimed.spec.task_id).expect("executions");
        let running = runs.iter().find(|run| run.status == crate::task::ExecutionStatus::Running);
        running.is_some_and(|run| run.execution_id == claimed.token.as_i64())
    }

    fn crash(&mut self) -> bool {
        self.w.advance(Duration::from_secs(self.dice.random_range(1..40)));
        let rescued = self.w.rescue().rescued;
        self.log.push(format!("rescue: {rescued:?}"));
        for rescued in rescued {
            assert!(self.mortal.iter().any(|mortal| mortal.node == rescued.node), "{:#?}", self.log);
            assert_eq!(self.w.state(rescued.task_id), rescued.state, "{:#?}", self.log);
        }
        false
    }

    fn upkeep(&mut self) -> bool {
        self.w.advance(Duration::from_secs(self.dice.random_range(0..20)));
        let report = self.w.sweep();
        self.log.push(format!("sweep: {report:?}"));
        assert!(report.next_due.is_none_or(|next| next > self.w.now()), "{:#?}", self.log);
        false
    }

    fn release(&mut self) -> bool {
        let released = self.w.release(&[], false);
        self.log.push(format!("release: {released}"));
        false
    }

    fn prune(&mut self) -> bool {
        let rule = |state| Retention { state, finished_before: None, keep: Some(4) };
        let rules = vec![rule(TaskState::Completed), rule(TaskState::Dead), rule(TaskState::Cancelled)];
        let outdated = self.w.backend.outdated(&rules, self.w.now(), 3).expect("outdated");
        let pruned = self.w.backend.prune(&outdated).expect("prune");
        self.log.push(format!("prune: {pruned:?}"));
        for id in pruned {
            let (state, _) = self.tasks.remove(&id).expect("a pruned task was there");
            assert!(state.is_terminal(), "{:#?}", self.log);
        }
        false
    }

    /// Edits a task. True if the edit may have brought it back from its end.
    fn edit(&mut self) -> bool {
        if self.tasks.is_empty() {
            return false;
        }
        let nth = self.dice.random_range(0..self.tasks.len());
        let id = *self.tasks.keys().nth(nth).expect("it is one of them");
        let later = self.w.now() + Duration::from_secs(self.dice.random_range(0..30));
        let actions = [
            EditAction::Cancel("asked".into()),
            EditAction::Retry,
            EditAction::Delete,
            EditAction::Reprioritise(self.dice.random_range(-3..3)),
            EditAction::Reschedule(later),
        ];
        let action = actions[self.dice.random_range(0..actions.len())].clone();
        let changed = self.w.edit(&[id], action.clone()).changed;
        self.log.push(format!("{action:?} {id}: {changed:?}"));
        if action == EditAction::Delete && !changed.is_empty() {
            self.tasks.remove(&id);
        }
        action == EditAction::Retry
    }

    fn all(&self) -> Vec<TaskRecord> {
        let page = self.w.backend.list(&TaskFilter::default(), TaskOrder::OldestFirst, None, 1_000);
        page.expect("list").tasks
    }

    /// Compares the stored tasks with the expected tasks.
    fn observe(&mut self, retried: bool) {
        let records = self.all();
        let mut counts: BTreeMap<TaskState, u64> = BTreeMap::new();
        let mut keys: BTreeMap<(&str, bool), u32> = BTreeMap::new();
        assert_eq!(records.len(), self.tasks.len(), "lost or invented: {:#?}", self.log);
        for record in records {
            let Some((state, key)) = self.tasks.get_mut(&record.task_id) else {
                panic!("invented {}: {:#?}", record.task_id, self.log);
            };
            let legal = *state == record.state || state.may_become(record.state);
            let legal = legal && (retried || !state.is_terminal() || *state == record.state);
            assert!(legal, "{} from {state} to {}: {:#?}", record.task_id, record.state, self.log);
            assert_eq!(record.finished_at.is_some(), record.state.is_terminal(), "{:#?}", self.log);
            assert_eq!(record.node.is_some(), record.state == TaskState::Running, "{:#?}", self.log);
            *state = record.state;
            *counts.entry(record.state).or_default() += 1;
            if let Some(key) = key.filter(|_| !record.state.is_terminal()) {
                *keys.entry((key, record.state == TaskState::Waiting)).or_default() += 1;
            }
        }
        for state in TaskState::ALL {
            assert_eq!(self.w.count(*state), counts.get(state).copied().unwrap_or(0), "{state}: {:#?}", self.log);
        }
        assert!(keys.values().all(|holders| *holders == 1), "{keys:?}: {:#?}", self.log);
    }

    /// Brings every task to its end: no task may stay behind.
    fn drain(&mut self) {
        self.w.advance(Duration::from_secs(1_000));
        self.log.push("drain".into());
        self.w.release(&[], false);
        for _ in 0..100 {
            self.w.rescue();
            for claimed in self.w.claim(10) {
                self.w.complete(&claimed);
            }
        }
        let left: Vec<TaskRecord> = self.all().into_iter().filter(|record| !record.state.is_terminal()).collect();
        assert!(left.is_empty(), "left behind {left:#?}: {:#?}", self.log);
    }
}
