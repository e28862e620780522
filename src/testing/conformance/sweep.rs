//! Upkeep: promotion, expiry, rescue, and the reports to a node.

use std::time::Duration;

use super::Harness;
use crate::backend::{EditAction, QueueChange, QueueSettings, Rescued, Settlement, Sweep};
use crate::name::Name;
use crate::task::{ExecutionStatus, TaskId, TaskState};
use crate::testing::factory::{World, at, task};

/// Due tasks become pending. The report names their queues and the next due time.
pub fn promotes_what_is_due(h: &dyn Harness) {
    let w = World::new(h);
    let a = w.push(task(0).queue("a").run_at(at(10)));
    let b = w.push(task(1).queue("b").run_at(at(20)));
    let claimed = w.push_claimed(task(2).queue("c"));
    w.fail_until(&claimed, at(20));
    let report = w.sweep();
    assert_eq!((report.promoted, report.next_due, report.more), (vec![], Some(at(10)), false));
    w.go_to(10);
    let report = w.sweep();
    assert!(!report.nothing_pending, "there is one");
    assert_eq!((report.promoted, report.next_due), (vec![Name::from("a")], Some(at(20))));
    assert_eq!((w.state(a), w.state(b)), (TaskState::Pending, TaskState::Scheduled));
    w.go_to(25);
    let mut report = w.sweep();
    report.promoted.sort();
    assert_eq!((report.promoted, report.next_due), (vec![Name::from("b"), Name::from("c")], None));
    assert_eq!(w.record(a).run_at, at(10), "run_at stays what it was");
    assert_eq!(w.claim_from("c", None, 5)[0].attempt, 1);
}

/// A second sweep finds nothing left to do.
pub fn is_idempotent(h: &dyn Harness) {
    let w = World::new(h);
    w.push(task(0).run_at(at(5)));
    w.push(task(1).expires_in(Duration::from_secs(5)));
    let mortal = w.mortal(5);
    mortal.push_claimed(task(2));
    w.go_to(6);
    let first = w.rescue();
    assert_eq!((first.promoted.len(), first.expired.len(), first.rescued.len()), (1, 1, 1));
    let counts = w.backend.counts().expect("counts");
    let second = w.rescue();
    assert_eq!((second.promoted.len(), second.expired.len(), second.rescued.len()), (0, 0, 0));
    assert_eq!((second.next_due, second.more), (None, false));
    assert_eq!(w.backend.counts().expect("counts"), counts);
}

/// Each kind of work is bounded, and `more` says that work is left.
pub fn is_bounded(h: &dyn Harness) {
    let w = World::new(h);
    w.push_all((0..5).map(|number| task(number).run_at(at(1))));
    w.push_all((0..5).map(|number| task(number).expires_in(Duration::from_secs(1))));
    let mortal = w.mortal(1);
    for number in 0..5 {
        mortal.push_claimed(task(number));
    }
    w.go_to(2);
    for (done, more) in [(2, true), (2, true), (1, false), (0, false)] {
        let report = w.sweep_with(&Sweep { rescue: true, limit: 2, ..w.upkeep() });
        assert_eq!((report.expired.len(), report.rescued.len(), report.more), (done, done, more));
    }
    assert_eq!((w.count(TaskState::Pending), w.count(TaskState::Cancelled)), (10, 5));
}

/// A task that has expired and is retried on purpose does not expire again.
pub fn retried_after_expiry(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0).expires_in(Duration::from_secs(10)));
    w.go_to(11);
    assert_eq!(w.sweep().expired, [id]);
    w.edit(&[id], EditAction::Retry);
    assert_eq!(w.sweep().expired, []);
    assert_eq!(w.claim_ids(1), [id]);
}

/// A task that has not started by its expiry is cancelled, with the reason. This includes a task that has only just
/// become due.
pub fn expires(h: &dyn Harness) {
    let w = World::new(h);
    let ten = Duration::from_secs(10);
    let pending = w.push(task(0).expires_in(ten));
    let scheduled = w.push(task(1).run_at(at(5)).expires_in(ten));
    let running = w.push_claimed(task(2).expires_in(ten));
    let later = w.push(task(3).expires_in(Duration::from_secs(20)));
    assert_eq!(w.sweep().next_due, Some(at(5)));
    w.go_to(11);
    let report = w.sweep();
    assert_eq!((report.expired, report.next_due), (vec![pending, scheduled], Some(at(20))));
    let record = w.record(pending);
    assert_eq!((record.state, record.finished_at), (TaskState::Cancelled, Some(at(11))));
    assert!(record.last_error.is_some_and(|error| error.contains("expired")));
    assert_eq!(w.state(scheduled), TaskState::Cancelled);
    assert_eq!((w.state(running.spec.task_id), w.state(later)), (TaskState::Running, TaskState::Pending));
    w.complete(&running);
    assert_eq!(w.claim_ids(10), [later]);
}

/// A task that has started never expires, however its run ended. It runs again even after its expiry time.
pub fn started_once_never_expires(h: &dyn Harness) {
    let w = World::new(h);
    let mortal = w.mortal(5);
    let expiring = |number| task(number).expires_in(Duration::from_secs(10));
    let [failed, snoozed, back] = [0, 1, 2].map(|number| w.push_claimed(expiring(number)));
    let lost = mortal.push_claimed(expiring(3));
    w.fail_until(&failed, at(12));
    let later = Settlement { run_at: at(12), ..w.ended(&snoozed, TaskState::Scheduled, None) };
    w.settle(later);
    w.settle(w.given_back(&back, TaskState::Pending));
    w.go_to(6);
    assert_eq!(w.rescue().rescued.len(), 1);
    assert_eq!(w.sweep().next_due, Some(at(12)), "there is nothing to expire");
    w.go_to(11);
    assert_eq!(w.sweep().expired, []);
    w.go_to(12);
    assert_eq!(w.sweep().expired, []);
    let mut run = w.claim_ids(10);
    run.sort();
    let mut all = [failed, snoozed, back, lost].map(|claimed| claimed.spec.task_id);
    all.sort();
    assert_eq!(run, all);
    let record = w.record(all[0]);
    assert_eq!(record.expires_at, Some(at(10)), "it is shown as it was pushed");
}

/// The tasks of a node whose lease has ended become pending. The row of the node is removed, and the run counts as
/// lost.
pub fn rescues_after_a_crash(h: &dyn Harness) {
    let w = World::new(h);
    let mortal = w.mortal(15);
    let claimed = mortal.push_claimed(task(0));
    let id = claimed.spec.task_id;
    w.go_to(14);
    assert_eq!(w.rescue().rescued, []);
    assert_eq!(w.backend.nodes().expect("nodes").len(), 2);
    w.go_to(16);
    assert_eq!(w.sweep().rescued, [], "only when it is asked for");
    let report = w.rescue();
    let (kind, queue) = (Name::from("work"), Name::from("default"));
    assert_eq!(report.rescued, [Rescued { task_id: id, kind, queue, node: mortal.node, state: TaskState::Pending }]);
    assert_eq!(report.promoted, [Name::from("default")]);
    let nodes = w.backend.nodes().expect("nodes");
    assert_eq!(nodes.iter().map(|node| node.node_id).collect::<Vec<_>>(), [w.node]);
    let record = w.record(id);
    assert_eq!((record.state, record.node), (TaskState::Pending, None));
    assert_eq!((record.attempt, record.crash_count), (0, 1), "a crash is no attempt");
    let runs = w.backend.executions(id).expect("executions");
    let [run] = &runs[..] else { panic!("one run: {runs:?}") };
    assert_eq!((run.attempt, run.status, run.node), (1, ExecutionStatus::Lost, mortal.node));
    assert_eq!((run.started_at, run.finished_at), (at(0), Some(at(16))));
    assert!(run.error_message.is_some());
    assert_eq!(w.claim_ids(10), [id]);
}

/// A node that renews its lease keeps its tasks.
pub fn renewed_lease_keeps_tasks(h: &dyn Harness) {
    let w = World::new(h);
    let node = w.mortal(15);
    let claimed = node.push_claimed(task(0));
    node.go_to(10);
    node.beat(node.node, Duration::from_secs(15));
    w.go_to(24);
    assert_eq!(w.rescue().rescued, []);
    node.complete(&claimed);
}

/// The tasks of a node without a row are rescued too.
pub fn rescues_from_unknown_nodes(h: &dyn Harness) {
    let w = World::new(h);
    let node = w.mortal(1_000);
    let claimed = node.push_claimed(task(0));
    node.release(&[(claimed.spec.task_id, claimed.token)], true);
    assert_eq!(w.state(claimed.spec.task_id), TaskState::Running);
    assert_eq!(w.rescue().rescued.len(), 1);
    assert_eq!(w.claim_ids(10), [claimed.spec.task_id]);
}

/// A node never rescues its own tasks: not when its lease has ended, and not when its row is gone. Other nodes do.
pub fn own_tasks_are_not_rescued(h: &dyn Harness) {
    let w = World::new(h);
    let node = w.mortal(15);
    let claimed = node.push_claimed(task(0));
    let id = claimed.spec.task_id;
    node.go_to(60);
    let report = node.rescue();
    assert_eq!((report.rescued, report.more), (vec![], false));
    let known = |node_id| w.backend.nodes().expect("nodes").iter().any(|node| node.node_id == node_id);
    assert!(known(node.node), "its row stays");
    node.release(&[(id, claimed.token)], true);
    assert!(!known(node.node));
    assert_eq!(node.rescue().rescued, []);
    assert_eq!((w.state(id), w.record(id).node), (TaskState::Running, Some(node.node)));
    w.go_to(60);
    assert_eq!(w.rescue().rescued.len(), 1);
    assert_eq!(w.state(id), TaskState::Pending);
}

/// A task that has lost its node as often as the limit says is dead, with the reason.
pub fn crash_loop_is_dead(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0));
    super::crash(&w, 1);
    super::crash(&w, 1);
    assert_eq!((w.state(id), w.record(id).crash_count), (TaskState::Pending, 2));
    let mortal = w.mortal(0);
    mortal.claim_one();
    w.advance(Duration::from_secs(1));
    let report = w.rescue();
    assert_eq!(report.rescued[0].state, TaskState::Dead);
    let record = w.record(id);
    assert_eq!((record.state, record.attempt, record.crash_count), (TaskState::Dead, 0, 3));
    assert_eq!(record.last_error.as_deref(), Some("crash loop: its node died 3 times while it ran"));
    assert_eq!(record.finished_at, Some(w.now()));
    let runs = w.backend.executions(id).expect("executions");
    assert_eq!(runs.iter().filter(|run| run.status == ExecutionStatus::Lost).count(), 3);
    assert_eq!(w.claim_ids(10), []);
}

/// A rescued task with a cancel request is cancelled, even if it has crashed too often.
pub fn rescued_with_cancel_is_cancelled(h: &dyn Harness) {
    let w = World::new(h);
    let mortal = w.mortal(5);
    let claimed = mortal.push_claimed(task(0));
    w.edit(&[claimed.spec.task_id], EditAction::Cancel("stop".into()));
    w.go_to(6);
    let report = w.sweep_with(&Sweep { rescue: true, crash_limit: 1, ..w.upkeep() });
    assert_eq!(report.rescued[0].state, TaskState::Cancelled);
    let record = w.record(claimed.spec.task_id);
    assert_eq!((record.state, record.cancel_requested), (TaskState::Cancelled, false));
    assert_eq!(record.finished_at, Some(at(6)));
}

/// The report names the awaited tasks that have ended or do not exist.
pub fn ended_are_named(h: &dyn Harness) {
    let w = World::new(h);
    let ids = super::REACHABLE.map(|state| w.push_in(state, task(0)));
    let absent = TaskId::new(at(0));
    let mut awaited = ids.to_vec();
    awaited.push(absent);
    let mut ended = w.sweep_with(&Sweep { awaited, ..w.upkeep() }).ended;
    ended.sort();
    let mut expected = [ids[4], ids[5], ids[6], absent];
    expected.sort();
    assert_eq!(ended, expected);
    assert_eq!(w.sweep().ended, []);
}

/// Every sweep reports all queue settings.
pub fn settings_are_told(h: &dyn Harness) {
    let w = World::new(h);
    assert_eq!(w.sweep().queues, []);
    let settings = QueueSettings { queue: "q".into(), paused: true, concurrency: None };
    w.backend.change_queue(&QueueChange { paused: Some(true), ..QueueChange::of("q") }).expect("change");
    assert_eq!(w.sweep().queues, [settings]);
}

/// A clock that was set back promotes nothing and loses nothing.
pub fn clock_set_back(h: &dyn Harness) {
    let w = World::new(h);
    w.go_to(100);
    let id = w.push(task(0).run_at(at(150)));
    w.go_to(50);
    let report = w.sweep();
    assert_eq!((report.promoted.len(), report.next_due), (0, Some(at(150))));
    w.go_to(150);
    w.sweep();
    assert_eq!(w.claim_ids(10), [id]);
}
