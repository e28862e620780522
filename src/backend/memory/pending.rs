//! The tasks of a queue that may run now, in the order of their start.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::hash::FastMap;
use crate::clock::Timestamp;
use crate::name::Name;

/// The sort key of a pending task: priority, then `run_at`, then push order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) priority: i32,
    pub(super) run_at: Timestamp,
    pub(super) seq: i64,
}

/// A sorted set per type, so that a claim for some types looks at no task of other types.
#[derive(Default)]
struct Lines(FastMap<Name, BTreeSet<Place>>);

/// The pending tasks of a queue. Tasks on their last chance are kept apart. A node that already runs such a task then
/// does not have to step over all of them.
#[derive(Default)]
pub(super) struct Pending {
    plain: Lines,
    last_chance: Lines,
}

/// Whether a claim takes the task that it looks at.
pub(super) enum Verdict {
    Take,
    /// The task stays pending for upkeep or a later claim.
    Leave,
    /// The same for this task and all tasks after it.
    Stop,
}

impl Lines {
    /// Removes the sets of `types`; [`Lines::put_back`] returns them.
    fn take_out(&mut self, types: Option<&[Name]>) -> Vec<(Name, BTreeSet<Place>)> {
        match types {
            _ if self.0.is_empty() => Vec::new(),
            None => self.0.drain().collect(),
            // If a type is named twice, its set is already removed at the second time.
            Some(types) => types.iter().filter_map(|kind| self.0.remove_entry(kind)).collect(),
        }
    }

    fn put_back(&mut self, lines: impl Iterator<Item = (Name, BTreeSet<Place>)>) {
        self.0.extend(lines.filter(|(_, line)| !line.is_empty()));
    }
}

impl Pending {
    fn lines(&mut self, last_chance: bool) -> &mut Lines {
        if last_chance { &mut self.last_chance } else { &mut self.plain }
    }

    pub(super) fn insert(&mut self, kind: &Name, last_chance: bool, place: Place) {
        let lines = &mut self.lines(last_chance).0;
        match lines.get_mut(kind) {
            Some(line) => line.insert(place),
            None => lines.entry(kind.clone()).or_default().insert(place),
        };
    }

    pub(super) fn remove(&mut self, kind: &Name, last_chance: bool, place: Place) {
        let lines = &mut self.lines(last_chance).0;
        if let Some(line) = lines.get_mut(kind) {
            line.remove(&place);
            if line.is_empty() {
                lines.remove(kind);
            }
        }
    }

    /// The first `most` pending tasks in claim order, each with its type.
    pub(super) fn first(&self, most: usize) -> Vec<(Place, &Name)> {
        let lines = self.plain.0.iter().chain(&self.last_chance.0);
        let mut first: Vec<(Place, &Name)> =
            lines.flat_map(|(kind, line)| line.iter().take(most).map(move |place| (*place, kind))).collect();
        first.sort_unstable_by_key(|(place, _)| *place);
        first.truncate(most);
        first
    }

    /// True if a task of `types` is on its last chance.
    pub(super) fn any_on_last_chance(&self, types: Option<&[Name]>) -> bool {
        let lines = &self.last_chance.0;
        types.map_or(!lines.is_empty(), |types| types.iter().any(|kind| lines.contains_key(kind)))
    }

    /// Takes the first tasks of `types` that `judge` accepts, up to `limit`. At most a single task on its last chance
    /// is taken, and none without `last_chance`.
    pub(super) fn take(
        &mut self,
        types: Option<&[Name]>,
        limit: usize,
        last_chance: bool,
        judge: impl FnMut(i64) -> Verdict,
    ) -> Vec<i64> {
        if limit == 0 {
            return Vec::new();
        }
        let mut lines = self.plain.take_out(types);
        let plain = lines.len();
        if last_chance {
            lines.extend(self.last_chance.take_out(types));
        }
        let taken = merge(&mut lines, plain, limit, judge);
        let mut lines = lines.into_iter();
        self.plain.put_back(lines.by_ref().take(plain));
        self.last_chance.put_back(lines);
        taken
    }
}

/// Merges `lines` in order. The lines from index `plain` on hold the tasks on their last chance.
fn merge(
    lines: &mut [(Name, BTreeSet<Place>)],
    plain: usize,
    limit: usize,
    mut judge: impl FnMut(i64) -> Verdict,
) -> Vec<i64> {
    let heads = lines.iter().enumerate().filter_map(|(line, (_, tasks))| Some(Reverse((*tasks.first()?, line))));
    let mut heads: BinaryHeap<_> = heads.collect();
    let mut taken = Vec::new();
    let mut left = Vec::new();
    let mut last_chance_taken = false;
    while taken.len() < limit {
        let Some(Reverse((place, line))) = heads.pop() else { break };
        if line >= plain && last_chance_taken {
            continue;
        }
        let tasks = &mut lines[line].1;
        tasks.pop_first();
        if let Some(next) = tasks.first() {
            heads.push(Reverse((*next, line)));
        }
        match judge(place.seq) {
            Verdict::Take => {
                last_chance_taken |= line >= plain;
                taken.push(place.seq);
            }
            Verdict::Leave => left.push((line, place)),
            Verdict::Stop => {
                left.push((line, place));
                break;
            }
        }
    }
    for (line, place) in left {
        lines[line].1.insert(place);
    }
    taken
}
