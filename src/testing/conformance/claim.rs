//! Which claim gets which task, and in which order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Harness;
use crate::backend::{ClaimRequest, Commit, Insertion, QueueChange};
use crate::task::{DEFAULT_QUEUE, NewTask, TaskId, TaskSpec, TaskState};
use crate::testing::factory::{World, at, ids, task};

/// Smaller priorities first, over the whole range.
pub fn by_priority(h: &dyn Harness) {
    let w = World::new(h);
    let push = |priority| w.push(task(0).priority(priority));
    let [zero, least, most, five, minus] = [0, i32::MAX, i32::MIN, 5, -1].map(push);
    assert_eq!(w.claim_ids(10), [most, minus, zero, five, least]);
}

/// Among equal priorities: the earlier `run_at` first, then the earlier push.
pub fn by_run_at_then_push_order(h: &dyn Harness) {
    let w = World::new(h);
    w.go_to(100);
    let late = w.push(task(0).run_at(at(90)));
    let early = w.push(task(1).run_at(at(10)));
    let also_late = w.push(task(2).run_at(at(90)));
    let tasks = w.push_all((3..6).map(|number| task(number).run_at(at(95))));
    let all: Vec<TaskId> = [early, late, also_late].into_iter().chain(tasks).collect();
    assert_eq!(w.claim_ids(10), all);
}

/// A task with an earlier `run_at` comes first among its priority, even if it was promoted later.
pub fn promoted_tasks_keep_their_run_at(h: &dyn Harness) {
    let w = World::new(h);
    let planned = w.push(task(0).run_at(at(10)));
    w.go_to(20);
    let pushed = w.push(task(1));
    w.sweep();
    assert_eq!(w.claim_ids(10), [planned, pushed]);
}

/// A task does not run before its time, however high its priority is.
pub fn future_high_priority_does_not_run_early(h: &dyn Harness) {
    let w = World::new(h);
    let future = w.push(task(0).priority(i32::MIN).run_at(at(1_000)));
    w.go_to(999);
    w.sweep();
    assert_eq!(w.claim_ids(10), []);
    assert_eq!(w.state(future), TaskState::Scheduled);
    w.go_to(1_000);
    w.sweep();
    assert_eq!(w.claim_ids(10), [future]);
}

/// A claim takes at most `limit` tasks. The rest stays for the next claim.
pub fn limit_is_kept(h: &dyn Harness) {
    let w = World::new(h);
    let all = w.push_all((0..5).map(task));
    assert_eq!(w.claim_ids(0), []);
    assert_eq!(w.claim_ids(2), all[..2]);
    assert_eq!(w.claim_ids(2), all[2..4]);
    assert_eq!(w.claim_ids(2), all[4..]);
    assert_eq!(w.claim_ids(2), []);
}

/// A claim takes tasks only from its queue.
pub fn queues_are_apart(h: &dyn Harness) {
    let w = World::new(h);
    let a = w.push(task(0).queue("a"));
    let b = w.push(task(1).queue("b"));
    assert_eq!(w.claim_ids(10), []);
    assert_eq!(ids(&w.claim_from("b", None, 10)), [b]);
    assert_eq!(ids(&w.claim_from("a", None, 10)), [a]);
}

/// A claim with types takes only these types, ordered across all of them. The remaining tasks stay for nodes that
/// know their types.
pub fn types_are_filtered(h: &dyn Harness) {
    let w = World::new(h);
    let push = |kind: &'static str, priority| w.push(NewTask::new(kind, &()).priority(priority));
    let a = push("a", 3);
    let b = push("b", 2);
    let c = push("c", 1);
    let also_a = push("a", 0);
    assert_eq!(ids(&w.claim_from("default", Some(&[]), 10)), []);
    assert_eq!(ids(&w.claim_from("default", Some(&["unknown"]), 10)), []);
    assert_eq!(ids(&w.claim_from("default", Some(&["b", "a", "a"]), 10)), [also_a, b, a]);
    assert_eq!(w.state(c), TaskState::Pending);
    assert_eq!(w.claim_ids(10), [c]);
}

/// Each claim request of a commit gets its own answer, in the order of the requests.
pub fn requests_are_answered_in_order(h: &dyn Harness) {
    let w = World::new(h);
    let a = w.push(task(0).queue("a"));
    let b = w.push(task(1).queue("b"));
    let request = |queue: &'static str| ClaimRequest { queue: queue.into(), types: None, limit: 5 };
    let claim = vec![request("b"), request("none"), request("a"), request("a")];
    let receipt = w.commit(&Commit { claim, ..w.blank() });
    let claimed: Vec<Vec<TaskId>> = receipt.claimed.iter().map(|claimed| ids(claimed)).collect();
    assert_eq!(claimed, [vec![b], vec![], vec![a], vec![]]);
}

/// A claim returns the task as it was pushed, with token and attempts. It writes the node and the start.
pub fn claim_is_written(h: &dyn Harness) {
    let w = World::new(h);
    let insertion = w.insertion(task(7).priority(3).timeout(Duration::from_secs(9)).tag("t"));
    let spec = insertion.spec.clone();
    w.commit(&Commit { insert: vec![super::group([insertion])], ..w.blank() });
    w.go_to(5);
    let claimed = w.claim_one();
    assert_eq!(*claimed.spec, *spec);
    assert_eq!(claimed.attempt, 0);
    let record = w.record(spec.task_id);
    assert_eq!(record.seq, claimed.seq);
    assert_eq!((record.state, record.node), (TaskState::Running, Some(w.node)));
    assert_eq!((record.started_at, record.updated_at), (Some(at(5)), at(5)));
    assert_eq!((record.crash_count, record.attempt), (1, 0));
    assert_eq!((record.finished_at, record.cancel_requested), (None, false));
}

/// A commit can claim the tasks that it inserts.
pub fn own_inserts_are_claimed(h: &dyn Harness) {
    let w = World::new(h);
    let insert = vec![super::group([w.insertion(task(0))])];
    let claim = vec![ClaimRequest { queue: "default".into(), types: None, limit: 5 }];
    let receipt = w.commit(&Commit { insert, claim, ..w.blank() });
    assert_eq!(receipt.claimed[0].len(), 1);
}

/// An expired task is not claimed. It stays until upkeep cancels it.
pub fn expired_is_not_claimed(h: &dyn Harness) {
    let w = World::new(h);
    let expiring = w.push(task(0).priority(-1).expires_in(Duration::from_secs(10)));
    let plain = w.push(task(1));
    w.go_to(11);
    assert_eq!(w.claim_ids(10), [plain]);
    assert_eq!(w.state(expiring), TaskState::Pending);
}

/// Queue settings are advice to the nodes. Storage does not refuse a claim because of them.
pub fn settings_do_not_hinder_claims(h: &dyn Harness) {
    let w = World::new(h);
    let change = QueueChange { queue: "default".into(), paused: Some(true), concurrency: Some(Some(1)) };
    w.backend.change_queue(&change).expect("change");
    let all = w.push_all((0..2).map(task));
    assert_eq!(w.claim_ids(10), all);
}

/// Nodes that claim concurrently never get the same task, and together they get all tasks.
pub fn claims_of_two_nodes_never_overlap(h: &dyn Harness) {
    let w = World::new(h);
    let all: HashSet<TaskId> = (0..20).flat_map(|_| w.push_all((0..50).map(task))).collect();
    let others = [h.second().unwrap_or_else(|| w.backend.clone()), w.backend.clone()];
    let mut claimed: Vec<TaskId> = Vec::new();
    std::thread::scope(|scope| {
        let claimers = others.map(|backend| {
            scope.spawn(move || {
                let node = World::on(backend);
                let mut mine = Vec::new();
                loop {
                    let some = node.claim(7);
                    if some.is_empty() {
                        return mine;
                    }
                    some.iter().for_each(|claimed| node.complete(claimed));
                    mine.extend(ids(&some));
                }
            })
        });
        for claimer in claimers {
            claimed.extend(claimer.join().expect("a claimer"));
        }
    });
    assert_eq!(claimed.len(), all.len(), "some task was claimed twice, or not at all");
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), all);
    assert_eq!(w.count(TaskState::Completed), 1_000);
}

/// Tasks that have crashed twice run one at a time on a node. They do not block the remaining tasks.
pub fn last_chance_runs_alone(h: &dyn Harness) {
    let w = World::new(h);
    let suspects = crashed_twice(&w, 3);
    let plain = w.push_all((10..13).map(|number| task(number).priority(1)));
    let first = w.claim(10);
    assert_eq!(ids(&first)[0], suspects[0]);
    assert_eq!(ids(&first)[1..], plain);
    assert_eq!(w.claim_ids(10), [], "one on its last chance is running");
    let request = ClaimRequest { queue: DEFAULT_QUEUE.into(), types: None, limit: 10 };
    let claim = Commit { claim: vec![request], ..w.blank() };
    assert!(w.commit(&claim).passed_over, "the one who asked must learn that there is more to ask for");
    w.complete(&first[0]);
    assert_eq!(w.claim_ids(10), [suspects[1]]);
}

/// A second node may run a second such task.
pub fn last_chance_counts_per_node(h: &dyn Harness) {
    let w = World::new(h);
    let suspects = crashed_twice(&w, 3);
    let other = w.other_node();
    assert_eq!(w.claim_ids(10), [suspects[0]]);
    assert_eq!(other.claim_ids(10), [suspects[1]]);
    assert_eq!(w.release(&[], false), 1);
    assert_eq!(w.claim_ids(1), [suspects[0]], "given back, its place is free again");
}

/// A task with a single crash is not on its last chance.
pub fn one_crash_is_forgiven(h: &dyn Harness) {
    let w = World::new(h);
    let all = w.push_all((0..3).map(task));
    super::crash(&w, 3);
    assert_eq!(w.claim_ids(10), all);
}

/// A claim may find a task that cannot be read. The task becomes dead with the reason, and the receipt names it. A
/// backend that returns such a task unchanged names none; its handler then decides.
pub fn what_cannot_be_read_is_named(h: &dyn Harness) {
    let w = World::new(h);
    let broken = {
        let sound = w.insertion(task(0).priority(-1));
        let spec = TaskSpec { params: "{broken".into(), ..(*sound.spec).clone() };
        Insertion { spec: Arc::new(spec), ..sound }
    };
    let task_id = broken.spec.task_id;
    w.commit(&Commit { insert: vec![super::group([broken])], ..w.blank() });
    let sound = w.push_all((1..3).map(task));
    w.go_to(5);
    let receipt = w.commit(&Commit { claim: vec![super::any(10)], ..w.blank() });
    let claimed = ids(&receipt.claimed[0]);
    let record = w.record(task_id);
    if let [unreadable] = &receipt.unreadable[..] {
        assert_eq!(claimed, sound, "it holds up nobody");
        assert_eq!(
            (unreadable.task_id, &unreadable.kind, &unreadable.queue),
            (Some(task_id), &record.kind, &record.queue)
        );
        assert_eq!((record.state, record.finished_at), (TaskState::Dead, Some(at(5))));
        assert_eq!(record.last_error.as_ref(), Some(&unreadable.reason));
        assert!(!unreadable.reason.is_empty());
    } else {
        assert_eq!(receipt.unreadable, []);
        assert_eq!((claimed[0], record.state), (task_id, TaskState::Running), "neither handed out nor named");
        assert_eq!(claimed[1..], sound);
    }
    let again = w.commit(&Commit { claim: vec![super::any(10)], ..w.blank() });
    assert_eq!((ids(&again.claimed[0]), again.unreadable), (vec![], vec![]), "it is told once");
}

fn crashed_twice(w: &World, tasks: usize) -> Vec<TaskId> {
    let all = w.push_all((0..tasks).map(task));
    super::crash(w, tasks);
    super::crash(w, tasks);
    assert!(all.iter().all(|id| w.record(*id).crash_count == 2));
    all
}
