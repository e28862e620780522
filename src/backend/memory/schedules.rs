//! Schedules and the history of their firings.

mod fire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Bound, RangeInclusive};

use super::store::Store;
use crate::backend::{Instance, MOST_FIRED, Saved, ScheduleChanges, ScheduleFilter, ScheduleState, next_turn};
use crate::clock::Timestamp;
use crate::schedule::{Firing, FiringCause, FiringStatus, ScheduleRecord, ScheduleStatus};
use crate::task::{FiringKey, ScheduleId, TaskState};

/// All schedules.
#[derive(Default)]
pub(super) struct Schedules {
    rows: BTreeMap<ScheduleId, Stored>,
    names: BTreeMap<String, ScheduleId>,
    /// Schedules defined by code, by the name in the code.
    codes: HashMap<String, ScheduleId>,
    /// Schedules by the version of their last save.
    versions: BTreeMap<i64, ScheduleId>,
    version: i64,
    firings: BTreeMap<(ScheduleId, Timestamp), Firing>,
    /// The tasks of schedules by their nominal times.
    tasks: BTreeMap<(ScheduleId, Timestamp), i64>,
    /// Nominal times whose task was deleted, and the last state of that task.
    gone: BTreeMap<(ScheduleId, Timestamp), TaskState>,
    /// Tasks that are not terminal, by schedule.
    live: HashMap<ScheduleId, BTreeSet<i64>>,
}

struct Stored {
    record: ScheduleRecord,
    version: i64,
}

impl Schedules {
    /// Records that a task of a schedule entered a state or left it.
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

    pub(super) fn deleted(&mut self, key: FiringKey, state: TaskState) {
        let key = (key.schedule_id, key.nominal_at);
        self.tasks.remove(&key);
        self.gone.insert(key, state);
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
            if let Some(code) = before.record.code_name() {
                self.codes.remove(code.as_str());
            }
        }
        if let Some(code) = record.code_name() {
            self.codes.insert(code, id);
        }
        self.version += 1;
        let turn = next_turn(turn);
        self.names.insert(record.name.to_string(), id);
        self.versions.insert(self.version, id);
        self.rows.insert(id, Stored { record: ScheduleRecord { turn, ..record.clone() }, version: self.version });
        Saved::Stored { turn }
    }

    pub(super) fn changes(&self, version: i64) -> ScheduleChanges {
        let changed = self.versions.range(version.saturating_add(1)..);
        let due = changed.filter_map(|(_, id)| {
            let due = due(&self.rows.get(id)?.record);
            (version != 0 || due.is_some()).then_some((*id, due))
        });
        ScheduleChanges { version: self.version, due: due.collect() }
    }

    pub(super) fn ahead(&self, now: Timestamp, limit: usize) -> Vec<ScheduleId> {
        let records = self.rows.values().map(|stored| &stored.record);
        let ahead = |record: &&ScheduleRecord| record.status == ScheduleStatus::Active && record.cursor > now;
        let mut found: Vec<_> =
            records.filter(ahead).map(|record| (record.next_run_at, record.schedule_id)).collect();
        found.sort_unstable();
        found.into_iter().rev().take(limit).map(|(_, id)| id).collect()
    }

    pub(super) fn named(&self, name: &str) -> Option<ScheduleId> {
        self.names.get(name).copied()
    }

    pub(super) fn defined(&self, name: &str) -> Option<ScheduleId> {
        self.codes.get(name).copied()
    }

    pub(super) fn list(&self, filter: &ScheduleFilter, after: Option<&str>, limit: usize) -> Vec<ScheduleRecord> {
        let later = self.names.iter().filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        let rows = later.filter_map(|(_, id)| Some(&self.rows.get(id)?.record));
        rows.filter(|record| matches(filter, record)).take(limit).cloned().collect()
    }

    pub(super) fn forget(&mut self, deleted: Timestamp, finished: Option<Timestamp>) {
        let gone = |record: &ScheduleRecord| {
            let last = record.updated_at.max(record.cursor).max(record.last_run_at.unwrap_or_default());
            let over = match record.status {
                ScheduleStatus::Deleted => record.updated_at < deleted,
                ScheduleStatus::Finished => finished.is_some_and(|finished| last < finished),
                ScheduleStatus::Active | ScheduleStatus::Paused => false,
            };
            over && record.code.is_none()
        };
        let gone: Vec<ScheduleId> =
            self.rows.iter().filter(|(_, stored)| gone(&stored.record)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(stored) = self.rows.remove(&id) {
                self.names.remove(stored.record.name.as_str());
                if let Some(code) = stored.record.code_name() {
                    self.codes.remove(code.as_str());
                }
                self.versions.remove(&stored.version);
            }
            self.firings.retain(|(schedule, _), _| *schedule != id);
        }
        self.gone.retain(|(schedule, _), _| self.rows.contains_key(schedule));
    }

    /// True if a nominal time has a task, had a task, or may have had a task.
    fn has_run(&self, id: ScheduleId, nominal_at: Timestamp, cause: FiringCause) -> bool {
        let key = (id, nominal_at);
        let forgotten_to = self.rows.get(&id).and_then(|stored| stored.record.forgotten_to);
        (cause != FiringCause::Manual && forgotten_to.is_some_and(|forgotten| nominal_at <= forgotten))
            || self.tasks.contains_key(&key)
            || self.gone.contains_key(&key)
            || self.firings.get(&key).is_some_and(|firing| firing.status == FiringStatus::Fired)
    }

    fn cause(&self, key: FiringKey) -> FiringCause {
        self.firings.get(&(key.schedule_id, key.nominal_at)).map_or(FiringCause::Schedule, |firing| firing.cause)
    }

    fn trim(&mut self, id: ScheduleId, keep: u32) {
        let all = times_of(id);
        let first_kept = self.firings.range(all.clone()).rev().nth(keep.saturating_sub(1) as usize);
        let Some(first_kept) = first_kept.map(|(key, _)| *key) else { return };
        let live = self.live.get(&id);
        let goes_on = |key: &(ScheduleId, Timestamp)| {
            live.zip(self.tasks.get(key)).is_some_and(|(live, seq)| live.contains(seq))
        };
        // The history row of an unfinished task stays, because it holds the cause of its run.
        let old = self.firings.range(*all.start()..first_kept).map(|(key, _)| *key);
        let old: Vec<_> = old.filter(|key| !goes_on(key)).collect();
        for key in old {
            self.firings.remove(&key);
        }
    }

    /// Forgets the oldest nominal times whose task was deleted.
    fn forget_runs(&mut self, id: ScheduleId, keep: u32) {
        let all = times_of(id);
        let Some(last) = self.gone.range(all.clone()).rev().nth(keep as usize).map(|(key, _)| *key) else { return };
        let old: Vec<_> = self.gone.range(*all.start()..=last).map(|(key, _)| *key).collect();
        for key in old {
            self.gone.remove(&key);
        }
        if let Some(stored) = self.rows.get_mut(&id) {
            stored.record.forgotten_to = stored.record.forgotten_to.max(Some(last.1));
        }
    }
}

/// The key range of all times of a schedule.
fn times_of(id: ScheduleId) -> RangeInclusive<(ScheduleId, Timestamp)> {
    (id, Timestamp::from_micros(i64::MIN))..=(id, Timestamp::from_micros(i64::MAX))
}

/// The time at which the scheduler must look at a schedule.
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
            let cause = self.schedules.cause(row.spec.extras().firing?);
            Some(Instance { task_id: row.spec.task_id, state: row.state, follows, cause })
        });
        let failures = record.policy.pause_after.map_or(0, |most| self.failures(&record, most));
        Some(ScheduleState { live: instances.collect(), fired: self.fired(&record), fault: None, failures, record })
    }

    /// Nominal times after the cursor that have already made a task.
    fn fired(&self, record: &ScheduleRecord) -> Vec<Timestamp> {
        use std::ops::Bound::{Excluded, Included};
        let id = record.schedule_id;
        let ahead = (Excluded((id, record.cursor)), Included((id, Timestamp::from_micros(i64::MAX))));
        let tasks = self.schedules.tasks.range(ahead).rev().take(MOST_FIRED).map(|((_, time), _)| *time);
        let told = self.schedules.firings.range(ahead).rev().take(MOST_FIRED);
        let told = told.filter(|(_, firing)| firing.status == FiringStatus::Fired).map(|((_, time), _)| *time);
        let gone = self.schedules.gone.range(ahead).rev().take(MOST_FIRED).map(|((_, time), _)| *time);
        tasks.chain(told).chain(gone).collect::<BTreeSet<Timestamp>>().into_iter().collect()
    }

    /// The number of dead tasks of a schedule, from the latest task back to the first completed task.
    fn failures(&self, record: &ScheduleRecord, most: u32) -> u32 {
        let counted = *times_of(record.schedule_id).end();
        let counted = (Bound::Excluded((record.schedule_id, record.failures_from)), Bound::Included(counted));
        let ended = |state: &TaskState| matches!(state, TaskState::Completed | TaskState::Dead);
        let stored = self.schedules.tasks.range(counted).rev();
        let stored = stored.filter_map(|((_, time), seq)| Some((*time, self.rows.get(*seq)?.state)));
        let gone = self.schedules.gone.range(counted).rev().map(|((_, time), state)| (*time, *state));
        // Each of the two lists is sorted, and the latest entries of both together are needed.
        let mut latest: Vec<_> = stored.filter(|(_, state)| ended(state)).take(most as usize).collect();
        latest.extend(gone.filter(|(_, state)| ended(state)).take(most as usize));
        latest.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
        let dead = latest.iter().take(most as usize).take_while(|(_, state)| *state == TaskState::Dead);
        u32::try_from(dead.count()).unwrap_or(u32::MAX)
    }
}
