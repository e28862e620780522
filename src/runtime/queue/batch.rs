//! Composes commits. Pure: no actix, no storage, no clock.

use std::sync::Arc;
use std::time::Duration;

use super::epoch::Epoch;
use super::inbox::{Gathered, Holder, PushReply};
use super::lanes::{Lane, Lanes};
use crate::backend::{ClaimRequest, Commit, InsertGroup, Insertion, Limits};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{NodeId, TaskSpec, TaskState};

/// A commit, with the recipients of its receipt.
pub(crate) struct Batch {
    pub(crate) commit: Commit,
    /// The spec and the holder of each settlement.
    pub(crate) settled: Vec<(Arc<TaskSpec>, Holder)>,
    /// The reply of each insert group.
    pub(crate) pushed: Vec<PushReply>,
    /// The recipient of each claim request.
    pub(crate) claims: Vec<ClaimFor>,
    /// The batch was sent before and may have been written.
    pub(crate) uncertain: bool,
    /// Held until the batch is over, for callers that wait for its epoch to end.
    pub(crate) epoch: Arc<Epoch>,
    /// The number of runs that had ended when the batch was composed. `limited_ends` counts the runs among them that
    /// were under a limit of running tasks.
    pub(crate) ends: u64,
    pub(crate) limited_ends: u64,
    /// The results and errors that handlers gave were removed from the ends of their runs, because storage had refused
    /// them.
    pub(crate) stripped: bool,
    /// How often storage has deferred the batch. It is not sent before the monotonic time `not_before`.
    pub(crate) tries: u32,
    pub(crate) not_before: Duration,
}

impl Batch {
    /// A batch with no recipients yet.
    pub(super) fn blank(commit: Commit, epoch: &Arc<Epoch>) -> Self {
        Self {
            commit,
            settled: Vec::new(),
            pushed: Vec::new(),
            claims: Vec::new(),
            uncertain: false,
            epoch: Arc::clone(epoch),
            ends: 0,
            limited_ends: 0,
            stripped: false,
            tries: 0,
            not_before: Duration::ZERO,
        }
    }

    fn new(lanes: &Lanes, rules: &Rules<'_>) -> Self {
        let commit = Commit { limits: rules.limits.cloned(), ..Commit::new(rules.node, rules.now) };
        let (ends, limited_ends) = (lanes.ends(), lanes.limited_ends());
        Self { ends, limited_ends, ..Self::blank(commit, &lanes.epoch) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commit.is_empty()
    }

    /// The number of things that storage may take or refuse, claims left out.
    pub(crate) fn len(&self) -> usize {
        self.commit.settle.len() + self.commit.insert.len() + self.commit.progress.len()
    }

    fn claim_for_workers(&mut self, index: usize, lane: &mut Lane, rules: &Rules<'_>) {
        let room = lane.room();
        if room > 0 && lane.work.is_set() && !rules.types.is_empty() {
            lane.outstanding += room;
            self.claims.push(ClaimFor::Workers { lane: index, mark: lane.work.mark() });
            self.commit.claim.push(ClaimRequest {
                queue: lane.name.clone(),
                types: Some(Arc::clone(rules.types)),
                limit: room,
            });
        }
    }

    fn claim_for_pullers(&mut self, index: usize, lane: &mut Lane) {
        if lane.pull.is_set() {
            let pullers = lane.unserved_pullers();
            if pullers > 0 {
                lane.popping += pullers;
                self.claims.push(ClaimFor::Pullers { lane: index, mark: lane.pull.mark() });
                self.commit.claim.push(ClaimRequest { queue: lane.name.clone(), types: None, limit: pullers });
            }
        }
    }

    /// Splits off the second half as a batch of its own. Claims stay in `self`.
    pub(crate) fn split(&mut self) -> Self {
        let mut keep = self.len() / 2;
        let settled = cut(&mut keep, self.commit.settle.len());
        let inserted = cut(&mut keep, self.commit.insert.len());
        let told = cut(&mut keep, self.commit.progress.len());
        let commit = Commit {
            settle: self.commit.settle.split_off(settled),
            insert: self.commit.insert.split_off(inserted),
            progress: self.commit.progress.split_off(told),
            claim: Vec::new(),
            limits: self.commit.limits.clone(),
            ..self.commit
        };
        Self {
            commit,
            settled: self.settled.split_off(settled),
            pushed: self.pushed.split_off(inserted),
            claims: Vec::new(),
            epoch: Arc::clone(&self.epoch),
            ..*self
        }
    }
}

/// How many of `len` items are kept, if at most `keep` items may be kept. Reduces `keep` by that number.
fn cut(keep: &mut usize, len: usize) -> usize {
    let kept = len.min(*keep);
    *keep -= kept;
    kept
}

/// The recipient of a claim request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimFor {
    /// Workers of the lane at this index.
    Workers { lane: usize, mark: u64 },
    /// Pullers of the lane at this index.
    Pullers { lane: usize, mark: u64 },
}

impl ClaimFor {
    /// The index of the lane.
    pub(crate) fn lane(&self) -> usize {
        match self {
            Self::Workers { lane, .. } | Self::Pullers { lane, .. } => *lane,
        }
    }
}

/// The facts that composing needs.
pub(crate) struct Rules<'a> {
    pub(crate) node: NodeId,
    pub(crate) now: Timestamp,
    /// False while the lease is not safe, or the board is stopping.
    pub(crate) may_claim: bool,
    /// The types that have a handler here, sorted.
    pub(crate) types: &'a Arc<[Name]>,
    /// The limits that this node knows.
    pub(crate) limits: Option<&'a Arc<Limits>>,
}

impl Rules<'_> {
    fn knows(&self, kind: &Name) -> bool {
        self.types.binary_search(kind).is_ok()
    }

    /// True when no known limit applies to the task. Only storage can say whether a limit has room.
    fn is_free(&self, spec: &TaskSpec) -> bool {
        self.limits.is_none_or(|limits| !limits.apply_to(spec))
    }
}

/// Composes a single commit from everything that has gathered.
///
/// A pushed task is stored as running at once, and never read back, if it may run now and its lane has room and nothing
/// waiting ahead of it. In every other case it is stored as pending. The claim of this or a later commit then decides
/// by priority, `run_at` and push order.
pub(crate) fn compose(lanes: &mut Lanes, gathered: Gathered, rules: &Rules<'_>) -> Batch {
    let mut batch = Batch::new(lanes, rules);
    batch.settled.reserve(gathered.settles.len());
    batch.pushed.reserve(gathered.pushes.len());
    batch.commit.settle.reserve(gathered.settles.len());
    batch.commit.insert.reserve(gathered.pushes.len());
    if gathered.hint_all {
        lanes.announce_all();
    }
    for queue in &gathered.hints {
        if let Some(lane) = lanes.get(queue) {
            lane.announce();
        }
    }
    for settle in gathered.settles {
        if let Some(lane) = lanes.get(&settle.spec.queue) {
            if settle.holder.is_worker() {
                lane.give_room(1);
            }
            if settle.settlement.state == TaskState::Pending {
                lane.announce();
            }
        }
        batch.commit.frees |= rules.limits.is_some_and(|limits| limits.hold_room_of(&settle.spec));
        if matches!(settle.holder, Holder::WorkerDone) {
            lanes.made_room();
            continue;
        }
        batch.commit.settle.push(settle.settlement);
        batch.settled.push((settle.spec, settle.holder));
    }
    for pop in gathered.pops {
        let lane = lanes.get_or_make(&pop.queue);
        if pop.puller.once {
            // Look again before answering that there is no task: a different process may have pushed.
            lane.pull.announce();
        }
        lane.pullers.add(pop.puller);
    }
    batch.commit.progress.extend(gathered.progress.into_due());
    let mut fresh = Fresh::default();
    for push in gathered.pushes {
        let group = batch.commit.insert.len();
        let tasks = push.specs.into_iter().enumerate();
        let tasks = tasks.map(|(place, spec)| insertion(lanes, spec, rules, &mut fresh, (group, place))).collect();
        batch.commit.insert.push(InsertGroup { tasks });
        batch.pushed.push(push.reply);
    }
    fresh.claim(lanes, &mut batch.commit.insert);
    if rules.may_claim {
        request_claims(lanes, rules, &mut batch);
    } else {
        // It is not known when claims are allowed again, so pullers that do not want to wait are turned away.
        lanes.iter_mut().for_each(Lane::turn_away_hasty);
    }
    batch
}

fn insertion(
    lanes: &mut Lanes,
    spec: Arc<TaskSpec>,
    rules: &Rules<'_>,
    fresh: &mut Fresh,
    place: (usize, usize),
) -> Insertion {
    if spec.run_at > rules.now {
        return Insertion { spec, state: TaskState::Scheduled, claim: false };
    }
    if let Some(index) = lanes.index(&spec.queue) {
        let lane = lanes.at(index);
        let direct = rules.may_claim
            && !lane.work.is_set()
            && lane.room() > 0
            && rules.knows(&spec.kind)
            && rules.is_free(&spec)
            // Its unique key may make it wait, so only storage can say whether it runs.
            && spec.extras().unique.is_none();
        if direct {
            fresh.add(index, &spec, place);
        } else {
            lane.announce();
        }
    }
    Insertion { spec, state: TaskState::Pending, claim: false }
}

/// Pushed tasks that may run at once, without a stop in storage.
#[derive(Default)]
struct Fresh(Vec<Candidate>);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    lane: usize,
    priority: i32,
    run_at: Timestamp,
    place: (usize, usize),
}

impl Fresh {
    fn add(&mut self, lane: usize, spec: &TaskSpec, place: (usize, usize)) {
        self.0.push(Candidate { lane, priority: spec.priority, run_at: spec.run_at, place });
    }

    /// Marks the first tasks of each lane as claimed, as far as the lane has room.
    fn claim(mut self, lanes: &mut Lanes, groups: &mut [InsertGroup]) {
        self.0.sort_unstable();
        for candidate in self.0 {
            let lane = lanes.at(candidate.lane);
            if lane.room() > 0 && !lane.work.is_set() {
                lane.outstanding += 1;
                let (group, task) = candidate.place;
                groups[group].tasks[task].claim = true;
            } else {
                lane.announce();
            }
        }
    }
}

fn request_claims(lanes: &mut Lanes, rules: &Rules<'_>, batch: &mut Batch) {
    for (index, lane) in lanes.iter_mut().enumerate() {
        if !lane.work.is_alone() {
            batch.claim_for_workers(index, lane, rules);
        }
        if lane.paused {
            lane.turn_away_hasty();
        }
        if !lane.pull.is_alone() {
            batch.claim_for_pullers(index, lane);
        }
    }
}

/// Composes a commit of a single claim and nothing else, if a claim is to be sent alone.
pub(crate) fn compose_alone(lanes: &mut Lanes, rules: &Rules<'_>) -> Option<Batch> {
    if !lanes.some_alone() || !rules.may_claim {
        return None;
    }
    lanes.recount_alone();
    let mut batch = Batch::new(lanes, rules);
    for (index, lane) in lanes.iter_mut().enumerate() {
        if lane.work.is_alone() {
            batch.claim_for_workers(index, lane, rules);
        }
        if batch.is_empty() && lane.pull.is_alone() {
            batch.claim_for_pullers(index, lane);
        }
        if !batch.is_empty() {
            return Some(batch);
        }
    }
    None
}

#[cfg(test)]
mod tests;
