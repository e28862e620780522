//! Stored limits, and the starts that their rates remember.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::pending::Verdict;
use super::store::Store;
use crate::backend::{Commit, Limit, LimitScope};
use crate::clock::Timestamp;
use crate::limit::{Gate, LOOK_AHEAD, Labels, Start};
use crate::name::Name;

/// Up to this number of subjects, no scan removes subjects whose starts have all expired.
const FEW_SUBJECTS: usize = 64;

/// All limits, and the starts that they remember.
#[derive(Default)]
pub(super) struct Limiter {
    limits: BTreeMap<(LimitScope, Name), Limit>,
    log: HashMap<(LimitScope, Name), Log>,
}

/// The starts under a limit: for each subject, the number of starts at each time.
#[derive(Default)]
struct Log {
    subjects: HashMap<Box<str>, BTreeMap<Timestamp, u64>>,
    /// The number of subjects above which the next full scan runs.
    look_at: usize,
}

impl Log {
    fn add(&mut self, start: Start) {
        let times = self.subjects.entry(start.subject).or_default();
        *times.entry(start.at).or_default() += u64::from(start.tasks);
        *times = times.split_off(&start.forget);
        times.remove(&start.forget);
        if self.subjects.len() > self.look_at.max(FEW_SUBJECTS) {
            self.subjects.retain(|_, times| times.last_key_value().is_some_and(|(last, _)| *last > start.forget));
            // The next scan runs only after the number of subjects has doubled. So each start pays for at most two
            // visits, however many subjects there are.
            self.look_at = self.subjects.len() * 2;
        }
    }
}

impl Limiter {
    pub(super) fn save(&mut self, limit: &Limit) {
        let id = (limit.scope, limit.name.clone());
        if limit.rate.is_none() {
            self.log.remove(&id);
        }
        self.limits.insert(id, limit.clone());
    }

    pub(super) fn remove(&mut self, scope: LimitScope, name: &str) -> bool {
        let id = (scope, Name::from(name.to_owned()));
        self.log.remove(&id);
        self.limits.remove(&id).is_some()
    }

    pub(super) fn list(&self) -> Vec<Limit> {
        self.limits.values().cloned().collect()
    }

    /// Reports to a gate the starts that it requests.
    fn look(&self, gate: &mut Gate, task: Labels<'_>) {
        for (place, subjects) in gate.unlooked([task].into_iter()) {
            let Some(limit) = gate.limit(place) else { continue };
            let (Some(log), Some(rate)) = (self.log.get(&(limit.scope, limit.name.clone())), limit.rate) else {
                continue;
            };
            let (after, until) = gate.window(rate);
            for subject in subjects {
                let times = log.subjects.get(subject).into_iter().flatten();
                for (at, tasks) in times.filter(|(at, _)| **at > after && **at <= until) {
                    gate.started(place, subject, *tasks, *at);
                }
            }
        }
    }
}

impl Store {
    /// The gate for the claims of a commit that names limits.
    pub(super) fn gate(&self, commit: &Commit) -> Option<Gate> {
        let known = commit.limits.as_ref()?;
        if !commit.claim.iter().any(|request| known.may_touch(&request.queue, request.types.as_deref())) {
            return None;
        }
        let mut gate = Gate::new(known, commit.now);
        let mut places = BTreeSet::new();
        for (place, limit) in known.iter().enumerate() {
            match self.limiter.limits.get(&(limit.scope, limit.name.clone())) {
                Some(stored) => gate.open(place, stored.clone()),
                None => gate.gone(place),
            }
            places.insert(place);
        }
        if gate.counts_running(&places) {
            for row in self.running.iter().filter_map(|seq| self.rows.get(*seq)) {
                gate.runs(&places, row.spec.labels(), 1);
            }
        }
        Some(gate)
    }

    /// Stores the starts that a gate has let through.
    pub(super) fn remember(&mut self, gate: &Gate) {
        for start in gate.starts() {
            if let Some(limit) = gate.limit(start.place) {
                let id = (limit.scope, limit.name.clone());
                self.limiter.log.entry(id).or_default().add(start);
            }
        }
    }
}

/// Checks tasks against a gate, and counts the tasks that it held back.
pub(super) struct Judge<'a> {
    pub(super) gate: Option<&'a mut Gate>,
    pub(super) limiter: &'a Limiter,
    pub(super) held: usize,
}

impl Judge<'_> {
    pub(super) fn judge(&mut self, task: Labels<'_>) -> Verdict {
        let Some(gate) = &mut self.gate else { return Verdict::Take };
        self.limiter.look(gate, task);
        if gate.admit(task) {
            gate.begun(task);
            return Verdict::Take;
        }
        self.held += 1;
        if self.held >= LOOK_AHEAD { Verdict::Stop } else { Verdict::Leave }
    }
}
