//! Deleting history by age and by count.

use super::Harness;
use crate::backend::{EditAction, Prune, Pruned, Retention};
use crate::task::{TaskId, TaskState};
use crate::testing::factory::{World, at, task};

fn prune(w: &World, rules: &[Retention], limit: usize) -> Pruned {
    w.backend.prune(&Prune { rules: rules.to_vec(), limit }).expect("prune")
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

/// Tasks finished before the time go, with their history; the others stay.
pub fn by_age(h: &dyn Harness) {
    let w = World::new(h);
    let ids = [10, 20, 30].map(|second| finish_at(&w, second, TaskState::Completed));
    let dead = finish_at(&w, 10, TaskState::Dead);
    let pruned = prune(&w, &[older(TaskState::Completed, 30)], 10);
    assert_eq!(pruned, Pruned { tasks: ids[..2].to_vec(), more: false });
    assert_eq!(w.backend.get(ids[0]).expect("get"), None);
    assert_eq!(w.backend.executions(ids[0]).expect("executions"), []);
    assert_eq!((w.state(ids[2]), w.state(dead)), (TaskState::Completed, TaskState::Dead));
    assert_eq!(w.count(TaskState::Completed), 1);
    assert_eq!(prune(&w, &[older(TaskState::Completed, 30)], 10), Pruned::default());
}

/// The time of finishing counts, not that of the push nor the order of writing.
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
    assert_eq!(pruned.tasks.len(), 2);
    assert_eq!(w.state(first.spec.task_id), TaskState::Completed);
}

/// Only the latest are kept.
pub fn by_count(h: &dyn Harness) {
    let w = World::new(h);
    let ids = [10, 20, 30, 40].map(|second| finish_at(&w, second, TaskState::Dead));
    assert_eq!(prune(&w, &[latest(TaskState::Dead, 4)], 10), Pruned::default());
    let pruned = prune(&w, &[latest(TaskState::Dead, 1)], 10);
    assert_eq!(pruned, Pruned { tasks: ids[..3].to_vec(), more: false });
    assert_eq!(prune(&w, &[latest(TaskState::Dead, 0)], 10).tasks, [ids[3]]);
}

/// Age and count in one rule: what either does not keep goes.
pub fn by_age_and_count(h: &dyn Harness) {
    let w = World::new(h);
    let ids = [10, 20, 30, 40].map(|second| finish_at(&w, second, TaskState::Completed));
    let rule = Retention { state: TaskState::Completed, finished_before: Some(at(35)), keep: Some(3) };
    assert_eq!(prune(&w, &[rule], 10).tasks, ids[..3]);
    let rule = Retention { state: TaskState::Completed, finished_before: Some(at(1)), keep: Some(0) };
    assert_eq!(prune(&w, &[rule], 10).tasks, ids[3..]);
}

/// The limit is for the whole call; `more` tells of the rest.
pub fn limit_and_more(h: &dyn Harness) {
    let w = World::new(h);
    for second in 0..3 {
        finish_at(&w, second, TaskState::Completed);
        finish_at(&w, second, TaskState::Cancelled);
    }
    let rules = [older(TaskState::Completed, 100), latest(TaskState::Cancelled, 1)];
    for (count, more) in [(2, true), (2, true), (1, false), (0, false)] {
        let pruned = prune(&w, &rules, 2);
        assert_eq!((pruned.tasks.len(), pruned.more), (count, more));
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
    assert_eq!(prune(&w, &rules, 100).tasks.len(), 3);
    assert_eq!(w.backend.counts().expect("counts").len(), 4);
    assert_eq!(prune(&w, &[], 100), Pruned::default());
}

/// A task that was retried counts from its new end.
pub fn retried_counts_anew(h: &dyn Harness) {
    let w = World::new(h);
    let id = finish_at(&w, 10, TaskState::Dead);
    let other = finish_at(&w, 20, TaskState::Dead);
    w.edit(&[id], EditAction::Retry);
    assert_eq!(prune(&w, &[latest(TaskState::Dead, 1)], 10), Pruned::default());
    w.go_to(30);
    let claimed = w.claim_one();
    w.end(&claimed, TaskState::Dead, Some("again"));
    assert_eq!(prune(&w, &[latest(TaskState::Dead, 1)], 10).tasks, [other]);
    assert_eq!(w.state(id), TaskState::Dead);
}

/// History is kept until a rule says otherwise.
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
