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

/// A commit, and whom its receipt is for.
pub(crate) struct Batch {
    pub(crate) commit: Commit,
    /// One for each settlement.
    pub(crate) settled: Vec<(Arc<TaskSpec>, Holder)>,
    /// One for each insert group.
    pub(crate) pushed: Vec<PushReply>,
    /// One for each claim request.
    pub(crate) claims: Vec<ClaimFor>,
    /// It was sent before and may have happened.
    pub(crate) uncertain: bool,
    /// Held until it is over, for those who wait for it.
    pub(crate) epoch: Arc<Epoch>,
    /// Runs that had ended when it was composed, and those of them that were under a limit of running tasks.
    pub(crate) ends: u64,
    pub(crate) limited_ends: u64,
    /// What handlers put into the ends of their runs was taken away, for storage had refused it.
    pub(crate) stripped: bool,
    /// How often storage has set it aside, and until when, on the clock's growing hand, it is not sent.
    pub(crate) tries: u32,
    pub(crate) not_before: Duration,
}

impl Batch {
    /// One with nothing in it.
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

    /// How many things storage may take or refuse, claims left out.
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

    /// Takes the second half away, as a batch of its own. Claims stay here.
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

/// How many of `len` are kept while `keep` are.
fn cut(keep: &mut usize, len: usize) -> usize {
    let kept = len.min(*keep);
    *keep -= kept;
    kept
}

/// Whom a claim request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimFor {
    /// Workers of the lane at this index.
    Workers { lane: usize, mark: u64 },
    /// Those who pull from the lane at this index.
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

/// What composing needs to know.
pub(crate) struct Rules<'a> {
    pub(crate) node: NodeId,
    pub(crate) now: Timestamp,
    /// False while the lease is not safe, or the board is stopping.
    pub(crate) may_claim: bool,
    /// The types that have a handler here, sorted.
    pub(crate) types: &'a Arc<[Name]>,
    /// The limits that are known.
    pub(crate) limits: Option<&'a Arc<Limits>>,
}

impl Rules<'_> {
    fn knows(&self, kind: &Name) -> bool {
        self.types.binary_search(kind).is_ok()
    }

    /// True when no limit that is known applies: only storage can say whether one has room.
    fn is_free(&self, spec: &TaskSpec) -> bool {
        self.limits.is_none_or(|limits| !limits.apply_to(spec))
    }
}

/// Makes one commit of everything that has gathered.
///
/// A pushed task that may run now, in a lane with room and with nothing waiting ahead of it, is stored as running
/// at once and never read back. In every other case it is stored as pending, and the claim of this or a later commit
/// decides by priority, `run_at` and push order.
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
            // Look again before saying that there is none: another process may have pushed.
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
        // Nobody knows for how long.
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
            // Its key may send it to wait, so only storage can say whether it runs.
            && spec.extras().unique.is_none();
        if direct {
            fresh.add(index, &spec, place);
        } else {
            lane.announce();
        }
    }
    Insertion { spec, state: TaskState::Pending, claim: false }
}

/// Pushed tasks that may run without a stop in storage.
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

    /// Marks the first of each lane, as far as there is room.
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

/// Makes a commit of one claim, and nothing else, of those that are to be asked for alone.
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
