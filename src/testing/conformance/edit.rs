//! Changes to stored tasks.

use super::Harness;
use crate::backend::{EditAction, MOST_LOOKED_AT, TaskFilter};
use crate::task::{TaskId, TaskState};
use crate::testing::factory::{World, at, task};

fn cancel() -> EditAction {
    EditAction::Cancel("nicht mehr nötig".into())
}

/// Cancel, in each state.
pub fn cancel_in_each_state(h: &dyn Harness) {
    let w = World::new(h);
    for state in super::REACHABLE {
        let id = w.push_in(state, task(0));
        w.go_to(5);
        let before = w.record(id);
        let report = w.edit(&[id], cancel());
        let after = w.record(id);
        match state {
            TaskState::Running => {
                assert_eq!((report.changed, report.cancelling), (vec![], vec![id]));
                assert_eq!((after.state, after.cancel_requested), (TaskState::Running, true));
            }
            _ if state.is_terminal() => {
                assert_eq!((report.changed, report.cancelling), (vec![], vec![]));
                assert_eq!(after, before, "{state}");
            }
            _ => {
                assert_eq!((report.changed, report.cancelling), (vec![id], vec![]));
                assert_eq!((after.state, after.cancel_requested), (TaskState::Cancelled, false));
                assert_eq!(after.last_error.as_deref(), Some("nicht mehr nötig"));
                assert_eq!(after.finished_at, Some(at(5)));
            }
        }
        w.go_to(0);
    }
    w.go_to(10_000);
    w.sweep();
    assert_eq!(w.claim_ids(10), []);
}

/// The cancel request reaches the node that runs the task, at each sweep until the task is settled.
pub fn cancel_request_reaches_the_holder(h: &dyn Harness) {
    let w = World::new(h);
    let other = w.other_node();
    let claimed = w.push_claimed(task(0));
    w.push_claimed(task(1));
    other.push_claimed(task(2));
    assert_eq!(w.sweep().cancel, []);
    other.edit(&[claimed.spec.task_id], cancel());
    assert_eq!(other.sweep().cancel, []);
    assert_eq!(w.sweep().cancel, [claimed.spec.task_id]);
    assert_eq!(w.sweep().cancel, [claimed.spec.task_id]);
    w.complete(&claimed);
    assert_eq!(w.sweep().cancel, []);
    assert_eq!(w.state(claimed.spec.task_id), TaskState::Completed, "it was done before it could be stopped");
}

/// Retry, in each state.
pub fn retry_in_each_state(h: &dyn Harness) {
    let w = World::new(h);
    for state in super::REACHABLE {
        let id = w.push_in(state, task(0));
        w.go_to(7);
        let before = w.record(id);
        let report = w.edit(&[id], EditAction::Retry);
        let after = w.record(id);
        if matches!(state, TaskState::Running | TaskState::Pending) {
            assert_eq!((report.changed, report.queues.len()), (vec![], 0));
            assert_eq!(after, before, "{state}");
        } else {
            assert_eq!((report.changed, report.queues), (vec![id], vec!["default".into()]));
            assert_eq!((after.state, after.run_at, after.updated_at), (TaskState::Pending, at(7), at(7)));
            assert_eq!(after.finished_at, None);
            assert_eq!(after.attempt, if state == TaskState::Retrying { 1 } else { 0 }, "{state}");
        }
        w.go_to(0);
    }
    w.go_to(10);
    assert_eq!(w.claim_ids(10).len(), 6);
}

/// A task that died in a crash loop gets all its crashes and attempts back, and its history stays.
pub fn retry_from_a_crash_loop(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0));
    (0..3).for_each(|_| super::crash(&w, 1));
    assert_eq!(w.state(id), TaskState::Dead);
    w.edit(&[id], EditAction::Retry);
    let record = w.record(id);
    assert_eq!((record.state, record.attempt, record.crash_count), (TaskState::Pending, 0, 0));
    let claimed = w.claim_one();
    w.complete(&claimed);
    assert_eq!(w.backend.executions(id).expect("executions").len(), 4);
}

/// Delete removes the task and its history, in each state but running.
pub fn delete_unless_running(h: &dyn Harness) {
    let w = World::new(h);
    for state in super::REACHABLE {
        let id = w.push_in(state, task(0));
        let changed = w.edit(&[id], EditAction::Delete).changed;
        if state == TaskState::Running {
            assert_eq!((changed, w.state(id)), (vec![], state));
        } else {
            assert_eq!(changed, [id]);
            assert_eq!(w.backend.get(id).expect("get"), None);
            assert_eq!(w.backend.executions(id).expect("executions"), []);
            assert_eq!(w.count(state), 0);
            w.push(task(1).task_id(id));
            assert_eq!(w.backend.executions(id).expect("executions"), []);
            w.edit(&[id], EditAction::Delete);
        }
    }
}

/// A new priority counts at the next claim. Running and terminal tasks keep their priority.
pub fn reprioritise(h: &dyn Harness) {
    let w = World::new(h);
    for state in super::REACHABLE {
        let id = w.push_in(state, task(0).queue("states"));
        let changed = w.edit(&[id], EditAction::Reprioritise(-9)).changed;
        let open = !state.is_terminal() && state != TaskState::Running;
        assert_eq!(changed, if open { vec![id] } else { vec![] }, "{state}");
        assert_eq!((w.record(id).priority, w.state(id)), (if open { -9 } else { 0 }, state));
    }
    let all = w.push_all((0..3).map(task));
    w.edit(&all[2..], EditAction::Reprioritise(i32::MIN));
    assert_eq!(w.claim_ids(10), [all[2], all[0], all[1]]);
}

/// A new time: a later time delays the task, now or an earlier time lets it run. Running and terminal tasks keep
/// their time.
pub fn reschedule(h: &dyn Harness) {
    let w = World::new(h);
    for state in super::REACHABLE {
        let id = w.push_in(state, task(0));
        let open = !state.is_terminal() && state != TaskState::Running;
        let changed = w.edit(&[id], EditAction::Reschedule(at(77))).changed;
        assert_eq!(changed, if open { vec![id] } else { vec![] }, "{state}");
        if open {
            assert_eq!(w.record(id).run_at, at(77));
            assert_ne!(w.state(id), TaskState::Pending, "{state}: its time lies ahead");
        } else {
            assert_eq!(w.state(id), state);
        }
    }
    assert_eq!(w.claim_ids(10), []);
    w.go_to(77);
    w.sweep();
    assert_eq!(w.claim_ids(10).len(), 3);
}

/// A task that is rescheduled to a time that has come can run.
pub fn reschedule_to_now(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0).run_at(at(1_000)));
    let report = w.edit(&[id], EditAction::Reschedule(at(0)));
    assert_eq!((report.changed, report.queues), (vec![id], vec!["default".into()]));
    assert_eq!(w.claim_ids(10), [id]);
}

/// Unknown ids are skipped. All other tasks are edited, however many there are.
pub fn unknown_ids_are_passed_by(h: &dyn Harness) {
    let w = World::new(h);
    let ids = w.push_all((0..150).map(task));
    let mut asked = ids.clone();
    asked.insert(75, TaskId::new(at(0)));
    asked.push(ids[0]);
    let mut changed = w.edit(&asked, EditAction::Delete).changed;
    changed.sort();
    let mut ids = ids;
    ids.sort();
    assert_eq!(changed, ids, "the limit is for filters alone");
    assert_eq!(w.edit(&[], EditAction::Delete).changed, []);
}

/// An edit keeps to the limit of its filter. The next edit continues behind the reported place and does the rest.
pub fn filter_limit_and_more(h: &dyn Harness) {
    for action in [cancel(), EditAction::Delete, EditAction::Reprioritise(4), EditAction::Reschedule(at(9))] {
        let w = World::new(h);
        let mine = w.push_all((0..5).map(|number| task(number).tag("mine")));
        let others = w.push_all((0..2).map(task));
        let filter = TaskFilter { tag: Some("mine".into()), ..TaskFilter::default() };
        let (mut changed, mut after) = (Vec::new(), None);
        for (count, more) in [(2, true), (2, true), (1, false)] {
            let report = w.edit_where(filter.clone(), action.clone(), 2, after);
            assert_eq!((report.changed.len(), report.next.is_some()), (count, more), "{action:?}");
            changed.extend(report.changed);
            after = report.next;
        }
        assert_eq!(w.edit_where(filter, action, 2, None).changed, [], "nothing is left to change");
        changed.sort();
        assert_eq!(changed, mine);
        assert_eq!(w.claim_ids(10)[..2], others);
    }
}

/// If the limit was just enough, the report names no place to continue.
pub fn exact_limit_is_not_more(h: &dyn Harness) {
    let w = World::new(h);
    w.push_all((0..2).map(task));
    assert_eq!(w.edit_where(TaskFilter::default(), cancel(), 2, None).next, None);
}

/// A task that matches again at once is not edited a second time, neither before nor after the remaining tasks.
pub fn each_task_is_met_once(h: &dyn Harness) {
    let w = World::new(h);
    let all: Vec<TaskId> = (0..7).map(|number| w.push_in(TaskState::Dead, task(number))).collect();
    let dead = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
    let (mut retried, mut after) = (Vec::new(), None);
    loop {
        let report = w.edit_where(dead.clone(), EditAction::Retry, 3, after);
        retried.extend(report.changed);
        for claimed in w.claim(10) {
            w.end(&claimed, TaskState::Dead, Some("again"));
        }
        after = report.next;
        if after.is_none() {
            break;
        }
        assert!(retried.len() <= all.len(), "some are retried again: {retried:?}");
    }
    assert_eq!(retried, all);
}

/// A filter selects only tasks that the action can change, so that no other tasks use up the limit.
pub fn filter_passes_by_what_cannot_change(h: &dyn Harness) {
    let w = World::new(h);
    for _ in 0..3 {
        w.push_in(TaskState::Completed, task(0));
    }
    let running = w.push_in(TaskState::Running, task(0));
    let pending = w.push(task(0));
    let report = w.edit_where(TaskFilter::default(), EditAction::Reprioritise(1), 1, None);
    assert_eq!((report.changed, report.next), (vec![pending], None));
    let report = w.edit_where(TaskFilter::default(), cancel(), 1, None);
    assert_eq!((report.cancelling, report.next.is_some()), (vec![running], true));
    let report = w.edit_where(TaskFilter::default(), cancel(), 1, None);
    assert_eq!((report.changed, report.next), (vec![pending], None));
    let dead = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
    assert_eq!(w.edit_where(dead, EditAction::Retry, 5, None).changed, []);
}

/// An edit that finds nothing to change among many tasks returns early, and the next edit continues behind them.
pub fn an_edit_looks_at_so_many(h: &dyn Harness) {
    let w = World::new(h);
    let behind = MOST_LOOKED_AT + 1;
    w.push_all((0..behind).map(task));
    let last = w.push(task(behind).tag("last"));
    let tagged = TaskFilter { tag: Some("last".into()), ..TaskFilter::default() };
    for (filter, action) in [(tagged, EditAction::Delete), (TaskFilter::default(), EditAction::Reprioritise(0))] {
        let first = w.edit_where(filter.clone(), action.clone(), 100, None);
        assert_eq!((first.changed, first.next.is_some()), (vec![], true), "{action:?} in one transaction");
        let second = w.edit_where(filter, action.clone(), 100, first.next);
        let changed = if action == EditAction::Delete { vec![last] } else { vec![] };
        assert_eq!((second.changed, second.next), (changed, None), "{action:?}");
    }
    let ended = TaskFilter { states: vec![TaskState::Completed], ..TaskFilter::default() };
    assert_eq!(w.edit_where(ended, cancel(), 100, None).next, None, "what has ended is not looked at to call it off");
}
