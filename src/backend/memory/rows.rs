//! One row per task, found by its place in push order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::ExecutionEnd;
use crate::clock::Timestamp;
use crate::task::FiringKey;
use crate::task::{ClaimToken, NodeId, Progress, TaskId, TaskSpec, TaskState};

/// A task with its history. Kept small: there are as many as the history is long.
pub(super) struct Row {
    pub(super) spec: Arc<TaskSpec>,
    pub(super) run_at: Timestamp,
    /// When its state last changed; for a terminal one, when it finished.
    pub(super) updated_at: Timestamp,
    /// The latest claim, also after its run has ended.
    pub(super) claim: Option<Claim>,
    /// How the run under `claim` ended.
    pub(super) end: Option<ExecutionEnd>,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) attempt: u32,
    pub(super) crash_count: u32,
    /// Its queue's number.
    pub(super) queue: u32,
    /// Its index in the list of running tasks; means nothing in other states.
    pub(super) slot: u32,
    /// Bytes of what its pusher gave.
    pub(super) weight: u32,
    pub(super) state: TaskState,
}

/// Who runs it, or ran it last.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) token: ClaimToken,
    pub(super) node: NodeId,
    pub(super) started_at: Timestamp,
}

/// What most tasks never have.
#[derive(Default)]
pub(super) struct Rare {
    /// The runs before the latest.
    pub(super) earlier: Vec<(Claim, ExecutionEnd)>,
    pub(super) progress: Option<Progress>,
    /// Why it is dead or cancelled, when no run of its own says so.
    pub(super) reason: Option<Box<str>>,
    /// Somebody asked for its cancel while it runs; the text is their reason.
    pub(super) cancel: Option<Box<str>>,
    /// The task that it waits for.
    pub(super) parent: Option<(i64, TaskId)>,
    /// The task that waits for it.
    pub(super) follower: Option<i64>,
}

/// Bytes of a row without texts, with its share of the indexes. An estimate: it was not measured.
const PLAIN: usize = 480;

impl Row {
    /// Bytes that it takes, about.
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

    /// When it is called off unless it has started: nothing for one that has, or is at its end.
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

    /// Starts a run; the one before it goes to the history.
    pub(super) fn start(&mut self, claim: Claim) {
        if let (Some(before), Some(end)) = (self.claim, self.end.take()) {
            self.rare().earlier.push((before, end));
        }
        self.claim = Some(claim);
        self.crash_count = self.crash_count.saturating_add(1);
        self.state = TaskState::Running;
        self.updated_at = claim.started_at;
    }

    /// The ends of its runs, the latest first.
    pub(super) fn ends(&self) -> impl Iterator<Item = &ExecutionEnd> {
        let earlier = self.rare.as_deref().map_or(&[][..], |rare| &rare.earlier);
        self.end.iter().chain(earlier.iter().rev().map(|(_, end)| end))
    }
}

/// How many tasks there are in each state, indexed by the state.
pub(super) type ByState<T> = [T; TaskState::ALL.len()];

/// Rows in a chunk: small enough for the allocator to reuse, large enough for a long history in few chunks.
const CHUNK: i64 = 256;

#[derive(Default)]
struct Chunk {
    rows: Vec<Option<Row>>,
    /// Lets a search pass by chunks that have no task in a wanted state.
    states: ByState<u32>,
}

impl Chunk {
    fn is_empty(&self) -> bool {
        self.states.iter().all(|tasks| *tasks == 0)
    }
}

/// All rows, in chunks, so that growing never copies them and the memory of pruned ones goes back.
#[derive(Default)]
pub(super) struct Rows {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk that is still there.
    first: i64,
    /// Rows ever pushed.
    pushed: i64,
}

/// The chunk and the index in it; places in push order begin at 1.
fn split(seq: i64) -> (i64, usize) {
    let index = seq.wrapping_sub(1);
    (index.div_euclid(CHUNK), usize::try_from(index.rem_euclid(CHUNK)).unwrap_or(0))
}

impl Rows {
    /// The place that the next row gets.
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
        // A chunk whose rows were all removed begins anew in its middle.
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

    /// Counts a task in (or out of) a state.
    pub(super) fn count(&mut self, seq: i64, state: TaskState, enters: bool) {
        if let Some(chunk) = self.position(seq).and_then(|(chunk, _)| self.chunks.get_mut(chunk)) {
            let tasks = &mut chunk.states[state as usize];
            *tasks = if enters { *tasks + 1 } else { tasks.saturating_sub(1) };
        }
    }

    /// Removes a row that has been counted out, and frees chunks that have no rows left.
    pub(super) fn remove(&mut self, seq: i64) -> Option<Row> {
        let (position, index) = self.position(seq)?;
        let chunk = self.chunks.get_mut(position)?;
        let row = chunk.rows.get_mut(index)?.take();
        if chunk.is_empty() {
            chunk.rows = Vec::new();
        }
        // The last chunk stays: it is the one that grows.
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(Chunk::is_empty) {
            self.chunks.pop_front();
            self.first += 1;
        }
        row
    }

    /// Rows after the place `after`, earliest first, from chunks that have any in the `wanted` states.
    pub(super) fn ascending(&self, after: i64, wanted: ByState<bool>) -> impl Iterator<Item = (i64, &Row)> {
        let start = after.max(self.first.saturating_mul(CHUNK));
        let skipped = usize::try_from(split(start.saturating_add(1)).0 - self.first).unwrap_or(0);
        self.numbered(wanted).skip(skipped).flat_map(Self::rows_of).filter(move |(seq, _)| *seq > after)
    }

    /// Rows before the place `before`, latest first, from chunks that have any in the `wanted` states.
    pub(super) fn descending(&self, before: i64, wanted: ByState<bool>) -> impl Iterator<Item = (i64, &Row)> {
        let end = before.clamp(1, self.next_seq());
        let skipped = usize::try_from(split(self.next_seq() - 1).0 - split(end).0).unwrap_or(0);
        self.numbered(wanted)
            .rev()
            .skip(skipped)
            .flat_map(|chunk| Self::rows_of(chunk).rev())
            .filter(move |(seq, _)| *seq < before)
    }

    /// Chunks with the place of their first row; those without a wanted state come as nothing, so that they
    /// still count when chunks are skipped.
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
