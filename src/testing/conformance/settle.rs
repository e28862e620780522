//! The end of a run: which settlements are written, and which are fenced.

use serde_json::json;

use super::Harness;
use crate::backend::{Commit, EditAction, Execution, ExecutionEnd, ProgressUpdate, Settled, Settlement};
use crate::task::{ClaimToken, ExecutionStatus, Progress, TaskState};
use crate::testing::factory::{World, at, task};

/// A completed run writes state, result, times and its execution. The task stays as history.
pub fn completed_is_kept(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0));
    w.go_to(10);
    let claimed = w.claim_one();
    w.go_to(12);
    let mut settlement = w.ended(&claimed, TaskState::Completed, None);
    let end = settlement.execution.as_mut().expect("it ran");
    (end.started_at, end.result) = (at(10), Some(r#"{"größe":1.5,"😀":[null,true]}"#.into()));
    assert_eq!(w.settle(settlement), Settled::Accepted);
    let record = w.record(id);
    assert_eq!((record.state, record.attempt, record.crash_count), (TaskState::Completed, 1, 0));
    assert_eq!(record.result, Some(json!({"größe": 1.5, "😀": [null, true]})));
    assert_eq!((record.started_at, record.finished_at, record.updated_at), (Some(at(10)), Some(at(12)), at(12)));
    assert_eq!((record.node, record.last_error), (None, None));
    let expected = Execution {
        execution_id: claimed.token.as_i64(),
        task_id: id,
        attempt: 1,
        status: ExecutionStatus::Success,
        node: w.node,
        started_at: at(10),
        finished_at: Some(at(12)),
        result: record.result,
        error_message: None,
    };
    assert_eq!(w.backend.executions(id).expect("executions"), [expected]);
    assert_eq!(w.claim_ids(10), []);
}

/// A second settlement of the same run is fenced and changes nothing.
pub fn second_settlement_is_fenced(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    w.complete(&claimed);
    let before = w.record(claimed.spec.task_id);
    w.go_to(5);
    assert_eq!(w.settle(w.ended(&claimed, TaskState::Dead, Some("late"))), Settled::Fenced);
    assert_eq!(w.record(claimed.spec.task_id), before);
    assert_eq!(w.backend.executions(claimed.spec.task_id).expect("executions").len(), 1);
}

/// Two settlements of the same run in a commit: the first counts, the second is fenced.
pub fn twice_in_one_commit(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    let settle =
        vec![w.ended(&claimed, TaskState::Completed, None), w.ended(&claimed, TaskState::Dead, Some("again"))];
    let receipt = w.commit(&Commit { settle, ..w.blank() });
    assert_eq!(receipt.settled, [Settled::Accepted, Settled::Fenced]);
    assert_eq!(w.state(claimed.spec.task_id), TaskState::Completed);
}

/// A settlement is fenced if its task does not exist, or was never claimed under its token.
pub fn foreign_settlements_are_fenced(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    let pending = w.record(w.push(task(1)));
    let good = w.ended(&claimed, TaskState::Completed, None);
    let absent = Settlement { seq: good.seq + 1_000, task_id: crate::task::TaskId::new(at(0)), ..good.clone() };
    let not_running = Settlement { seq: pending.seq, task_id: pending.task_id, ..good.clone() };
    let other_token = Settlement { token: ClaimToken::random(), ..good.clone() };
    let receipt = w.commit(&Commit { settle: vec![absent, not_running, other_token, good], ..w.blank() });
    assert_eq!(receipt.settled, [Settled::Fenced, Settled::Fenced, Settled::Fenced, Settled::Accepted]);
    assert_eq!(w.state(pending.task_id), TaskState::Pending);
}

/// After a release the old token is invalid, also while a new run is in flight.
pub fn fenced_after_release(h: &dyn Harness) {
    let w = World::new(h);
    let first = w.push_claimed(task(0));
    assert_eq!(w.release(&[], false), 1);
    assert_eq!(w.settle(w.ended(&first, TaskState::Completed, None)), Settled::Fenced);
    let second = w.claim_one();
    assert_eq!(w.settle(w.ended(&first, TaskState::Completed, None)), Settled::Fenced);
    assert_eq!(w.state(second.spec.task_id), TaskState::Running);
    w.complete(&second);
    assert_eq!(w.backend.executions(second.spec.task_id).expect("executions").len(), 1);
}

/// After a rescue the node that was presumed dead can no longer settle.
pub fn fenced_after_rescue(h: &dyn Harness) {
    let w = World::new(h);
    let mortal = w.mortal(10);
    let claimed = mortal.push_claimed(task(0));
    w.go_to(11);
    assert_eq!(w.rescue().rescued.len(), 1);
    assert_eq!(mortal.settle(mortal.ended(&claimed, TaskState::Completed, None)), Settled::Fenced);
    assert_eq!(w.state(claimed.spec.task_id), TaskState::Pending);
}

/// A failed run with a retry: state, time, attempts, error, history.
pub fn failed_is_retried(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    let settlement = Settlement { run_at: at(30), ..w.ended(&claimed, TaskState::Retrying, Some("no route")) };
    assert_eq!(w.settle(settlement), Settled::Accepted);
    let record = w.record(claimed.spec.task_id);
    assert_eq!((record.state, record.run_at, record.attempt), (TaskState::Retrying, at(30), 1));
    assert_eq!((record.last_error.as_deref(), record.finished_at), (Some("no route"), None));
    w.go_to(29);
    w.sweep();
    assert_eq!(w.claim_ids(10), []);
    w.go_to(30);
    w.sweep();
    let again = w.claim_one();
    assert_eq!(again.attempt, 1);
    w.complete(&again);
    let runs = w.backend.executions(claimed.spec.task_id).expect("executions");
    let seen: Vec<_> = runs.iter().map(|run| (run.attempt, run.status, run.error_message.as_deref())).collect();
    assert_eq!(seen, [(1, ExecutionStatus::Failed, Some("no route")), (2, ExecutionStatus::Success, None)]);
}

/// A dead task keeps its reason and leaves its queue.
pub fn dead_keeps_its_reason(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    w.end(&claimed, TaskState::Dead, Some("undecodable: ünïcode 🤷 \u{7f} \\ ' \" %_\n\tline 2"));
    let record = w.record(claimed.spec.task_id);
    assert_eq!(record.last_error.as_deref(), Some("undecodable: ünïcode 🤷 \u{7f} \\ ' \" %_\n\tline 2"));
    assert_eq!((record.state, record.finished_at), (TaskState::Dead, Some(at(0))));
    w.sweep();
    assert_eq!(w.claim_ids(10), []);
}

/// A snoozed task runs again later and uses up no attempt. A snooze is a run, so it shows in the history.
pub fn snooze_uses_no_attempt(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    let snooze = Settlement { run_at: at(60), ..w.ended(&claimed, TaskState::Scheduled, None) };
    assert_eq!(w.settle(snooze), Settled::Accepted);
    let record = w.record(claimed.spec.task_id);
    assert_eq!((record.state, record.run_at), (TaskState::Scheduled, at(60)));
    assert_eq!((record.attempt, record.crash_count), (0, 0));
    w.go_to(60);
    w.sweep();
    assert_eq!(w.claim_one().attempt, 0);
    let runs = w.backend.executions(claimed.spec.task_id).expect("executions");
    let seen: Vec<_> = runs.iter().map(|run| (run.attempt, run.status)).collect();
    assert_eq!(seen, [(1, ExecutionStatus::Snoozed), (1, ExecutionStatus::Running)]);
}

/// A claim that is given back without a run: the task is pending at once, with no attempt, no crash and no history.
pub fn given_back_is_not_lost(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0));
    let claimed = w.claim_one();
    assert_eq!(w.settle(w.given_back(&claimed, TaskState::Pending)), Settled::Accepted);
    let record = w.record(id);
    assert_eq!((record.state, record.attempt, record.crash_count), (TaskState::Pending, 0, 0));
    assert_eq!((record.node, record.cancel_requested), (None, false));
    assert_eq!(w.backend.executions(id).expect("executions"), []);
    assert_eq!(w.claim_ids(10), [id]);
}

/// Giving back removes only the crash that the claim has counted. Older crashes stay.
pub fn giving_back_keeps_older_crashes(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0));
    super::crash(&w, 1);
    assert_eq!(w.record(id).crash_count, 1);
    let claimed = w.claim_one();
    assert_eq!(w.record(id).crash_count, 2);
    assert_eq!(w.settle(w.given_back(&claimed, TaskState::Pending)), Settled::Accepted);
    assert_eq!(w.record(id).crash_count, 1);
    let claimed = w.claim_one();
    w.fail_until(&claimed, at(0));
    assert_eq!(w.record(id).crash_count, 0, "a run that ended by itself clears the crashes");
}

/// A settlement clears the cancel request.
pub fn cancelled_run(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    w.edit(&[claimed.spec.task_id], EditAction::Cancel("enough".into()));
    w.end(&claimed, TaskState::Cancelled, Some("enough"));
    let record = w.record(claimed.spec.task_id);
    assert_eq!((record.state, record.cancel_requested), (TaskState::Cancelled, false));
    assert_eq!(record.last_error.as_deref(), Some("enough"));
    assert_eq!(w.sweep().cancel, []);
}

/// A cancel request is not lost when the run fails at the same time.
pub fn cancel_outlasts_a_failure(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    w.edit(&[claimed.spec.task_id], EditAction::Cancel("enough".into()));
    assert_eq!(w.try_again(&claimed, at(9)), Settled::Cancelled);
    let record = w.record(claimed.spec.task_id);
    assert_eq!((record.state, record.cancel_requested), (TaskState::Cancelled, false));
    assert_eq!(record.last_error.as_deref(), Some("enough"));
    assert!(record.finished_at.is_some());
    w.go_to(10);
    assert_eq!(w.sweep().promoted.len(), 0);
}

/// The last progress is kept, also when it arrives together with the end.
pub fn progress_comes_before_the_end(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    let progress = Progress { fraction: 1.0, message: "done".into() };
    let settle = vec![w.ended(&claimed, TaskState::Completed, None)];
    let progress = vec![ProgressUpdate { seq: claimed.seq, token: claimed.token, progress }];
    w.commit(&Commit { progress, settle, ..w.blank() });
    assert_eq!(w.record(claimed.spec.task_id).progress.map(|p| p.message).as_deref(), Some("done"));
}

/// The run in flight is part of the history.
pub fn running_execution_is_shown(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0));
    assert_eq!(w.backend.executions(id).expect("executions"), []);
    w.go_to(3);
    let claimed = w.claim_one();
    let runs = w.backend.executions(id).expect("executions");
    let [run] = &runs[..] else { panic!("one run: {runs:?}") };
    assert_eq!((run.attempt, run.status, run.node), (1, ExecutionStatus::Running, w.node));
    assert_eq!((run.started_at, run.finished_at), (at(3), None));
    assert_eq!(run.execution_id, claimed.token.as_i64());
    assert_eq!(w.backend.executions(crate::task::TaskId::new(at(0))).expect("executions"), []);
}

/// Progress is written only under the right token.
pub fn progress_is_fenced(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    let update = |token, fraction| {
        let progress = Progress { fraction, message: "Stück 3 🎵".into() };
        let progress = vec![ProgressUpdate { seq: claimed.seq, token, progress }];
        w.commit(&Commit { progress, ..w.blank() });
        w.record(claimed.spec.task_id).progress
    };
    assert_eq!(update(ClaimToken::random(), 0.1), None);
    let half = Some(Progress { fraction: 0.5, message: "Stück 3 🎵".into() });
    assert_eq!(update(claimed.token, 0.5), half);
    assert_eq!(update(ClaimToken::random(), 0.9), half);
    w.complete(&claimed);
    update(claimed.token, 0.99);
    assert_ne!(w.record(claimed.spec.task_id).progress.map(|progress| progress.fraction), Some(0.99));
}

/// A run may end before it began, because a clock was set back. Its times are written as given.
pub fn clock_set_back(h: &dyn Harness) {
    let w = World::new(h);
    w.go_to(100);
    let claimed = w.push_claimed(task(0));
    w.go_to(50);
    let mut settlement = w.ended(&claimed, TaskState::Completed, None);
    let end: &mut ExecutionEnd = settlement.execution.as_mut().expect("it ran");
    end.started_at = at(100);
    assert_eq!(w.settle(settlement), Settled::Accepted);
    let runs = w.backend.executions(claimed.spec.task_id).expect("executions");
    assert_eq!((runs[0].started_at, runs[0].finished_at), (at(100), Some(at(50))));
}

/// A commit settles first, then inserts, then claims.
pub fn order_within_a_commit(h: &dyn Harness) {
    let w = World::new(h);
    let unique = || task(0).unique(crate::task::Unique::key("k"));
    let claimed = w.push_claimed(unique());
    let commit = Commit {
        settle: vec![w.ended(&claimed, TaskState::Completed, None)],
        insert: vec![super::group([w.insertion(unique())])],
        claim: vec![super::any(5)],
        ..w.blank()
    };
    let receipt = w.commit(&commit);
    assert!(matches!(receipt.inserted[..], [crate::backend::Inserted::New { .. }]), "{receipt:?}");
    assert_eq!(receipt.claimed[0].len(), 1);
}

/// An empty commit does nothing.
pub fn empty_commit(h: &dyn Harness) {
    let w = World::new(h);
    let receipt = w.commit(&w.blank());
    assert!(receipt.settled.is_empty() && receipt.inserted.is_empty() && receipt.claimed.is_empty());
    assert!(!receipt.freed_waiting);
}
