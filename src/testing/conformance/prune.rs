//! Deleting history by age and by count.

use std::time::Duration;

use super::Harness;
use crate::backend::{EditAction, Inserted, Outdated, Retention};
use crate::task::{TaskId, TaskState, Unique};
use crate::testing::factory::{World, at, task};

fn outdated(w: &World, rules: &[Retention], limit: usize) -> Vec<Outdated> {
    w.backend.outdated(rules, w.now(), limit).expect("outdated")
}

fn prune(w: &World, rules: &[Retention], limit: usize) -> Vec<TaskId> {
    w.backend.prune(&outdated(w, rules, limit)).expect("prune")
}

fn older(state: TaskState, seconds: u64) -> Retention {
    Retention { state, finished_before: Some(at(seconds)), keep: None }
}

fn latest(state: TaskState, keep: u64) -> Retention {
    Retention { state, finished_before: None, keep: Some(keep) }
}

fn finish_at(w: &World, seconds: u64, state: TaskState) -> TaskId {
    w.go_to(seconds);
    w.push_in(state, task(0))
}

/// Tasks finished before the given time are deleted with their history. All other tasks stay.
pub fn by_age(h: &dyn Harness) {
    let w = World::new(h);
    let ids = [10, 20, 30].map(|second| finish_at(&w, second, TaskState::Completed));
    let dead = finish_at(&w, 10, TaskState::Dead);
    let pruned = prune(&w, &[older(TaskState::Completed, 30)], 10);
    assert_eq!(pruned, ids[..2]);
    assert_eq!(w.backend.get(ids[0]).expect("get"), None);
    assert_eq!(w.backend.executions(ids[0]).expect("executions"), []);
    assert_eq!((w.state(ids[2]), w.state(dead)), (TaskState::Completed, TaskState::Dead));
    assert_eq!(w.count(TaskState::Completed), 1);
    assert_eq!(prune(&w, &[older(TaskState::Completed, 30)], 10), []);
}

/// The time of finishing counts, not the time of the push, nor the order of writing.
pub fn age_is_time_of_finishing(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push_claimed(task(0));
    let second = w.push_claimed(task(1));
    let third = w.push_claimed(task(2));
    for (claimed, seconds) in [(&third, 40), (&first, 50), (&second, 30)] {
        w.go_to(seconds);
        w.complete(claimed);
    }
    let pruned = prune(&w, &[older(TaskState::Completed, 45)], 10);
    assert_eq!(pruned.len(), 2);
    assert_eq!(w.state(first.spec.task_id), TaskState::Completed);
}

/// Only the latest tasks are kept.
pub fn by_count(h: &dyn Harness) {
    let w = World::new(h);
    let ids = [10, 20, 30, 40].map(|second| finish_at(&w, second, TaskState::Dead));
    assert_eq!(prune(&w, &[latest(TaskState::Dead, 4)], 10), []);
    let pruned = prune(&w, &[latest(TaskState::Dead, 1)], 10);
    assert_eq!(pruned, ids[..3]);
    assert_eq!(prune(&w, &[latest(TaskState::Dead, 0)], 10), [ids[3]]);
}

/// Age and count in the same rule: a task is deleted if either of them does not keep it.
pub fn by_age_and_count(h: &dyn Harness) {
    let w = World::new(h);
    let ids = [10, 20, 30, 40].map(|second| finish_at(&w, second, TaskState::Completed));
    let rule = Retention { state: TaskState::Completed, finished_before: Some(at(35)), keep: Some(3) };
    assert_eq!(prune(&w, &[rule], 10), ids[..3]);
    let rule = Retention { state: TaskState::Completed, finished_before: Some(at(1)), keep: Some(0) };
    assert_eq!(prune(&w, &[rule], 10), ids[3..]);
}

/// The limit is for the whole call; the next call finds the rest.
pub fn limit_and_more(h: &dyn Harness) {
    let w = World::new(h);
    for second in 0..3 {
        finish_at(&w, second, TaskState::Completed);
        finish_at(&w, second, TaskState::Cancelled);
    }
    let rules = [older(TaskState::Completed, 100), latest(TaskState::Cancelled, 1)];
    for count in [2, 2, 1, 0] {
        assert_eq!(prune(&w, &rules, 2).len(), count);
    }
    assert_eq!((w.count(TaskState::Completed), w.count(TaskState::Cancelled)), (0, 1));
}

/// Live tasks are never pruned, whatever the rules say.
pub fn live_tasks_stay(h: &dyn Harness) {
    let w = World::new(h);
    for state in super::REACHABLE {
        w.push_in(state, task(0));
    }
    w.go_to(1_000);
    let rules: Vec<Retention> = TaskState::ALL
        .iter()
        .map(|state| Retention { state: *state, finished_before: Some(at(900)), keep: Some(0) })
        .collect();
    assert_eq!(prune(&w, &rules, 100).len(), 3);
    assert_eq!(w.backend.counts().expect("counts").len(), 4);
    assert_eq!(prune(&w, &[], 100), []);
}

/// A retried task counts from its new end.
pub fn retried_counts_anew(h: &dyn Harness) {
    let w = World::new(h);
    let id = finish_at(&w, 10, TaskState::Dead);
    let other = finish_at(&w, 20, TaskState::Dead);
    w.edit(&[id], EditAction::Retry);
    assert_eq!(prune(&w, &[latest(TaskState::Dead, 1)], 10), []);
    w.go_to(30);
    let claimed = w.claim_one();
    w.end(&claimed, TaskState::Dead, Some("again"));
    assert_eq!(prune(&w, &[latest(TaskState::Dead, 1)], 10), [other]);
    assert_eq!(w.state(id), TaskState::Dead);
}

/// A task that was retried after it was found stays, even if it has ended again.
pub fn found_and_retried_stays(h: &dyn Harness) {
    let w = World::new(h);
    let ids = [10, 20, 30].map(|second| finish_at(&w, second, TaskState::Dead));
    let found = outdated(&w, &[latest(TaskState::Dead, 0)], 10);
    assert_eq!(found.iter().map(|task| task.finished_at).collect::<Vec<_>>(), [at(10), at(20), at(30)]);
    w.edit(&ids[..2], EditAction::Retry);
    w.go_to(40);
    let claimed = w.claim(1).remove(0);
    w.end(&claimed, TaskState::Dead, Some("again"));
    assert_eq!(w.backend.prune(&found).expect("prune"), [ids[2]]);
    assert_eq!((w.state(ids[0]), w.state(ids[1])), (TaskState::Dead, TaskState::Pending));
    assert_eq!(w.backend.prune(&found).expect("prune"), []);
}

/// The tasks that finished first are deleted first, across all queues. Tasks that finished at the same time are
/// deleted in push order.
pub fn oldest_of_all_queues_go_first(h: &dyn Harness) {
    let w = World::new(h);
    let in_queue = |second: u64, queue: &'static str| {
        w.go_to(second);
        w.push_in(TaskState::Completed, task(0).queue(queue))
    };
    let ids =
        [(10, "b"), (20, "a"), (20, "b"), (20, "a"), (30, "b"), (40, "a")].map(|(at, queue)| in_queue(at, queue));
    assert_eq!(prune(&w, &[latest(TaskState::Completed, 3)], 10), ids[..3]);
    assert_eq!(prune(&w, &[latest(TaskState::Completed, 0)], 2), ids[3..5]);
    assert_eq!(w.state(ids[5]), TaskState::Completed);
}

/// History is kept until a rule deletes it.
pub fn nothing_else_deletes(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    w.complete(&claimed);
    w.go_to(1_000_000);
    w.beat(w.node, std::time::Duration::from_secs(10));
    w.rescue();
    assert_eq!(w.state(claimed.spec.task_id), TaskState::Completed);
    assert_eq!(w.backend.executions(claimed.spec.task_id).expect("executions").len(), 1);
}

/// A finished task that holds its key for a period stays until the period is over. It does not block the pruning of
/// other tasks.
pub fn a_period_outlasts_retention(h: &dyn Harness) {
    let w = World::new(h);
    let keyed = || task(0).unique(Unique::key("k").period(Duration::from_secs(100)));
    let holder = w.push_claimed(keyed());
    w.complete(&holder);
    let holder = holder.spec.task_id;
    let others = [1, 2, 3].map(|second| finish_at(&w, second, TaskState::Completed));
    w.go_to(99);
    assert_eq!(prune(&w, &[latest(TaskState::Completed, 2)], 1), others[..1]);
    assert_eq!(prune(&w, &[older(TaskState::Completed, 3)], 1), others[1..2]);
    assert_eq!(prune(&w, &[older(TaskState::Completed, 99), latest(TaskState::Completed, 0)], 10), others[2..]);
    let state = TaskState::Completed;
    assert_eq!(w.offer(keyed()), Inserted::Duplicate { task_id: holder, state }, "the key is held");
    w.go_to(100);
    assert_eq!(prune(&w, &[latest(TaskState::Completed, 0)], 10), [holder]);
}
