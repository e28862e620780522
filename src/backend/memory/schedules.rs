//! Schedules and the history of their firings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::rows::Row;
use super::store::Store;
use crate::backend::{
    Chain, Commit, Fired, Insertion, Instance, Run, Saved, ScheduleChanges, ScheduleFilter, ScheduleState, Turn,
};
use crate::clock::Timestamp;
use crate::scheduler::{Firing, FiringCause, FiringKey, FiringStatus, ScheduleId, ScheduleRecord, ScheduleStatus};
use crate::task::TaskState;

/// All schedules.
#[derive(Default)]
pub(super) struct Schedules {
    rows: BTreeMap<ScheduleId, Stored>,
    names: BTreeMap<String, ScheduleId>,
    /// By the version at which each was saved last.
    versions: BTreeMap<i64, ScheduleId>,
    version: i64,
    firings: BTreeMap<(ScheduleId, Timestamp), Firing>,
    /// The tasks of schedules by their nominal times.
    tasks: BTreeMap<(ScheduleId, Timestamp), i64>,
    /// Those that are not at their end.
    live: HashMap<ScheduleId, BTreeSet<i64>>,
}

struct Stored {
    record: ScheduleRecord,
    version: i64,
}

impl Schedules {
    /// A task of a schedule came to a state, or left it.
    pub(super) fn entered(&mut self, key: FiringKey, seq: i64, state: TaskState, enters: bool) {
        if state.is_terminal() {
            return;
        }
        let live = self.live.entry(key.schedule_id).or_default();
        if enters {
            live.insert(seq);
        } else {
            live.remove(&seq);
            if live.is_empty() {
                self.live.remove(&key.schedule_id);
            }
        }
    }

    pub(super) fn added(&mut self, key: FiringKey, seq: i64) {
        self.tasks.insert((key.schedule_id, key.nominal_at), seq);
    }

    pub(super) fn deleted(&mut self, key: FiringKey) {
        self.tasks.remove(&(key.schedule_id, key.nominal_at));
    }

    pub(super) fn save(&mut self, record: &ScheduleRecord, turn: Option<i64>) -> Saved {
        let id = record.schedule_id;
        if self.names.get(record.name.as_str()).is_some_and(|other| *other != id) {
            return Saved::NameTaken;
        }
        let before = self.rows.get(&id);
        if before.map(|before| before.record.turn) != turn {
            return if turn.is_none() { Saved::NameTaken } else { Saved::Stale };
        }
        if let Some(before) = before {
            self.versions.remove(&before.version);
            self.names.remove(before.record.name.as_str());
        }
        self.version += 1;
        let turn = turn.map_or(1, |turn| turn + 1);
        self.names.insert(record.name.to_string(), id);
        self.versions.insert(self.version, id);
        self.rows.insert(id, Stored { record: ScheduleRecord { turn, ..record.clone() }, version: self.version });
        Saved::Stored { turn }
    }

    pub(super) fn changes(&self, version: i64) -> ScheduleChanges {
        let changed = self.versions.range(version.saturating_add(1)..);
        let due = changed.filter_map(|(_, id)| {
            let due = due(&self.rows.get(id)?.record);
            (version > 0 || due.is_some()).then_some((*id, due))
        });
        ScheduleChanges { version: self.version, due: due.collect() }
    }

    pub(super) fn named(&self, name: &str) -> Option<ScheduleId> {
        self.names.get(name).copied()
    }

    pub(super) fn list(&self, filter: &ScheduleFilter, after: Option<&str>, limit: usize) -> Vec<ScheduleRecord> {
        let later = self.names.iter().filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        let rows = later.filter_map(|(_, id)| Some(&self.rows.get(id)?.record));
        rows.filter(|record| matches(filter, record)).take(limit).cloned().collect()
    }

    pub(super) fn forget(&mut self, before: Timestamp) {
        let gone = |record: &ScheduleRecord| record.status == ScheduleStatus::Deleted && record.updated_at < before;
        let gone: Vec<ScheduleId> =
            self.rows.iter().filter(|(_, stored)| gone(&stored.record)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(stored) = self.rows.remove(&id) {
                self.names.remove(stored.record.name.as_str());
                self.versions.remove(&stored.version);
            }
            self.firings.retain(|(schedule, _), _| *schedule != id);
        }
    }

    /// True when a nominal time has a task, or had one by its history.
    fn has_run(&self, id: ScheduleId, nominal_at: Timestamp) -> bool {
        let key = (id, nominal_at);
        self.tasks.contains_key(&key)
            || self.firings.get(&key).is_some_and(|firing| firing.status == FiringStatus::Fired)
    }

    fn trim(&mut self, id: ScheduleId, keep: u32) {
        let all = (id, Timestamp::from_micros(i64::MIN))..=(id, Timestamp::from_micros(i64::MAX));
        let first_kept = self.firings.range(all.clone()).rev().nth(keep.saturating_sub(1) as usize);
        let Some(first_kept) = first_kept.map(|(key, _)| *key) else { return };
        let old: Vec<_> = self.firings.range(*all.start()..first_kept).map(|(key, _)| *key).collect();
        for key in old {
            self.firings.remove(&key);
        }
    }
}

/// When a schedule is to be looked at.
fn due(record: &ScheduleRecord) -> Option<Timestamp> {
    match (record.status, record.paused_until) {
        (ScheduleStatus::Active, _) => Some(record.next_run_at.unwrap_or_default()),
        (ScheduleStatus::Paused, until) => until,
        (ScheduleStatus::Finished | ScheduleStatus::Deleted, _) => None,
    }
}

fn matches(filter: &ScheduleFilter, record: &ScheduleRecord) -> bool {
    let by_status = match &filter.statuses[..] {
        [] => record.status != ScheduleStatus::Deleted,
        statuses => statuses.contains(&record.status),
    };
    let contains = |text: &str, part: &str| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
    by_status
        && (filter.types.is_empty() || filter.types.iter().any(|kind| *kind == *record.task.kind))
        && filter.text.as_ref().is_none_or(|part| {
            contains(&record.name, part) || record.description.as_ref().is_some_and(|text| contains(text, part))
        })
}

impl Store {
    pub(super) fn schedule_states(&self, ids: &[ScheduleId]) -> Vec<ScheduleState> {
        ids.iter().filter_map(|id| self.schedule_state(*id)).collect()
    }

    fn schedule_state(&self, id: ScheduleId) -> Option<ScheduleState> {
        let record = self.schedules.rows.get(&id)?.record.clone();
        let live = self.schedules.live.get(&id);
        let instances = live.into_iter().flatten().filter_map(|seq| {
            let row = self.rows.get(*seq)?;
            let follows = row.rare.as_ref().and_then(|rare| rare.parent).map(|(_, parent)| parent);
            let follows = follows.filter(|_| row.state == TaskState::Waiting);
            Some(Instance { task_id: row.spec.task_id, state: row.state, follows })
        });
        let failures = record.policy.pause_after.map_or(0, |most| self.failures(&record, most));
        Some(ScheduleState { live: instances.collect(), fault: None, failures, record })
    }

    /// Dead tasks of a schedule, from the latest back to the first that was completed.
    fn failures(&self, record: &ScheduleRecord, most: u32) -> u32 {
        let id = record.schedule_id;
        let after = (id, record.failures_from);
        let times = self.schedules.tasks.range(after..=(id, Timestamp::from_micros(i64::MAX))).rev();
        let states =
            times.filter(|((_, time), _)| *time > record.failures_from).filter_map(|(_, seq)| self.rows.get(*seq));
        let ended =
            states.map(|row| row.state).filter(|state| matches!(state, TaskState::Completed | TaskState::Dead));
        let dead = ended.take_while(|state| *state == TaskState::Dead).take(most as usize);
        u32::try_from(dead.count()).unwrap_or(u32::MAX)
    }

    pub(super) fn fire(&mut self, turns: &[Turn]) -> Vec<Fired> {
        turns.iter().map(|turn| self.fire_one(turn)).collect()
    }

    fn fire_one(&mut self, turn: &Turn) -> Fired {
        let holds = |stored: &&mut Stored| stored.record.turn == turn.turn;
        let Some(stored) = self.schedules.rows.get_mut(&turn.schedule_id).filter(holds) else { return Fired::Lost };
        let record = &mut stored.record;
        record.turn += 1;
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
        let made: Vec<Option<TaskState>> = {
            let mut chain = Chain::default();
            turn.runs.iter().map(|run| self.make(turn, run, &mut chain)).collect()
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
        Fired::Done(made)
    }

    /// Stores the task of one run, unless its nominal time has had one.
    fn make(&mut self, turn: &Turn, run: &Run, chain: &mut Chain) -> Option<TaskState> {
        let nominal_at = run.spec.extras().firing?.nominal_at;
        let follows = chain.resolve(run.follows);
        if self.schedules.has_run(turn.schedule_id, nominal_at) {
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

    pub(super) fn firings(&self, id: ScheduleId, before: Option<Timestamp>, limit: usize) -> Vec<Firing> {
        let before = before.unwrap_or(Timestamp::from_micros(i64::MAX));
        let range = (id, Timestamp::from_micros(i64::MIN))..(id, before);
        let found = self.schedules.firings.range(range).rev().take(limit);
        found.map(|(_, firing)| self.with_task(firing.clone())).collect()
    }

    /// A firing with what became of its task.
    fn with_task(&self, firing: Firing) -> Firing {
        let Some(task) = firing.task_id.and_then(|task_id| self.get(task_id)) else { return firing };
        Firing { state: Some(task.state), finished_at: task.finished_at, error: task.last_error, ..firing }
    }
}
