//! Limits over all nodes: how many tasks run at a time, limits of both kinds together, and how limits are set.

use std::time::Duration;

use super::{Harness, any, crash};
use crate::backend::{ClaimRequest, Claimed, Commit, HeldBack, Limit, LimitScope, Receipt};
use crate::clock::Timestamp;
use crate::task::{NewTask, TaskId, TaskState};
use crate::testing::factory::{World, at, ids, task};

pub(super) const TEN_SECONDS: Duration = Duration::from_secs(10);

pub(super) fn keyed(number: usize, key: &str) -> NewTask {
    task(number).limit_key(key)
}

/// Claims up to `limit` tasks of the default queue, and returns the tasks and the `HeldBack` report.
pub(super) fn claim(w: &World, limit: usize) -> (Vec<Claimed>, Option<HeldBack>) {
    let Receipt { mut claimed, mut held_back, .. } = w.commit(&Commit { claim: vec![any(limit)], ..w.blank() });
    (claimed.remove(0), held_back.pop())
}

/// How many tasks a claim of ten takes, and when to ask again for more.
pub(super) fn starts(w: &World) -> (usize, Option<Timestamp>) {
    let (claimed, held) = claim(w, 10);
    (claimed.len(), held.and_then(|held| held.retry_at))
}

/// A limit of a queue applies only to its tasks, on all nodes together. Each ended task makes room for a new task.
pub fn running_in_a_queue(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_queue("default").running(2));
    let tasks = w.push_all((0..5).map(task));
    let elsewhere = w.push_all((5..8).map(|number| task(number).queue("other")));
    let (first, held) = claim(&w, 10);
    assert_eq!(ids(&first), tasks[..2]);
    assert_eq!(held, Some(HeldBack { request: 0, retry_at: None, running: true, locked: false }));
    assert_eq!(ids(&w.claim_from("other", None, 10)), elsewhere);
    let other = w.other_node();
    assert_eq!(other.claim_ids(10), []);
    w.complete(&first[0]);
    assert_eq!(other.claim_ids(10), tasks[2..3]);
    // A settled task makes room for a claim of the same commit.
    let settle = vec![w.ended(&first[1], TaskState::Completed, None)];
    let receipt = w.commit(&Commit { settle, claim: vec![any(10)], ..w.blank() });
    assert_eq!(ids(&receipt.claimed[0]), tasks[3..4]);
}

/// A limit of a type applies across all queues.
pub fn running_of_a_type(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_type("slow").running(1));
    let slow = |queue: &'static str| w.push(NewTask::new("slow", &()).queue(queue));
    let (a, b) = (slow("a"), slow("b"));
    let quick = w.push(task(0).queue("b"));
    let first = w.claim_from("a", Some(&["slow", "work"]), 10);
    assert_eq!(ids(&first), [a]);
    assert_eq!(ids(&w.claim_from("b", Some(&["slow", "work"]), 10)), [quick]);
    w.end(&first[0], TaskState::Dead, Some("failed"));
    assert_eq!(ids(&w.claim_from("b", None, 10)), [b]);
}

/// Each key has its own room, under every limit whose name is the beginning of the key.
pub fn running_with_a_key(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_key("api").running(2));
    w.set_limit(&Limit::of_key("api:bert").running(1));
    let push = |key| w.push_all((0..3).map(|number| keyed(number, key)));
    let [anna, bert, plain, apis] = ["api:anna", "api:bert", "api", "apis"].map(push);
    let unkeyed = w.push(task(9));
    let (first, _) = claim(&w, 20);
    let expected: Vec<TaskId> = [&anna[..2], &bert[..1], &plain[..2], &apis[..], &[unkeyed]].concat();
    assert_eq!(ids(&first), expected);
    w.complete(&first[2]);
    assert_eq!(w.claim_ids(20), bert[1..2]);
}

/// A task starts when all of its limits allow it.
pub fn together(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_queue("default").running(3).rate(4, TEN_SECONDS));
    w.set_limit(&Limit::of_key("one").running(1));
    let one = w.push_all((0..3).map(|number| keyed(number, "one")));
    let plain = w.push_all((3..8).map(task));
    let (first, held) = claim(&w, 10);
    assert_eq!(ids(&first), [one[0], plain[0], plain[1]]);
    assert!(held.expect("it holds").running);
    first.iter().for_each(|claimed| w.complete(claimed));
    // The rate of the queue allows a single further start, and the first task in line gets it.
    let (second, held) = claim(&w, 10);
    assert_eq!(ids(&second), one[1..2]);
    assert_eq!(held.expect("it holds").retry_at, Some(at(10)));
    w.go_to(10);
    let (third, _) = claim(&w, 10);
    assert_eq!(ids(&third), plain[2..4], "with what runs, three");
}

/// Throttled tasks keep their places, and the tasks behind them start.
pub fn passed_over_and_not_in_the_way(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_type("slow").running(1));
    let slow = w.push_all((0..1_200).map(|_| NewTask::new("slow", &()).priority(-1)));
    let quick = w.push_all((0..3).map(task));
    let (first, held) = claim(&w, 2);
    assert_eq!((ids(&first), held), (vec![slow[0], quick[0]], None), "nothing is missing");
    assert_eq!(w.claim_ids(1), quick[1..2]);
    assert_eq!(ids(&w.claim_from("default", Some(&["work"]), 5)), quick[2..]);
    let (none, held) = claim(&w, 5);
    assert!(none.is_empty() && held.is_some_and(|held| held.running));
    w.complete(&first[0]);
    assert_eq!(w.claim_ids(5), slow[1..2]);
}

/// Several requests of a commit share the rest of a limit, even if they are for the same queue.
pub fn requests_share_a_limit(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_type("work").running(4).rate(9, TEN_SECONDS));
    let a = w.push_all((0..5).map(|number| task(number).queue("a")));
    let b = w.push_all((5..10).map(|number| task(number).queue("b")));
    let request = |queue: &'static str, limit| ClaimRequest { queue: queue.into(), types: None, limit };
    let claim = vec![request("a", 2), request("none", 9), request("a", 1), request("b", 3), request("a", 0)];
    let receipt = w.commit(&Commit { claim, ..w.blank() });
    let claimed: Vec<Vec<TaskId>> = receipt.claimed.iter().map(|claimed| ids(claimed)).collect();
    assert_eq!(claimed, [a[..2].to_vec(), vec![], a[2..3].to_vec(), b[..1].to_vec(), vec![]]);
    assert_eq!(receipt.held_back, [HeldBack { request: 3, retry_at: None, running: true, locked: false }]);
}

/// Tasks that run when a limit is set count, however they were started. Tasks on dead nodes count too.
pub fn what_runs_already_counts(h: &dyn Harness) {
    let w = World::new(h);
    let running = w.push_claimed(task(0));
    let lost = w.mortal(5);
    lost.push_claimed(task(1));
    w.set_limit(&Limit::of_queue("default").running(2));
    let waits = w.push(task(2));
    assert_eq!(w.claim_ids(5), []);
    w.complete(&running);
    assert_eq!(w.claim_ids(5), [waits]);
    w.go_to(6);
    assert_eq!(w.claim(5).len(), 0, "nobody knows yet that it is lost");
    assert_eq!(w.rescue().rescued.len(), 1);
    assert_eq!(w.claim(5).len(), 1);
}

/// Tasks that have crashed twice run one at a time under a limit too. They use the limit only when they start.
pub fn last_chance_under_a_limit(h: &dyn Harness) {
    let w = World::new(h);
    let suspects = w.push_all((0..2).map(task));
    crash(&w, 2);
    crash(&w, 2);
    w.set_limit(&Limit::of_queue("default").running(3));
    let plain = w.push_all((2..5).map(task));
    assert_eq!(w.claim_ids(10), [suspects[0], plain[0], plain[1]]);
    let other = w.other_node();
    assert_eq!(other.claim_ids(10), []);
    w.release(&[], false);
    assert_eq!(other.claim_ids(1), suspects[..1]);
    let receipt = other.commit(&Commit { claim: vec![any(2)], ..other.blank() });
    assert_eq!(ids(&receipt.claimed[0]), plain[..2]);
}

/// A limit replaces an older limit of the same scope and name. A removed limit throttles nothing and remembers
/// nothing.
pub fn set_listed_and_removed(h: &dyn Harness) {
    let w = World::new(h);
    assert_eq!(w.backend.limits().expect("limits"), []);
    let rate = Limit::of_queue("default").rate(1, TEN_SECONDS);
    let others = [Limit::of_type("default").running(1), Limit::of_key("clé:β").running(7).rate(3, TEN_SECONDS)];
    others.iter().for_each(|limit| w.set_limit(limit));
    w.set_limit(&Limit::of_queue("default").running(7));
    w.set_limit(&rate);
    let all = [std::slice::from_ref(&rate), &others[..]].concat();
    assert_eq!(w.backend.limits().expect("limits"), all, "by scope and name");
    assert_eq!(w.sweep().limits, all);
    w.push_all((0..5).map(task));
    assert_eq!(starts(&w), (1, Some(at(10))));
    let remove = |scope, name| w.backend.remove_limit(scope, name).expect("remove");
    assert!(remove(LimitScope::Queue, "default") && !remove(LimitScope::Queue, "default"));
    assert!(!remove(LimitScope::Key, "clé"));
    assert_eq!(w.backend.limits().expect("limits"), others);
    assert_eq!(w.claim(2).len(), 2, "whoever still names it");
    w.set_limit(&rate);
    assert_eq!(starts(&w), (1, Some(at(10))), "it begins anew");
}

/// Limits and their state are still there when storage is opened again.
pub fn kept_in_storage(h: &dyn Harness) {
    let w = World::new(h);
    let limit = Limit::of_type("work").rate(1, TEN_SECONDS);
    w.set_limit(&limit);
    w.push_all((0..3).map(task));
    assert_eq!(w.claim(10).len(), 1);
    if !w.backend.capabilities().durable {
        return;
    }
    drop(w);
    let w = World::on(h.reopen().expect("durable storage can be opened again"));
    w.look_at_limits();
    assert_eq!(w.backend.limits().expect("limits"), [limit]);
    assert_eq!(starts(&w), (0, Some(at(10))));
}

/// A commit that names no limits is not throttled. Its node learns of new limits within a second.
pub fn only_named_limits_hold(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_queue("default").running(1));
    w.push_all((0..3).map(task));
    let late = World::on(w.backend.clone());
    assert_eq!(late.claim(2).len(), 2);
    assert_eq!(w.claim(1).len(), 0);
    late.look_at_limits();
    assert_eq!(late.claim(1).len(), 0);
}

/// The limit key comes back with the task, from lists and from claims.
pub fn key_is_kept(h: &dyn Harness) {
    let w = World::new(h);
    let longest = "ключ:".repeat(25) + "1234567890123456789012345";
    let id = w.push(keyed(0, &longest));
    let plain = w.push(task(1));
    assert_eq!(w.record(id).limit_key.as_deref(), Some(longest.as_str()));
    assert_eq!(w.record(plain).limit_key, None);
    let claimed = w.claim(2);
    assert_eq!(claimed[0].spec.extras().limit_key.as_deref(), Some(longest.as_str()));
    assert!(claimed[1].spec.extras.is_none());
}

/// Runs nodes that claim concurrently, on two handles. `each` is a single step of a node; it returns false to stop.
pub(super) fn side_by_side(h: &dyn Harness, w: &World, each: impl Fn(&World) -> bool + Sync) {
    let handles = [h.second().unwrap_or_else(|| w.backend.clone()), w.backend.clone(), w.backend.clone()];
    std::thread::scope(|scope| {
        for backend in handles {
            scope.spawn(|| {
                let node = World::on(backend);
                node.look_at_limits();
                while each(&node) {}
            });
        }
    });
}

/// However many nodes claim at the same time, no more tasks run than allowed.
pub fn side_by_side_never_too_many(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_queue("default").running(3));
    w.set_limit(&Limit::of_key("api").running(1));
    let keys = ["api:a", "api:b", "api:a", "api:c"];
    w.push_all((0..60).map(|number| keyed(number, keys[number % keys.len()])));
    side_by_side(h, &w, |node| {
        let claimed = node.claim(2);
        let running = node.count(TaskState::Running);
        assert!(running <= 3, "{running} run at a time");
        claimed.iter().for_each(|claimed| node.complete(claimed));
        node.count(TaskState::Pending) > 0
    });
    assert_eq!(w.count(TaskState::Completed), 60);
}
