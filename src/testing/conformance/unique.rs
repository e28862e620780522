//! Unique keys: modes, scopes and periods.

use std::time::Duration;

use super::Harness;
use crate::backend::{Commit, EditAction, Inserted};
use crate::name::Name;
use crate::task::{NewTask, TaskId, TaskState, Unique, UniqueMode, UniqueScope, holds_key};
use crate::testing::factory::{World, at, task};

fn key(mode: UniqueMode) -> Unique {
    Unique::key("k").mode(mode)
}

fn keyed(number: usize, mode: UniqueMode) -> NewTask {
    task(number).unique(key(mode))
}

/// For each scope, period and state: a key is held as `holds_key` says. If it is not held, a new task takes it over.
pub fn held_by_scope_state_and_period(h: &dyn Harness) {
    let w = World::new(h);
    for scope in UniqueScope::ALL {
        for period in [None, Some(Duration::from_secs(10))] {
            for (case, state) in super::REACHABLE.into_iter().enumerate() {
                for later in [0, 9, 10] {
                    w.go_to(0);
                    let name = format!("{scope}/{period:?}/{case}/{later}");
                    let mut unique = Unique::key(name.as_str()).scope(*scope);
                    if let Some(period) = period {
                        unique = unique.period(period);
                    }
                    let first = w.push_in(state, task(0).unique(unique.clone()));
                    w.go_to(later);
                    let held = holds_key((*scope, unique.mode), unique.until(at(0)), state, w.now());
                    let answer = w.offer(task(1).unique(unique));
                    if held {
                        assert_eq!(answer, Inserted::Duplicate { task_id: first, state }, "{name} {state}");
                    } else {
                        assert!(matches!(answer, Inserted::New { .. }), "{name} {state}: {answer:?}");
                        assert_eq!(w.record(first).unique_key, None, "{name} {state}: the key was taken");
                    }
                }
            }
        }
    }
}

/// Different keys do not conflict. The same key conflicts across queues and types.
pub fn one_holder_over_queues_and_types(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push(keyed(0, UniqueMode::ReturnExisting));
    let other = NewTask::new("other", &()).queue("elsewhere").unique(key(UniqueMode::ReturnExisting));
    assert_eq!(w.offer(other), Inserted::Duplicate { task_id: first, state: TaskState::Pending });
    w.push(task(1).unique(Unique::key("K")));
    w.push(task(1).unique(Unique::key("k ")));
}

/// The key passes from holder to holder as each of them ends.
pub fn key_passes_on(h: &dyn Harness) {
    let w = World::new(h);
    for _ in 0..3 {
        let id = w.push(keyed(0, UniqueMode::Reject));
        assert_eq!(w.record(id).unique_key.as_deref(), Some("k"));
        assert_eq!(w.offer(keyed(1, UniqueMode::Reject)), Inserted::Refused { existing: id });
        let claimed = w.claim_one();
        assert_eq!(w.offer(keyed(1, UniqueMode::Reject)), Inserted::Refused { existing: id });
        w.complete(&claimed);
    }
    assert_eq!(w.count(TaskState::Completed), 3);
}

/// A deleted or cancelled task holds no key.
pub fn deleted_holder_frees_its_key(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push(keyed(0, UniqueMode::Reject));
    w.edit(&[first], EditAction::Delete);
    let second = w.push(keyed(1, UniqueMode::Reject));
    w.edit(&[second], EditAction::Cancel("no".into()));
    w.push(keyed(2, UniqueMode::Reject));
}

/// `replace` gives a holder that is not running the new params, priority and `run_at`.
pub fn replace_takes_over(h: &dyn Harness) {
    for mode in [UniqueMode::Replace, UniqueMode::KeepLatest] {
        for before in [TaskState::Scheduled, TaskState::Pending, TaskState::Retrying] {
            for after in [TaskState::Scheduled, TaskState::Pending] {
                let w = World::new(h);
                let id = w.push_in(before, keyed(0, mode).tag("old").priority(5));
                let new = keyed(1, mode).tag("new").priority(-5).queue("not this one");
                let new = if after == TaskState::Scheduled { new.run_at(at(50)) } else { new };
                assert_eq!(w.offer(new), Inserted::Replaced { task_id: id, state: after }, "{mode} {before}");
                let record = w.record(id);
                assert_eq!((record.state, record.priority), (after, -5));
                assert_eq!(record.params, r#"{"number":1}"#);
                assert_eq!((record.tags, &*record.queue), (vec!["old".to_string()], "default"));
                assert_eq!(w.count(after), 1, "no second task");
                w.go_to(if after == TaskState::Scheduled { 50 } else { 0 });
                w.sweep();
                let claimed = w.claim_one();
                assert_eq!(*claimed.spec.params, *r#"{"number":1}"#);
                assert_eq!(claimed.spec.priority, -5);
            }
        }
    }
}

/// `replace` does not change a running holder, nor an ended holder that keeps its key for a period.
pub fn replace_leaves_a_running_holder(h: &dyn Harness) {
    let w = World::new(h);
    let unique = || key(UniqueMode::Replace).period(Duration::from_secs(60));
    let claimed = w.push_claimed(task(0).unique(unique()));
    let id = claimed.spec.task_id;
    assert_eq!(w.offer(task(1).unique(unique())), Inserted::Duplicate { task_id: id, state: TaskState::Running });
    w.complete(&claimed);
    assert_eq!(w.offer(task(1).unique(unique())), Inserted::Duplicate { task_id: id, state: TaskState::Completed });
    assert_eq!(w.record(id).params, r#"{"number":0}"#);
    assert_eq!(w.backend.counts().expect("counts").len(), 1);
}

/// A push that repeats the id of a task with this key is a duplicate by id, in every mode.
pub fn same_id_comes_before_the_key(h: &dyn Harness) {
    for mode in UniqueMode::ALL {
        let w = World::new(h);
        let id = w.push(keyed(0, *mode));
        let again = w.offer(keyed(1, *mode).task_id(id));
        assert_eq!(again, Inserted::Duplicate { task_id: id, state: TaskState::Pending }, "{mode}");
        assert_eq!(w.record(id).params, r#"{"number":0}"#);
    }
}

fn follower(w: &World, number: usize) -> TaskId {
    let id = w.push(keyed(number, UniqueMode::KeepLatest));
    assert_eq!(w.state(id), TaskState::Waiting);
    id
}

/// The answer to a push names the state of the task, also when the key makes the task wait.
pub fn stored_state_is_told(h: &dyn Harness) {
    let w = World::new(h);
    let new = |answer: Inserted| match answer {
        Inserted::New { state } => state,
        other => panic!("not stored: {other:?}"),
    };
    assert_eq!(new(w.offer(task(0))), TaskState::Pending);
    assert_eq!(new(w.offer(task(1).tag("with extras"))), TaskState::Pending);
    assert_eq!(new(w.offer(task(2).run_at(at(10)))), TaskState::Scheduled);
    w.push_claimed(task(3));
    w.push_claimed(keyed(4, UniqueMode::KeepLatest));
    assert_eq!(new(w.offer(keyed(5, UniqueMode::KeepLatest).run_at(at(10)))), TaskState::Waiting);
}

/// `keep_latest`: while a task runs, the newest push waits for it and runs once after it.
pub fn keep_latest_runs_once_after(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push_claimed(keyed(0, UniqueMode::KeepLatest));
    let second = follower(&w, 1);
    assert_eq!(w.record(second).parent_id, Some(first.spec.task_id));
    for number in [2, 3] {
        let answer = w.offer(keyed(number, UniqueMode::KeepLatest).priority(-3));
        assert_eq!(answer, Inserted::Replaced { task_id: second, state: TaskState::Waiting });
    }
    assert_eq!(w.count(TaskState::Waiting), 1);
    assert_eq!(w.claim_ids(10), []);
    let settle = vec![w.ended(&first, TaskState::Completed, None)];
    let receipt = w.commit(&Commit { settle, claim: vec![super::any(5)], ..w.blank() });
    assert!(receipt.freed_waiting);
    let next = &receipt.claimed[0][0];
    assert_eq!((next.spec.task_id, &*next.spec.params), (second, r#"{"number":3}"#));
    assert_eq!(w.record(second).unique_key.as_deref(), Some("k"));
    let third = follower(&w, 4);
    assert_eq!(w.record(third).parent_id, Some(second));
    w.end(next, TaskState::Dead, Some("no"));
    assert_eq!(w.claim_ids(10), [third]);
}

/// A settlement that frees no waiting task does not report a freed task.
pub fn freed_only_when_somebody_waited(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(keyed(0, UniqueMode::KeepLatest));
    let receipt = w.commit(&Commit { settle: vec![w.ended(&claimed, TaskState::Completed, None)], ..w.blank() });
    assert!(!receipt.freed_waiting);
}

/// A run that is not the last attempt keeps its follower waiting.
pub fn follower_waits_through_retries(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push_claimed(keyed(0, UniqueMode::KeepLatest));
    let second = follower(&w, 1);
    w.fail_until(&first, at(10));
    assert_eq!(w.state(second), TaskState::Waiting);
    let answer = w.offer(keyed(2, UniqueMode::KeepLatest));
    assert_eq!(answer, Inserted::Replaced { task_id: second, state: TaskState::Waiting });
    w.go_to(10);
    w.sweep();
    let again = w.claim_one();
    assert_eq!(again.spec.task_id, first.spec.task_id);
    w.complete(&again);
    assert_eq!(w.claim_ids(10), [second]);
}

/// A follower whose `run_at` lies ahead becomes scheduled when it is freed.
pub fn follower_may_be_scheduled(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push_claimed(keyed(0, UniqueMode::KeepLatest));
    let second = w.push(keyed(1, UniqueMode::KeepLatest).run_at(at(100)));
    w.sweep();
    assert_eq!(w.state(second), TaskState::Waiting);
    w.complete(&first);
    assert_eq!(w.state(second), TaskState::Scheduled);
    w.go_to(100);
    w.sweep();
    assert_eq!(w.claim_ids(10), [second]);
}

/// A follower is freed by a rescue that ends its parent, and by a cancel of its parent.
pub fn follower_is_freed_by_other_ends(h: &dyn Harness) {
    let w = World::new(h);
    let mortal = w.mortal(10);
    let first = mortal.push_claimed(keyed(0, UniqueMode::KeepLatest));
    let second = follower(&w, 1);
    w.edit(&[first.spec.task_id], EditAction::Cancel("stop".into()));
    w.go_to(11);
    assert!(w.rescue().promoted.contains(&"default".into()));
    assert_eq!(w.state(first.spec.task_id), TaskState::Cancelled);
    let next = w.claim_one();
    assert_eq!(next.spec.task_id, second);
    let third = follower(&w, 2);
    w.release(&[], false);
    assert_eq!((w.state(second), w.state(third)), (TaskState::Pending, TaskState::Waiting));
    let report = w.edit(&[second], EditAction::Cancel("stop".into()));
    assert_eq!(report.queues, [Name::from("default")]);
    assert_eq!(w.claim_ids(10), [third]);
}

/// A follower whose parent is deleted goes on, at the next sweep at the latest.
pub fn orphaned_follower_goes_on(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push_claimed(keyed(0, UniqueMode::KeepLatest)).spec.task_id;
    let second = follower(&w, 1);
    w.release(&[], false);
    assert_eq!(w.edit(&[first], EditAction::Delete).changed, [first]);
    w.sweep();
    assert_eq!(w.claim_ids(10), [second]);
}

/// A cancelled or deleted follower makes room for the next follower.
pub fn follower_can_be_called_off(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push_claimed(keyed(0, UniqueMode::KeepLatest));
    let second = follower(&w, 1);
    assert_eq!(w.edit(&[second], EditAction::Cancel("no".into())).changed, [second]);
    assert_eq!(w.state(second), TaskState::Cancelled);
    let third = follower(&w, 2);
    assert_eq!(w.edit(&[third], EditAction::Delete).changed, [third]);
    let fourth = follower(&w, 3);
    w.complete(&first);
    assert_eq!(w.claim_ids(10), [fourth]);
    assert_eq!(w.state(second), TaskState::Cancelled);
}

/// With a scope that ends at the start, no task waits: the second task may run beside the first.
pub fn keep_latest_until_started(h: &dyn Harness) {
    let w = World::new(h);
    let unique = || key(UniqueMode::KeepLatest).scope(UniqueScope::UntilStarted);
    w.push_claimed(task(0).unique(unique()));
    let second = w.push(task(1).unique(unique()));
    assert_eq!(w.claim_ids(10), [second]);
}

/// With a period, `keep_latest` holds the key at least until the task ends, so that no two tasks run side by side.
pub fn keep_latest_outlasts_its_period(h: &dyn Harness) {
    let w = World::new(h);
    let unique = || key(UniqueMode::KeepLatest).scope(UniqueScope::Period).period(Duration::from_secs(10));
    let first = w.push_claimed(task(0).unique(unique()));
    w.go_to(10);
    let second = w.push(task(1).unique(unique()));
    assert_eq!((w.state(second), w.claim_ids(10)), (TaskState::Waiting, vec![]));
    w.complete(&first);
    assert_eq!(w.claim_ids(10), [second]);
}

/// A terminal task is not retried while a different task holds its key. Without a holder it takes its key back.
pub fn retry_needs_the_key(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push_claimed(keyed(0, UniqueMode::Reject));
    w.end(&first, TaskState::Dead, Some("no"));
    let first = first.spec.task_id;
    let second = w.push_claimed(keyed(1, UniqueMode::Reject));
    assert_eq!(w.edit(&[first], EditAction::Retry).changed, []);
    assert_eq!(w.state(first), TaskState::Dead);
    w.complete(&second);
    assert_eq!(w.edit(&[first], EditAction::Retry).changed, [first]);
    assert_eq!(w.record(first).unique_key.as_deref(), Some("k"));
    assert_eq!(w.offer(keyed(2, UniqueMode::Reject)), Inserted::Refused { existing: first });
}

/// A key may contain any letters. It conflicts only with itself and reads back unchanged. The values that
/// storage writes for its own use never equal a key.
pub fn no_key_is_another(h: &dyn Harness) {
    let w = World::new(h);
    let kept = |key: &str| task(0).unique(Unique::key(key).mode(UniqueMode::KeepLatest));
    let first = w.push_claimed(kept("a"));
    let second = w.push(kept("a"));
    assert_eq!(w.state(second), TaskState::Waiting);
    let keys = ["a\u{1f}next", "\u{1f}>a", "\u{1f}=a", "\u{1f}a", "\u{1f}", ">a", "=a", "a next", "until_done a"];
    let others = keys.map(|key| (key, w.push(kept(key))));
    assert_eq!(w.record(first.spec.task_id).unique_key.as_deref(), Some("a"));
    for (key, id) in others {
        assert_eq!(w.record(id).unique_key.as_deref(), Some(key));
        assert_eq!(w.offer(kept(key)), Inserted::Replaced { task_id: id, state: TaskState::Pending }, "{key:?}");
    }
    w.complete(&first);
    assert_eq!(w.record(second).unique_key.as_deref(), Some("a"));
    for (key, id) in others {
        w.edit(&[id], EditAction::Cancel("no".into()));
        assert_eq!(w.edit(&[id], EditAction::Retry).changed, [id], "{key:?}");
        assert_eq!(w.record(id).unique_key.as_deref(), Some(key));
    }
    assert_eq!(w.offer(kept("a")), Inserted::Replaced { task_id: second, state: TaskState::Pending });
}
