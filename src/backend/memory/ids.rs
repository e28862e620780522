//! Finds a task by its id.

use std::collections::VecDeque;

use super::hash::FastMap;
use crate::task::TaskId;

/// The approximate number of ids in a sorted chunk: ids that arrive a little late are inserted between the existing
/// ids.
const CHUNK: usize = 512;

/// Maps each task id to its position in push order.
///
/// Most ids are version 7 UUIDs and arrive nearly in order. These ids are kept sorted, in chunks. Only the last chunks
/// are read to check that a new id is new and to store it, and these chunks are in the CPU cache. A hash table of
/// millions of ids would cause several cache misses, and would stop all work whenever it grows. All other ids, and ids
/// that arrive too late, are in a hash table.
#[derive(Default)]
pub(super) struct Ids {
    sorted: VecDeque<Chunk>,
    others: FastMap<TaskId, i64>,
}

/// Ids in order; the position [`GONE`] marks a deleted task.
struct Chunk {
    ids: Vec<(u128, i64)>,
    live: usize,
}

const GONE: i64 = 0;

/// The number of chunks at the end that accept late ids.
const OPEN: usize = 4;

/// The place for a new id.
enum Spot {
    /// At this index of this chunk.
    In(usize, usize),
    NewChunk,
    Others,
}

fn number(id: TaskId) -> u128 {
    id.as_uuid().as_u128()
}

impl Ids {
    pub(super) fn get(&self, id: TaskId) -> Option<i64> {
        if !self.others.is_empty()
            && let Some(seq) = self.others.get(&id)
        {
            return Some(*seq);
        }
        let (chunk, index) = self.find(number(id))?;
        Some(self.sorted[chunk].ids[index.ok()?].1).filter(|seq| *seq != GONE)
    }

    /// Stores a new id, or returns the position of the task that already has it.
    pub(super) fn insert(&mut self, id: TaskId, seq: i64) -> Result<(), i64> {
        let spot = self.spot(id)?;
        if !self.others.is_empty()
            && let Some(known) = self.others.get(&id)
        {
            return Err(*known);
        }
        let entry = (number(id), seq);
        match spot {
            Spot::In(chunk, index) => self.sorted[chunk].insert(index, entry),
            Spot::Others => drop(self.others.insert(id, seq)),
            Spot::NewChunk => {
                let mut chunk = Chunk { ids: Vec::with_capacity(CHUNK), live: 0 };
                chunk.insert(0, entry);
                self.sorted.push_back(chunk);
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, id: TaskId) {
        if self.others.remove(&id).is_some() {
            return;
        }
        let Some((position, Ok(index))) = self.find(number(id)) else { return };
        let chunk = &mut self.sorted[position];
        if std::mem::replace(&mut chunk.ids[index].1, GONE) != GONE {
            chunk.live -= 1;
        }
        // A chunk without live ids keeps its first id, because the search over chunks uses it.
        if chunk.live == 0 {
            chunk.ids.truncate(1);
            chunk.ids.shrink_to_fit();
        }
        while self.sorted.front().is_some_and(|chunk| chunk.live == 0) {
            self.sorted.pop_front();
        }
    }

    /// The place for a new id, or the position of the task that already has it among the sorted ids.
    fn spot(&self, id: TaskId) -> Result<Spot, i64> {
        let wanted = number(id);
        // Other UUID versions are not ordered. A large id among the sorted ids would keep out all later ids.
        let ordered = id.as_uuid().get_version_num() == 7;
        let Some(last) = self.sorted.back() else {
            return Ok(if ordered { Spot::NewChunk } else { Spot::Others });
        };
        if ordered && last.ids.last().is_none_or(|(id, _)| *id < wanted) {
            let room = last.ids.len() < CHUNK;
            return Ok(if room { Spot::In(self.sorted.len() - 1, last.ids.len()) } else { Spot::NewChunk });
        }
        let Some((position, found)) = self.find(wanted) else { return Ok(Spot::Others) };
        let chunk = &self.sorted[position];
        match found {
            Ok(index) if chunk.ids[index].1 == GONE => Ok(Spot::Others),
            Ok(index) => Err(chunk.ids[index].1),
            Err(index) => {
                let open = ordered && position + OPEN >= self.sorted.len() && chunk.ids.len() < 2 * CHUNK;
                Ok(if open { Spot::In(position, index) } else { Spot::Others })
            }
        }
    }

    /// The chunk of an id among the sorted ids, with its index there or the index for inserting it. `None` if the id
    /// comes before all sorted ids.
    fn find(&self, wanted: u128) -> Option<(usize, Result<usize, usize>)> {
        let after = self.sorted.partition_point(|chunk| chunk.ids.first().is_some_and(|(id, _)| *id <= wanted));
        let chunk = after.checked_sub(1)?;
        Some((chunk, self.sorted[chunk].ids.binary_search_by_key(&wanted, |(id, _)| *id)))
    }
}

impl Chunk {
    fn insert(&mut self, index: usize, entry: (u128, i64)) {
        self.ids.insert(index, entry);
        self.live += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// Ids of both kinds from a small range, so that equal ids occur.
    fn id() -> impl Strategy<Value = TaskId> {
        (0..3_000_u128, any::<bool>()).prop_map(|(number, ordered)| {
            let version = if ordered { 7 } else { 4 };
            TaskId::from(Uuid::from_u128(number << 80 | version << 76 | 1 << 63))
        })
    }

    proptest! {
        #[test]
        fn is_a_map(steps in prop::collection::vec((id(), 0..4_u8), 1..4_000)) {
            let (mut ids, mut map) = (Ids::default(), HashMap::new());
            for (seq, (id, action)) in (1..).zip(steps) {
                match action {
                    0 => {
                        ids.remove(id);
                        map.remove(&id);
                    }
                    1 => prop_assert_eq!(ids.get(id), map.get(&id).copied()),
                    _ => {
                        let known = map.get(&id).copied();
                        prop_assert_eq!(ids.insert(id, seq), known.map_or(Ok(()), Err));
                        map.entry(id).or_insert(seq);
                    }
                }
            }
            for (id, seq) in map {
                prop_assert_eq!(ids.get(id), Some(seq));
            }
        }
    }

    #[test]
    fn ids_nearly_in_order_stay_sorted_and_their_memory_goes_back() {
        let mut ids = Ids::default();
        let nth = |n: u128| TaskId::from(Uuid::from_u128((n ^ 7) << 80 | 7 << 76 | 1 << 63));
        for n in 0..10_000 {
            assert_eq!(ids.insert(nth(n), 1 + i64::try_from(n).unwrap()), Ok(()));
        }
        assert!(ids.others.len() < 10, "{} of 10,000 came too late", ids.others.len());
        (0..10_000).for_each(|n| ids.remove(nth(n)));
        assert!(ids.others.is_empty() && ids.sorted.is_empty());
    }
}
