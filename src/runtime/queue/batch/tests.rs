//! Tests of the content of a commit: no lane ever takes more than it has room for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::{Semaphore, oneshot};

use super::super::delivery::released;
use super::super::inbox::{Gathered, Holder, PopRequest, Puller, PushReply, PushRequest, SettleRequest};
use super::super::lanes::Lanes;
use super::super::receipt::forget_claims;
use super::*;
use crate::backend::{Claimed, Limit, Limits, QueueSettings};
use crate::clock::Clock;
use crate::task::{ClaimToken, NewTask, Unique};

const LANES: [&str; 2] = ["fast", "slow"];
const NOW: i64 = 1_000_000;

fn now() -> Timestamp {
    Timestamp::from_micros(NOW)
}

/// The lanes of a node, and the facts that composing needs.
struct Node {
    lanes: Lanes,
    types: Arc<[Name]>,
    node: NodeId,
    may_claim: bool,
    limits: Option<Arc<Limits>>,
}

impl Node {
    /// A node after storage has been looked through: no lane has demand.
    fn fed(concurrency: usize) -> Self {
        let lanes = LANES.map(|name| (Name::from(name), concurrency, Arc::default()));
        let types = Arc::from([Name::from("known")]);
        let lanes = Lanes::new(lanes, Vec::new());
        let mut node = Self { lanes, types, node: NodeId::new(now()), may_claim: true, limits: None };
        for lane in node.lanes.iter_mut() {
            lane.work.came_back_short(lane.work.mark());
            lane.pull.came_back_short(lane.pull.mark());
        }
        node
    }

    fn lane(&mut self, name: &str) -> &mut super::super::lanes::Lane {
        self.lanes.get(name).unwrap()
    }

    fn compose(&mut self, gathered: Gathered) -> Batch {
        let rules = Rules {
            node: self.node,
            now: now(),
            may_claim: self.may_claim,
            types: &self.types,
            limits: self.limits.as_ref(),
        };
        compose(&mut self.lanes, gathered, &rules)
    }

    fn push(&mut self, tasks: impl IntoIterator<Item = NewTask>) -> Batch {
        self.compose(Gathered { pushes: vec![group(tasks)], ..Gathered::default() })
    }

    fn set(&mut self, paused: bool, concurrency: Option<usize>) {
        let of = |queue: &'static str| QueueSettings { queue: queue.into(), paused, concurrency };
        self.lanes.apply(LANES.map(of).to_vec());
    }
}

fn task() -> NewTask {
    NewTask::new("known", &()).queue(LANES[0])
}

fn group(tasks: impl IntoIterator<Item = NewTask>) -> PushRequest {
    let clock = Clock::manual(now());
    let specs = tasks
        .into_iter()
        .map(|task| Arc::new(task.into_spec(&clock, crate::task::Bounds::all(1_000)).unwrap()))
        .collect();
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (answer, _) = oneshot::channel();
    PushRequest { specs, reply: PushReply { answer, deadline: Duration::ZERO, _place: place } }
}

fn settle(queue: &'static str, state: TaskState) -> SettleRequest {
    let spec =
        Arc::new(task().queue(queue).into_spec(&Clock::manual(now()), crate::task::Bounds::all(1_000)).unwrap());
    let claimed = Claimed { spec: Arc::clone(&spec), seq: 1, token: ClaimToken::random(), attempt: 0 };
    let settlement = crate::backend::Settlement { state, ..released(&claimed) };
    SettleRequest { settlement, spec, holder: Holder::Worker }
}

/// Which tasks are stored as running, in push order.
fn direct(batch: &Batch) -> Vec<bool> {
    batch.commit.insert.iter().flat_map(|group| &group.tasks).map(|task| task.claim).collect()
}

fn limits(batch: &Batch) -> Vec<usize> {
    batch.commit.claim.iter().map(|request| request.limit).collect()
}

#[test]
fn with_room_and_nothing_ahead_a_push_runs_at_once_and_nothing_is_asked_for() {
    let mut node = Node::fed(1);
    let batch = node.push([task()]);
    assert_eq!(direct(&batch), [true]);
    assert!(batch.commit.claim.is_empty());
    assert_eq!(node.lane("fast").outstanding, 1);
}

#[test]
fn without_room_it_waits_and_its_lane_knows() {
    let mut node = Node::fed(1);
    node.push([task()]);
    let batch = node.push([task()]);
    assert_eq!((direct(&batch), limits(&batch)), (vec![false], vec![]));
    assert!(node.lane("fast").work.is_set());
    assert!(!node.lane("slow").work.is_set());
}

#[test]
fn behind_others_that_may_wait_in_storage_it_takes_its_turn() {
    let mut node = Node::fed(3);
    node.lane("fast").announce();
    let batch = node.push([task()]);
    assert_eq!((direct(&batch), limits(&batch)), (vec![false], vec![3]));
}

#[test]
fn a_type_without_a_handler_here_is_left_in_storage() {
    let mut node = Node::fed(3);
    assert_eq!(direct(&node.push([NewTask::new("foreign", &()).queue("fast")])), [false]);
}

#[test]
fn a_paused_lane_takes_nothing() {
    let mut node = Node::fed(3);
    node.set(true, None);
    let batch = node.push([task()]);
    assert_eq!((direct(&batch), limits(&batch)), (vec![false], vec![]));
    node.set(false, None);
    assert_eq!(limits(&node.compose(Gathered::default())), [3, 3]);
}

#[test]
fn nothing_is_claimed_while_the_lease_is_not_safe() {
    let mut node = Node::fed(3);
    node.may_claim = false;
    let batch = node.push([task()]);
    assert_eq!((direct(&batch), limits(&batch)), (vec![false], vec![]));
    node.may_claim = true;
    assert_eq!(limits(&node.compose(Gathered::default())), [3]);
}

#[test]
fn a_task_with_a_unique_key_is_for_storage_to_decide() {
    let mut node = Node::fed(3);
    let batch = node.push([task().unique(Unique::key("k"))]);
    assert_eq!((direct(&batch), limits(&batch)), (vec![false], vec![3]));
}

#[test]
fn a_task_under_a_known_limit_is_for_storage_to_decide() {
    for limit in [Limit::of_queue("fast"), Limit::of_type("known"), Limit::of_key("k")] {
        let mut node = Node::fed(3);
        node.limits = Limits::new([limit.running(9)]);
        let batch = node.push([task().limit_key("k:1")]);
        assert_eq!((direct(&batch), limits(&batch)), (vec![false], vec![3]));
        assert_eq!(batch.commit.limits, node.limits, "the claim is made under it");
    }
    let mut node = Node::fed(3);
    let others = [Limit::of_queue("slow"), Limit::of_type("foreign"), Limit::of_key("k")];
    node.limits = Limits::new(others.map(|limit| limit.running(1)));
    assert_eq!(direct(&node.push([task().limit_key("other")])), [true], "limits of others cost nothing");
    assert_eq!(direct(&node.push([task().queue("slow"), task()])), [false, true]);
}

#[test]
fn only_the_end_of_a_run_under_a_limit_of_running_tasks_frees_something() {
    let ends = |limit: Limit| {
        let mut node = Node::fed(1);
        node.limits = Limits::new([limit]);
        let settles = vec![settle("fast", TaskState::Completed)];
        node.compose(Gathered { settles, ..Gathered::default() }).commit.frees
    };
    assert!(ends(Limit::of_type("known").running(1)));
    assert!(!ends(Limit::of_type("known").rate(1, Duration::from_secs(1))));
    assert!(!ends(Limit::of_queue("slow").running(1)));
}

#[test]
fn a_lane_that_is_held_back_asks_again_when_a_limited_run_has_ended() {
    let mut node = Node::fed(1);
    let before = node.lanes.limited_ends();
    node.lanes.hold_back(0, before);
    assert!(!node.lane("fast").work.is_set());
    assert_eq!(node.lanes.made_room_under_limit(), ["fast"]);
    assert!(node.lane("fast").work.is_set() && !node.lane("slow").work.is_set());
    assert!(node.lanes.made_room_under_limit().is_empty(), "once");
    // A run that ended while the claim was in flight may have made the room that the claim missed.
    let mut node = Node::fed(1);
    node.lanes.made_room_under_limit();
    node.lanes.hold_back(1, before);
    assert!(node.lane("slow").work.is_set());
}

#[test]
fn a_task_whose_time_lies_ahead_is_scheduled_and_makes_nobody_look() {
    let mut node = Node::fed(3);
    let batch = node.push([task().delay(Duration::from_micros(1)), task().run_at(now())]);
    let states: Vec<_> = batch.commit.insert[0].tasks.iter().map(|task| task.state).collect();
    assert_eq!(states, [TaskState::Scheduled, TaskState::Pending]);
    assert_eq!(direct(&batch), [false, true]);
    assert!(!node.lane("fast").work.is_set());
}

#[test]
fn a_queue_that_has_no_lane_here_is_stored_and_not_claimed() {
    let mut node = Node::fed(3);
    assert_eq!(direct(&node.push([task().queue("elsewhere")])), [false]);
}

#[test]
fn priority_then_time_then_push_order_decide_who_runs_at_once() {
    let mut node = Node::fed(1);
    assert_eq!(
        direct(&node.push([task().priority(2), task().priority(-1), task().priority(1)])),
        [false, true, false]
    );
    let mut node = Node::fed(1);
    let early = Timestamp::from_micros(NOW - 1);
    assert_eq!(direct(&node.push([task(), task().run_at(early), task()])), [false, true, false]);
    let mut node = Node::fed(2);
    assert_eq!(direct(&node.push([task(), task(), task()])), [true, true, false]);
}

#[test]
fn lanes_do_not_take_each_others_room() {
    let mut node = Node::fed(1);
    let batch = node.push([task(), task().queue("slow"), task(), task().queue("slow")]);
    assert_eq!(direct(&batch), [true, true, false, false]);
}

#[test]
fn a_settled_run_gives_its_room_to_a_push_of_the_same_commit() {
    let mut node = Node::fed(1);
    node.push([task()]);
    let settles = vec![settle("fast", TaskState::Completed)];
    let batch = node.compose(Gathered { settles, pushes: vec![group([task()])], ..Gathered::default() });
    assert_eq!(direct(&batch), [true]);
    assert_eq!(node.lane("fast").outstanding, 1);
}

#[test]
fn what_is_given_back_is_looked_for_again() {
    let mut node = Node::fed(1);
    node.push([task()]);
    let settles = vec![settle("fast", TaskState::Pending)];
    let batch = node.compose(Gathered { settles, ..Gathered::default() });
    assert_eq!(limits(&batch), [1]);
}

#[test]
fn a_delivery_that_ends_gives_workers_no_room() {
    let mut node = Node::fed(1);
    node.push([task()]);
    let settles = vec![SettleRequest { holder: Holder::Delivery(None), ..settle("fast", TaskState::Completed) }];
    node.compose(Gathered { settles, ..Gathered::default() });
    assert_eq!(node.lane("fast").outstanding, 1);
}

#[test]
fn a_hint_makes_its_lane_ask_for_all_its_room() {
    let mut node = Node::fed(4);
    node.push([task()]);
    let batch = node.compose(Gathered { hints: vec!["fast".into()], ..Gathered::default() });
    assert_eq!(batch.claims, [ClaimFor::Workers { lane: 0, mark: node.lane("fast").work.mark() }]);
    assert_eq!(limits(&batch), [3]);
    assert_eq!(batch.commit.claim[0].types.as_deref(), Some(&*node.types));
    // Tasks that were asked for count as taken until the receipt comes.
    assert!(node.compose(Gathered { hints: vec!["fast".into()], ..Gathered::default() }).commit.claim.is_empty());
}

#[test]
fn a_node_without_handlers_asks_for_nothing() {
    let mut node = Node::fed(4);
    node.types = Arc::from([]);
    assert!(node.compose(Gathered { hint_all: true, ..Gathered::default() }).is_empty());
}

#[test]
fn a_huge_lane_asks_in_pieces() {
    let mut node = Node::fed(100_000);
    let batch = node.compose(Gathered { hint_all: true, ..Gathered::default() });
    assert!(limits(&batch).iter().all(|limit| *limit < 100_000), "{:?}", limits(&batch));
}

#[test]
fn hunger_ends_with_a_short_claim_unless_something_came_meanwhile() {
    let mut node = Node::fed(1);
    let lane = node.lane("fast");
    lane.announce();
    let mark = lane.work.mark();
    lane.announce();
    lane.work.came_back_short(mark);
    assert!(lane.work.is_set());
    lane.work.came_back_short(lane.work.mark());
    assert!(!lane.work.is_set());
    assert!(lane.pull.is_set(), "those who pull are another matter");
}

#[test]
fn who_pulls_is_asked_for_once_and_who_went_away_not_at_all() {
    let mut node = Node::fed(0);
    let (stays, gone) = (oneshot::channel(), oneshot::channel());
    drop(gone.1);
    let pop = |answer| PopRequest { queue: "fast".into(), puller: Puller { answer, once: true } };
    let pops = vec![pop(gone.0), pop(stays.0)];
    let batch = node.compose(Gathered { pops, ..Gathered::default() });
    assert_eq!(batch.claims, [ClaimFor::Pullers { lane: 0, mark: node.lane("fast").pull.mark() }]);
    assert_eq!((limits(&batch), batch.commit.claim[0].types.clone()), (vec![1], None));
    assert!(node.compose(Gathered::default()).is_empty());
}

#[test]
fn who_pulls_without_patience_is_turned_away_from_a_paused_lane() {
    let mut node = Node::fed(0);
    node.set(true, None);
    let (answer, mut delivery) = oneshot::channel();
    let pops = vec![PopRequest { queue: "fast".into(), puller: Puller { answer, once: true } }];
    assert!(node.compose(Gathered { pops, ..Gathered::default() }).is_empty());
    assert!(matches!(delivery.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
}

#[test]
fn who_gave_up_pulling_is_forgotten_on_an_idle_lane_and_on_a_paused_one() {
    for paused in [false, true] {
        let mut node = Node::fed(0);
        node.set(paused, None);
        for _ in 0..10_000 {
            let (answer, _) = oneshot::channel();
            let pops = vec![PopRequest { queue: "fast".into(), puller: Puller { answer, once: false } }];
            assert!(node.compose(Gathered { pops, ..Gathered::default() }).is_empty());
        }
        let left = node.lane("fast").pullers.len();
        assert!(left < 100, "{left} are left; paused: {paused}");
    }
}

#[derive(Clone, Copy, Debug)]
struct Sort {
    lane: usize,
    priority: i32,
    ahead: bool,
    unique: bool,
    known: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<Sort>),
    /// A run of this lane ends, and goes to pending or to completed.
    Settle(usize, bool),
    Compose,
    /// The oldest commit comes back. Each claim brings at most this many tasks.
    Receipt(usize),
    /// The oldest commit fails.
    Fail,
    Hint(usize),
    Pause(bool),
    Concurrency(Option<usize>),
}

fn sort() -> impl Strategy<Value = Sort> {
    (0..2_usize, -2..2_i32, any::<[bool; 3]>()).prop_map(|(lane, priority, [ahead, unique, known])| Sort {
        lane,
        priority,
        ahead,
        unique,
        known,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(sort(), 1..5).prop_map(Step::Push),
        3 => (0..2_usize, any::<bool>()).prop_map(|(lane, back)| Step::Settle(lane, back)),
        4 => Just(Step::Compose),
        3 => (0..6_usize).prop_map(Step::Receipt),
        1 => Just(Step::Fail),
        1 => (0..2_usize).prop_map(Step::Hint),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => prop::option::of(0..6_usize).prop_map(Step::Concurrency),
    ]
}

/// A model with which the lanes must agree.
#[derive(Default)]
struct Model {
    gathered: Gathered,
    /// Ids of tasks that were pushed and not composed yet, group by group.
    groups: Vec<Vec<crate::task::TaskId>>,
    flying: Vec<Batch>,
    running: [usize; 2],
    /// The number of ends that wait on the inbox, lane by lane.
    ending: [usize; 2],
}

impl Model {
    fn push(&mut self, sorts: &[Sort]) {
        let push = group(sorts.iter().map(|sort| {
            let task = NewTask::new(if sort.known { "known" } else { "foreign" }, &()).priority(sort.priority);
            let task = if sort.ahead { task.delay(Duration::from_secs(1)) } else { task };
            let task = if sort.unique { task.unique(Unique::key("k")) } else { task };
            task.queue(LANES[sort.lane])
        }));
        self.groups.push(push.specs.iter().map(|spec| spec.task_id).collect());
        self.gathered.pushes.push(push);
    }

    fn compose(&mut self, node: &mut Node) -> Result<(), TestCaseError> {
        let batch = node.compose(std::mem::take(&mut self.gathered));
        let ending = std::mem::take(&mut self.ending);
        let groups = std::mem::take(&mut self.groups);
        let stored = batch.commit.insert.iter().map(|g| g.tasks.iter().map(|task| task.spec.task_id).collect());
        prop_assert_eq!(stored.collect::<Vec<Vec<_>>>(), groups, "groups are whole and in order");
        prop_assert_eq!(batch.pushed.len(), batch.commit.insert.len());
        prop_assert_eq!(batch.claims.len(), batch.commit.claim.len());
        prop_assert_eq!(batch.settled.len(), ending.iter().sum::<usize>());
        let taken = taken(&batch);
        let before = self.taken();
        for (index, lane) in node.lanes.iter().enumerate() {
            let new = taken.get(LANES[index]).copied().unwrap_or(0);
            let old = self.running[index] + before[index];
            prop_assert_eq!(lane.outstanding, old + new);
            let room = if lane.paused { 0 } else { lane.concurrency().saturating_sub(old) };
            prop_assert!(new <= room, "{} claims with room for {}", new, room);
        }
        for insertion in batch.commit.insert.iter().flat_map(|group| &group.tasks).filter(|task| task.claim) {
            prop_assert_eq!(insertion.state, TaskState::Pending);
            prop_assert!(insertion.spec.run_at <= now() && insertion.spec.extras().unique.is_none());
            prop_assert_eq!(&*insertion.spec.kind, "known");
        }
        self.flying.push(batch);
        Ok(())
    }

    /// The number of claims in flight, lane by lane.
    fn taken(&self) -> [usize; 2] {
        let of = |name| self.flying.iter().filter_map(|batch| taken(batch).get(name).copied()).sum();
        LANES.map(of)
    }

    fn receipt(&mut self, node: &mut Node, most: usize) {
        let batch = self.flying.remove(0);
        for insertion in batch.commit.insert.iter().flat_map(|group| &group.tasks).filter(|task| task.claim) {
            self.running[node.lanes.index(&insertion.spec.queue).unwrap()] += 1;
        }
        for (request, whom) in batch.commit.claim.iter().zip(&batch.claims) {
            let ClaimFor::Workers { lane: index, mark } = *whom else { continue };
            let got = request.limit.min(most);
            self.running[index] += got;
            let lane = node.lanes.at(index);
            lane.give_room(request.limit - got);
            if got < request.limit {
                lane.work.came_back_short(mark);
            }
        }
    }

    fn apply(&mut self, node: &mut Node, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Push(sorts) => self.push(&sorts),
            Step::Settle(lane, back) if self.running[lane] > 0 => {
                self.running[lane] -= 1;
                self.ending[lane] += 1;
                let state = if back { TaskState::Pending } else { TaskState::Completed };
                self.gathered.settles.push(settle(LANES[lane], state));
            }
            Step::Compose => self.compose(node)?,
            Step::Receipt(most) if !self.flying.is_empty() => self.receipt(node, most),
            Step::Fail if !self.flying.is_empty() => {
                let mut batch = self.flying.remove(0);
                forget_claims(&mut node.lanes, &mut batch);
                prop_assert!(taken(&batch).is_empty());
            }
            Step::Hint(lane) => self.gathered.hints.push(LANES[lane].into()),
            Step::Pause(paused) => node.set(paused, None),
            Step::Concurrency(concurrency) => node.set(false, concurrency),
            Step::Settle(..) | Step::Receipt(_) | Step::Fail => {}
        }
        let flying = self.taken();
        for (index, lane) in node.lanes.iter().enumerate() {
            prop_assert_eq!(lane.outstanding, self.running[index] + self.ending[index] + flying[index]);
        }
        Ok(())
    }
}

/// How many tasks a commit takes for the workers of each lane.
fn taken(batch: &Batch) -> HashMap<Name, usize> {
    let mut taken = HashMap::new();
    for insertion in batch.commit.insert.iter().flat_map(|group| &group.tasks).filter(|task| task.claim) {
        *taken.entry(insertion.spec.queue.clone()).or_default() += 1;
    }
    for request in batch.commit.claim.iter().filter(|request| request.types.is_some()) {
        *taken.entry(request.queue.clone()).or_default() += request.limit;
    }
    taken
}

proptest! {
    #[test]
    fn no_lane_takes_more_than_it_has_room_for(
        concurrency in 0..5_usize, steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut node = Node::fed(concurrency);
        let mut model = Model::default();
        for step in steps {
            model.apply(&mut node, step)?;
        }
        // When everything has come back and ended, all the room is there again.
        while !model.flying.is_empty() {
            model.receipt(&mut node, usize::MAX);
        }
        for (lane, name) in LANES.iter().enumerate() {
            for _ in 0..std::mem::take(&mut model.running[lane]) {
                model.gathered.settles.push(settle(name, TaskState::Completed));
            }
        }
        node.may_claim = false;
        node.compose(model.gathered);
        prop_assert!(node.lanes.iter().all(|lane| lane.outstanding == 0));
    }
}
