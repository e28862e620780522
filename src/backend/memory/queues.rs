//! The queues that have tasks: their numbers, counts and pending tasks.

use std::collections::BTreeMap;

use super::hash::FastMap;
use super::pending::Pending;
use super::rows::ByState;
use crate::backend::{InLine, StateCount};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::TaskState;

pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) counts: ByState<u64>,
    pub(super) pending: Pending,
}

/// Gives each queue a number. A row then names its queue in four bytes, and counting needs no hash.
pub(super) struct Queues {
    list: Vec<Queue>,
    numbers: FastMap<Name, u32>,
    /// Numbers of queues that have no tasks left.
    free: Vec<u32>,
    /// The last requested queue. It is a cache, because most pushes follow a push to the same queue.
    latest: u32,
}

const NONE: u32 = u32::MAX;

impl Default for Queues {
    fn default() -> Self {
        Self { list: Vec::new(), numbers: FastMap::default(), free: Vec::new(), latest: NONE }
    }
}

impl Queues {
    pub(super) fn get(&self, number: u32) -> &Queue {
        &self.list[number as usize]
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Queue {
        &mut self.list[number as usize]
    }

    pub(super) fn by_name(&mut self, name: &Name) -> Option<&mut Queue> {
        let number = *self.numbers.get(name)?;
        self.list.get_mut(number as usize)
    }

    /// The number of the queue `name`. A queue without tasks gets a new number.
    pub(super) fn number(&mut self, name: &Name) -> u32 {
        if self.list.get(self.latest as usize).is_some_and(|queue| queue.name == *name) {
            return self.latest;
        }
        self.latest = match self.numbers.get(name) {
            Some(number) => *number,
            None => self.add(name.clone()),
        };
        self.latest
    }

    fn add(&mut self, name: Name) -> u32 {
        let queue = Queue { name: name.clone(), counts: [0; _], pending: Pending::default() };
        let number = match self.free.pop() {
            Some(number) => {
                self.list[number as usize] = queue;
                number
            }
            None => {
                self.list.push(queue);
                u32::try_from(self.list.len() - 1).expect("fewer than 2^32 queues: each takes over 100 bytes")
            }
        };
        self.numbers.insert(name, number);
        number
    }

    /// Removes a queue that has no tasks left.
    pub(super) fn forget_if_empty(&mut self, number: u32) {
        let queue = &self.list[number as usize];
        if queue.counts.iter().all(|tasks| *tasks == 0) && self.numbers.remove(&queue.name).is_some() {
            self.free.push(number);
            self.latest = NONE;
        }
    }

    /// The first pending tasks of up to `most_queues` queues whose name follows `after`.
    pub(super) fn in_line(&self, after: &str, most_queues: usize, most: usize) -> Vec<InLine> {
        let queues = self.numbers.values().map(|number| self.get(*number));
        let pending = |queue: &&Queue| queue.counts[TaskState::Pending as usize] > 0 && *queue.name > *after;
        let mut queues: Vec<&Queue> = queues.filter(pending).collect();
        queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let of_queue = |queue: &Queue| {
            let first = queue.pending.first(most);
            let more = first.len() >= most;
            let mut types: BTreeMap<&Name, (u64, Timestamp)> = BTreeMap::new();
            for (place, kind) in first {
                let (tasks, oldest) = types.entry(kind).or_insert((0, place.run_at));
                (*tasks, *oldest) = (*tasks + 1, place.run_at.min(*oldest));
            }
            let line = |(kind, (tasks, oldest)): (&Name, (u64, Timestamp))| InLine {
                queue: queue.name.clone(),
                kind: kind.clone(),
                tasks,
                oldest,
                more,
            };
            types.into_iter().map(line).collect::<Vec<_>>()
        };
        queues.into_iter().take(most_queues).flat_map(of_queue).collect()
    }

    /// The number of all tasks.
    pub(super) fn tasks(&self) -> u64 {
        self.numbers.values().flat_map(|number| &self.get(*number).counts).sum()
    }

    pub(super) fn counts(&self) -> Vec<StateCount> {
        let mut queues: Vec<&Queue> = self.numbers.values().map(|number| self.get(*number)).collect();
        queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let of_queue = |queue: &Queue| {
            let counted = TaskState::ALL.iter().map(|state| (*state, queue.counts[*state as usize]));
            let present = counted.filter(|(_, tasks)| *tasks > 0);
            let name = queue.name.clone();
            present.map(move |(state, tasks)| StateCount { queue: name.clone(), state, tasks }).collect::<Vec<_>>()
        };
        queues.into_iter().flat_map(of_queue).collect()
    }
}
