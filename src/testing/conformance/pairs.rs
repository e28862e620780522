//! Operations that lock the same tasks, in pairs, concurrently.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::{Harness, timetable};
use crate::backend::{
    BackendError, ClaimRequest, Claimed, Commit, Edit, EditAction, InsertGroup, Limit, ProgressUpdate, Retention,
    Selection, TaskFilter, Turn,
};
use crate::schedule::ScheduleRecord;
use crate::task::{DEFAULT_QUEUE, NewTask, Progress, TaskId, TaskState, Unique, UniqueMode};
use crate::testing::factory::{World, ids, task};

/// The data that the two operations of a round share.
struct Stage {
    round: usize,
    /// Tasks with keys, claimed by the same node.
    running: Vec<Claimed>,
    /// The running tasks, each followed by the task that waits for it; then the fired tasks and some ended tasks.
    all: Vec<TaskId>,
    /// Each schedule has made a task that runs.
    schedules: [ScheduleRecord; 2],
    fired: [TaskId; 2],
}

const TASKS: usize = 4;

impl Stage {
    fn new(w: &World, round: usize) -> Self {
        let tag = |task: NewTask| task.tag(format!("round {round}"));
        let keyed = |mode| (0..TASKS).map(move |number| tag(task(number).unique(key(round, number).mode(mode))));
        let ended = w.push_all((0..TASKS).map(|number| tag(task(number).unique(key(round, number)))));
        let claimed = w.claim(TASKS);
        w.commit(&ends(w, &claimed));
        w.push_all(keyed(UniqueMode::KeepLatest));
        let running = w.claim(TASKS);
        let waiting = w.push_all(keyed(UniqueMode::KeepLatest));
        assert_eq!((ids(&claimed), running.len()), (ended.clone(), TASKS));
        let schedules = [0, 1].map(|number| timetable::record(format!("{round}/{number}")));
        for record in &schedules {
            timetable::save(w, record, None);
        }
        let fired = schedules.each_ref().map(|record| timetable::made(w, record.schedule_id, 1));
        let scheduled = w.claim(schedules.len());
        assert_eq!(ids(&scheduled), fired);
        let with_followers = ids(&running).into_iter().zip(waiting).flat_map(<[TaskId; 2]>::from);
        let all = with_followers.chain(fired).chain(ended).collect();
        Self { round, running: running.into_iter().chain(scheduled).collect(), all, schedules, fired }
    }

    /// A decision to cancel the run of a schedule and to make the next run.
    fn turn(&self, w: &World, number: usize) -> Turn {
        let id = self.schedules[number].schedule_id;
        let now = timetable::state(w, id).record.turn;
        let runs = vec![timetable::run(w, id, 2)];
        Turn { runs, cancel: vec![self.fired[number]], ..timetable::turn(w, id, now) }
    }

    /// The ids, in the requested order.
    fn ids(&self, reversed: bool) -> Vec<TaskId> {
        turned(self.all.clone(), reversed)
    }

    fn running(&self, reversed: bool) -> Vec<Claimed> {
        turned(self.running.clone(), reversed)
    }
}

fn key(round: usize, number: usize) -> Unique {
    Unique::key(format!("{round}/{number}"))
}

fn turned<T>(mut items: Vec<T>, reversed: bool) -> Vec<T> {
    if reversed {
        items.reverse();
    }
    items
}

fn ends(w: &World, claimed: &[Claimed]) -> Commit {
    let settle = claimed.iter().map(|claimed| w.ended(claimed, TaskState::Completed, None)).collect();
    Commit { settle, ..w.blank() }
}

/// A push of the keys of `stage`, or of fresh keys; each task in its own group, or all in the same group.
fn pushes(w: &World, stage: &Stage, reversed: bool, mode: UniqueMode, fresh: usize, together: bool) -> Commit {
    let numbers = turned((fresh..fresh + TASKS).collect(), reversed).into_iter();
    let tasks = numbers.map(|number| w.insertion(task(number).unique(key(stage.round, number).mode(mode))));
    let insert = match together {
        true => vec![InsertGroup { tasks: tasks.collect() }],
        false => tasks.map(|task| InsertGroup { tasks: vec![task] }).collect(),
    };
    Commit { insert, ..w.blank() }
}

fn edit(w: &World, selection: Selection, action: EditAction) -> Result<(), BackendError> {
    w.backend.edit(&Edit { selection, action, now: w.now(), limit: 100, after: None }).map(drop)
}

fn edit_all(w: &World, stage: &Stage, action: EditAction) -> Result<(), BackendError> {
    let filter = TaskFilter { tag: Some(format!("round {}", stage.round)), ..TaskFilter::default() };
    edit(w, Selection::Filter(filter), action)
}

type Operation = fn(&World, &Stage, bool) -> Result<(), BackendError>;

const OPERATIONS: [(&str, Operation); 23] = [
    ("push", |w, s, r| w.backend.commit(&pushes(w, s, r, UniqueMode::ReturnExisting, 0, false)).map(drop)),
    ("push replace", |w, s, r| w.backend.commit(&pushes(w, s, r, UniqueMode::Replace, 0, false)).map(drop)),
    ("push keep latest", |w, s, r| w.backend.commit(&pushes(w, s, r, UniqueMode::KeepLatest, 0, false)).map(drop)),
    ("push fresh keys", |w, s, r| w.backend.commit(&pushes(w, s, r, UniqueMode::Replace, 100, false)).map(drop)),
    ("push many", |w, s, r| w.backend.commit(&pushes(w, s, r, UniqueMode::KeepLatest, 0, true)).map(drop)),
    ("push many fresh keys", |w, s, r| w.backend.commit(&pushes(w, s, r, UniqueMode::Reject, 100, true)).map(drop)),
    ("settle", |w, s, r| w.backend.commit(&ends(w, &s.running(r))).map(drop)),
    ("settle and push", |w, s, r| {
        let settle = ends(w, &s.running(r)[..TASKS / 2]).settle;
        w.backend.commit(&Commit { settle, ..pushes(w, s, !r, UniqueMode::KeepLatest, 0, false) }).map(drop)
    }),
    ("progress and settle", |w, s, r| {
        let running = s.running(r);
        let (first, rest) = running.split_at(TASKS / 2);
        let told = |one: &Claimed| ProgressUpdate {
            seq: one.seq,
            token: one.token,
            progress: Progress { fraction: 0.5, message: String::new() },
        };
        let progress = first.iter().map(told).collect();
        w.backend.commit(&Commit { progress, ..ends(w, rest) }).map(drop)
    }),
    ("claim", |w, _, _| {
        let request = ClaimRequest { queue: DEFAULT_QUEUE.into(), types: None, limit: 3 };
        w.backend.commit(&Commit { claim: vec![request], ..w.blank() }).map(drop)
    }),
    ("cancel", |w, s, r| edit(w, Selection::Ids(s.ids(r)), EditAction::Cancel("no".into()))),
    ("cancel all", |w, s, _| edit_all(w, s, EditAction::Cancel("no".into()))),
    ("reprioritise", |w, s, r| edit(w, Selection::Ids(s.ids(r)), EditAction::Reprioritise(7))),
    ("delete", |w, s, r| edit(w, Selection::Ids(s.ids(r)), EditAction::Delete)),
    ("retry", |w, s, r| edit(w, Selection::Ids(s.ids(r)), EditAction::Retry)),
    ("reschedule all", |w, s, _| edit_all(w, s, EditAction::Reschedule(w.now() + Duration::from_secs(5)))),
    ("heartbeat", |w, _, _| w.backend.heartbeat(&w.sign_of_life(w.node, Duration::from_secs(6)))),
    ("fire", |w, s, r| w.backend.fire(&turned(vec![s.turn(w, 0), s.turn(w, 1)], r)).map(drop)),
    ("save a schedule", |w, s, r| w.backend.save_schedule(&s.schedules[usize::from(r)], None).map(drop)),
    ("release", |w, _, _| w.backend.release(w.node, &[], false, w.now()).map(drop)),
    ("rescue", |w, _, _| {
        let mut upkeep = w.upkeep();
        (upkeep.rescue, upkeep.now) = (true, w.now() + Duration::from_secs(7));
        w.backend.sweep(&upkeep).map(drop)
    }),
    ("prune", |w, _, _| {
        let rule = Retention { state: TaskState::Completed, keep: Some(2), finished_before: None };
        w.backend.prune(&w.backend.outdated(&[rule], w.now(), 100)?).map(drop)
    }),
    ("limit", |w, _, _| w.backend.save_limit(&Limit::of_key("api").running(2))),
];

/// Two operations run at the same time on the same tasks, in the same order or in opposite orders. Neither undoes the
/// other, and no deadlock occurs. A conflict is reported as a transient error.
pub fn no_two_operations_deadlock(h: &dyn Harness) {
    let backend = h.open();
    let mut round = 0;
    for (place, (first, one)) in OPERATIONS.iter().enumerate() {
        for (second, other) in &OPERATIONS[place..] {
            for reversed in [false, true] {
                round += 1;
                let w = World::on(Arc::clone(&backend));
                let stage = Stage::new(&w, round);
                let (beside, barrier) = (w.other_node(), Barrier::new(2));
                let beside_node = beside.node;
                let outcomes = std::thread::scope(|scope| {
                    let (stage, barrier) = (&stage, &barrier);
                    let beside = scope.spawn(move || {
                        barrier.wait();
                        other(&beside, stage, reversed)
                    });
                    barrier.wait();
                    let outcome = one(&w, stage, false);
                    [outcome, beside.join().expect("an operation that does not panic")]
                });
                for outcome in outcomes {
                    assert!(outcome.as_ref().map_or_else(BackendError::is_transient, |()| true), "{outcome:?}");
                }
                let conflicts = if h.locks_neighbours() { 0 } else { backend.conflicts() };
                assert_eq!(conflicts, 0, "{first}, {second}, reversed: {reversed}");
                for node in [w.node, beside_node] {
                    backend.release(node, &[], false, w.now()).expect("release");
                }
                w.edit_where(TaskFilter::default(), EditAction::Delete, 1_000, None);
            }
        }
    }
}
