//! A row per task, found by its position in push order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::ExecutionEnd;
use crate::clock::Timestamp;
use crate::task::{ClaimToken, FiringKey, NodeId, Progress, TaskId, TaskSpec, TaskState};

/// A task with its history. Kept small, because the history may have very many rows.
pub(super) struct Row {
    pub(super) spec: Arc<TaskSpec>,
    pub(super) run_at: Timestamp,
    /// The time of its last state change; for a terminal task, its finish time.
    pub(super) updated_at: Timestamp,
    /// The latest claim, even after its run has ended.
    pub(super) claim: Option<Claim>,
    /// The end of the run under `claim`.
    pub(super) end: Option<ExecutionEnd>,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) attempt: u32,
    pub(super) crash_count: u32,
    /// The number of its queue.
    pub(super) queue: u32,
    /// Its index in the list of running tasks; meaningless in other states.
    pub(super) slot: u32,
    /// The bytes of the data that the caller pushed.
    pub(super) weight: u32,
    pub(super) state: TaskState,
}

/// The claim under which it runs, or ran last.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) token: ClaimToken,
    pub(super) node: NodeId,
    pub(super) started_at: Timestamp,
}

/// Fields that most tasks never use.
#[derive(Default)]
pub(super) struct Rare {
    /// All runs before the latest.
    pub(super) earlier: Vec<(Claim, ExecutionEnd)>,
    pub(super) progress: Option<Progress>,
    /// The reason why it is dead or cancelled, if no run of its own gives it.
    pub(super) reason: Option<Box<str>>,
    /// The reason of a cancel that was requested while it runs.
    pub(super) cancel: Option<Box<str>>,
    /// The task that it waits for.
    pub(super) parent: Option<(i64, TaskId)>,
    /// The task that waits for it.
    pub(super) follower: Option<i64>,
}

/// The estimated bytes of a row without texts, with its share of the indexes. The value was not measured.
const PLAIN: usize = 480;

impl Row {
    /// The approximate bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let of_end =
            |end: &ExecutionEnd| end.result.as_deref().map_or(0, str::len) + end.error.as_deref().map_or(0, str::len);
        let own = PLAIN + self.weight as usize + self.end.as_ref().map_or(0, of_end);
        let earlier = self.rare.as_deref().map_or(&[][..], |rare| &rare.earlier);
        own + earlier.iter().map(|(_, end)| size_of_val(end) + of_end(end)).sum::<usize>()
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn cancel_requested(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.cancel.is_some())
    }

    pub(super) fn follower(&self) -> Option<i64> {
        self.rare.as_ref().and_then(|rare| rare.follower)
    }

    /// The time at which it is cancelled if it has not started. `None` for a started or terminal task.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        let never_started = self.claim.is_none() && !self.state.is_terminal();
        self.spec.extras.as_ref().filter(|_| never_started).and_then(|extras| extras.expires_at)
    }

    pub(super) fn firing(&self) -> Option<FiringKey> {
        self.spec.extras.as_ref().and_then(|extras| extras.firing)
    }

    pub(super) fn holder(&self) -> Option<NodeId> {
        self.claim.filter(|_| self.state == TaskState::Running).map(|claim| claim.node)
    }

    /// True while it runs under `token`.
    pub(super) fn runs_under(&self, token: ClaimToken) -> bool {
        self.state == TaskState::Running && self.claim.is_some_and(|claim| claim.token == token)
    }

    /// Starts a run; the previous run moves to the history.
    pub(super) fn start(&mut self, claim: Claim) {
        if let (Some(before), Some(end)) = (self.claim, self.end.take()) {
            self.rare().earlier.push((before, end));
        }
        self.claim = Some(claim);
        self.crash_count = self.crash_count.saturating_add(1);
        self.state = TaskState::Running;
        self.updated_at = claim.started_at;
    }

    /// The ends of its runs, latest first.
    pub(super) fn ends(&self) -> impl Iterator<Item = &ExecutionEnd> {
        let earlier = self.rare.as_deref().map_or(&[][..], |rare| &rare.earlier);
        self.end.iter().chain(earlier.iter().rev().map(|(_, end)| end))
    }
}

/// A value for each task state, indexed by the state.
pub(super) type ByState<T> = [T; TaskState::ALL.len()];

/// The number of rows in a chunk: small enough for the allocator to reuse, large enough to hold a long history in few
/// chunks.
const CHUNK: i64 = 256;

#[derive(Default)]
struct Chunk {
    rows: Vec<Option<Row>>,
    /// The number of tasks per state. A search skips chunks that have no task in a wanted state.
    states: ByState<u32>,
}

impl Chunk {
    fn is_empty(&self) -> bool {
        self.states.iter().all(|tasks| *tasks == 0)
    }
}

/// All rows, in chunks, so that growth never copies them and the memory of pruned rows is freed.
#[derive(Default)]
pub(super) struct Rows {
    chunks: VecDeque<Chunk>,
    /// The number of the first remaining chunk.
    first: i64,
    /// The number of rows ever pushed.
    pushed: i64,
}

/// The chunk number and the index in the chunk; positions in push order begin at 1.
fn split(seq: i64) -> (i64, usize) {
    let index = seq.wrapping_sub(1);
    (index.div_euclid(CHUNK), usize::try_from(index.rem_euclid(CHUNK)).unwrap_or(0))
}

impl Rows {
    /// The position of the next row.
    pub(super) fn next_seq(&self) -> i64 {
        self.pushed + 1
    }

    pub(super) fn push(&mut self, row: Row) {
        self.pushed += 1;
        let (number, index) = split(self.pushed);
        if index == 0 || self.chunks.is_empty() {
            if self.chunks.is_empty() {
                self.first = number;
            }
            let rows = Vec::with_capacity(usize::try_from(CHUNK).unwrap_or(0));
            self.chunks.push_back(Chunk { rows, states: [0; _] });
        }
        let chunk = self.chunks.back_mut().expect("a chunk was just pushed when there was none");
        // A chunk whose rows were all removed grows again from its middle.
        chunk.rows.resize_with(index, || None);
        chunk.rows.push(Some(row));
    }

    fn position(&self, seq: i64) -> Option<(usize, usize)> {
        let (number, index) = split(seq);
        Some((usize::try_from(number.checked_sub(self.first)?).ok()?, index))
    }

    pub(super) fn get(&self, seq: i64) -> Option<&Row> {
        let (chunk, index) = self.position(seq)?;
        self.chunks.get(chunk)?.rows.get(index)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, seq: i64) -> Option<&mut Row> {
        let (chunk, index) = self.position(seq)?;
        self.chunks.get_mut(chunk)?.rows.get_mut(index)?.as_mut()
    }

    /// Adds a task to the count of a state, or subtracts it.
    pub(super) fn count(&mut self, seq: i64, state: TaskState, enters: bool) {
        if let Some(chunk) = self.position(seq).and_then(|(chunk, _)| self.chunks.get_mut(chunk)) {
            let tasks = &mut chunk.states[state as usize];
            *tasks = if enters { *tasks + 1 } else { tasks.saturating_sub(1) };
        }
    }

    /// Removes a row that is no longer counted in a state, and frees chunks without rows.
    pub(super) fn remove(&mut self, seq: i64) -> Option<Row> {
        let (position, index) = self.position(seq)?;
        let chunk = self.chunks.get_mut(position)?;
        let row = chunk.rows.get_mut(index)?.take();
        if chunk.is_empty() {
            chunk.rows = Vec::new();
        }
        // The last chunk stays, because new rows go there.
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(Chunk::is_empty) {
            self.chunks.pop_front();
            self.first += 1;
        }
        row
    }

    /// Rows after the position `after`, earliest first, from chunks with rows in the `wanted` states.
    pub(super) fn ascending(&self, after: i64, wanted: ByState<bool>) -> impl Iterator<Item = (i64, &Row)> {
        let start = after.max(self.first.saturating_mul(CHUNK));
        let skipped = usize::try_from(split(start.saturating_add(1)).0 - self.first).unwrap_or(0);
        self.numbered(wanted).skip(skipped).flat_map(Self::rows_of).filter(move |(seq, _)| *seq > after)
    }

    /// Rows before the position `before`, latest first, from chunks with rows in the `wanted` states.
    pub(super) fn descending(&self, before: i64, wanted: ByState<bool>) -> impl Iterator<Item = (i64, &Row)> {
        let end = before.clamp(1, self.next_seq());
        let skipped = usize::try_from(split(self.next_seq() - 1).0 - split(end).0).unwrap_or(0);
        self.numbered(wanted)
            .rev()
            .skip(skipped)
            .flat_map(|chunk| Self::rows_of(chunk).rev())
            .filter(move |(seq, _)| *seq < before)
    }

    /// Chunks with the position of their first row. Chunks without a wanted state appear as `None`, so that they still
    /// count when chunks are skipped.
    fn numbered(
        &self,
        wanted: ByState<bool>,
    ) -> impl DoubleEndedIterator<Item = Option<(i64, &Chunk)>> + ExactSizeIterator {
        let first = self.first;
        self.chunks.iter().enumerate().map(move |(position, chunk)| {
            let number = first + i64::try_from(position).unwrap_or(0);
            let any = chunk.states.iter().zip(wanted).any(|(tasks, wanted)| wanted && *tasks > 0);
            any.then_some((number * CHUNK + 1, chunk))
        })
    }

    fn rows_of(chunk: Option<(i64, &Chunk)>) -> impl DoubleEndedIterator<Item = (i64, &Row)> {
        let (start, rows) = chunk.map_or((0, &[][..]), |(start, chunk)| (start, &chunk.rows[..]));
        let numbered = rows.iter().enumerate();
        numbered.filter_map(move |(index, row)| Some((start + i64::try_from(index).ok()?, row.as_ref()?)))
    }
}
