//! Decisions about schedules, each written whole and only once; and the history of these decisions.

use super::Harness;
use super::timetable::{fire, made, passed, record, run, save, state, statuses, stored, turn};
use crate::backend::{EditAction, Fired, Instance, Retention, Run, ScheduleState, Turn};
use crate::schedule::{FiringCause, FiringStatus, ScheduleRecord, ScheduleStatus};
use crate::task::{FiringKey, ScheduleId};
use crate::task::{TaskId, TaskState};
use crate::testing::factory::{World, at};

/// A turn writes all of its parts: the tasks, the history and the row of the schedule.
pub fn a_turn_is_written_whole(h: &dyn Harness) {
    let w = World::new(h);
    let (id, first) = stored(&w, "a");
    w.go_to(30);
    let runs = vec![run(&w, id, 20), run(&w, id, 30)];
    let ids: Vec<TaskId> = runs.iter().map(|run| run.spec.task_id).collect();
    let decision = Turn {
        runs,
        passed: vec![passed(10, FiringStatus::Missed)],
        reason: Some("because".into()),
        status: ScheduleStatus::Finished,
        next_run_at: None,
        ..turn(&w, id, first)
    };
    assert_eq!(fire(&w, decision.clone()), Fired::Done(vec![Some(TaskState::Pending); 2]));
    let ScheduleState { record, live, .. } = state(&w, id);
    assert_eq!(
        (record.cursor, record.next_run_at, record.run_count, record.last_run_at),
        (at(30), None, 2, Some(at(30)))
    );
    assert_eq!((record.status, record.status_reason.as_deref()), (ScheduleStatus::Finished, Some("because")));
    assert_ne!(record.turn, first);
    let live: Vec<TaskId> = live.iter().map(|instance| instance.task_id).collect();
    assert_eq!(live, ids);
    assert_eq!(w.record(ids[1]).firing, Some(FiringKey { schedule_id: id, nominal_at: at(30) }));
    let claimed = w.claim(10);
    assert_eq!(claimed[0].spec.extras().firing, Some(FiringKey { schedule_id: id, nominal_at: at(20) }));
    w.complete(&claimed[0]);
    let firings = w.backend.firings(id, None, 10).expect("firings");
    assert_eq!(
        statuses(&w, id).iter().map(|(_, status)| *status).collect::<Vec<_>>(),
        [FiringStatus::Missed, FiringStatus::Fired, FiringStatus::Fired]
    );
    assert_eq!(
        (firings[1].task_id, firings[1].state, firings[1].finished_at),
        (Some(ids[0]), Some(TaskState::Completed), Some(at(30)))
    );
    assert_eq!(
        (firings[2].reason.as_deref(), firings[2].times, firings[2].node, firings[2].at),
        (Some("why"), 1, w.node, at(30))
    );
    assert_eq!(w.backend.firings(id, Some(at(30)), 1).expect("firings")[0].nominal_at, at(20));
    assert_eq!(fire(&w, decision), Fired::Lost, "twice");
}

/// If two nodes decide at the same time, only the first writes. Each turn of a call is accepted or refused by itself.
pub fn one_of_many_nodes_fires(h: &dyn Harness) {
    let w = World::new(h);
    let (a, turn_a) = stored(&w, "a");
    let (b, turn_b) = stored(&w, "b");
    let other = w.other_node();
    let of = |w: &World, id, now| Turn { runs: vec![run(w, id, 10)], ..turn(w, id, now) };
    assert_eq!(fire(&other, of(&other, a, turn_a)), Fired::Done(vec![Some(TaskState::Pending)]));
    let fired = w.backend.fire(&[of(&w, a, turn_a), of(&w, b, turn_b)]).expect("fire");
    assert_eq!(fired, [Fired::Lost, Fired::Done(vec![Some(TaskState::Pending)])]);
    assert_eq!(w.count(TaskState::Pending), 2);
    assert_eq!(fire(&w, turn(&w, ScheduleId::new(at(0)), 1)), Fired::Lost, "no such schedule");
}

/// A nominal time makes a single task, no matter where the cursor stands. A time that was skipped may still run
/// later.
pub fn a_nominal_time_makes_one_task(h: &dyn Harness) {
    let w = World::new(h);
    let (id, first) = stored(&w, "a");
    let task_id = made(&w, id, 10);
    let again = |nominal, cause| {
        let now = state(&w, id).record.turn;
        fire(&w, Turn { runs: vec![Run { cause, ..run(&w, id, nominal) }], ..turn(&w, id, now) })
    };
    assert_eq!(again(10, FiringCause::Schedule), Fired::Done(vec![None]));
    let claimed = w.claim_one();
    w.complete(&claimed);
    w.edit(&[task_id], EditAction::Delete);
    assert_eq!(again(10, FiringCause::Backfill), Fired::Done(vec![None]), "by its history");
    let now = state(&w, id).record.turn;
    fire(
        &w,
        Turn {
            passed: vec![passed(10, FiringStatus::Missed), passed(20, FiringStatus::Missed)],
            ..turn(&w, id, now)
        },
    );
    assert_eq!(statuses(&w, id), [(at(10), FiringStatus::Fired), (at(20), FiringStatus::Missed)]);
    assert_eq!(again(20, FiringCause::Backfill), Fired::Done(vec![Some(TaskState::Pending)]));
    assert_eq!(statuses(&w, id), [(at(10), FiringStatus::Fired), (at(20), FiringStatus::Fired)]);
    assert_eq!(state(&w, id).record.run_count, 1, "backfills are not counted");
    // The cursor was moved back: times that have made a task are still known, by the task or by the history.
    let now = state(&w, id).record.turn;
    fire(&w, Turn { cursor: at(5), passed: vec![passed(15, FiringStatus::Missed)], ..turn(&w, id, now) });
    assert_eq!(state(&w, id).fired, [at(10), at(20)]);
    let now = state(&w, id).record.turn;
    fire(&w, Turn { cursor: at(10), ..turn(&w, id, now) });
    assert_eq!(state(&w, id).fired, [at(20)]);
    assert!(state(&w, id).record.turn > first);
}

/// A run waits for the run that it follows, and starts when that run has ended.
pub fn runs_follow_each_other(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let first = made(&w, id, 10);
    let (second, third) = (run(&w, id, 20), run(&w, id, 30));
    let ids = [second.spec.task_id, third.spec.task_id];
    let runs = vec![Run { follows: Some(first), ..second }, Run { follows: Some(ids[0]), ..third }];
    let now = state(&w, id).record.turn;
    let waiting = Some(TaskState::Waiting);
    assert_eq!(fire(&w, Turn { runs, ..turn(&w, id, now) }), Fired::Done(vec![waiting, waiting]));
    let cause = FiringCause::Schedule;
    assert_eq!(
        state(&w, id).live,
        [
            Instance { task_id: first, state: TaskState::Pending, follows: None, cause },
            Instance { task_id: ids[0], state: TaskState::Waiting, follows: Some(first), cause },
            Instance { task_id: ids[1], state: TaskState::Waiting, follows: Some(ids[0]), cause },
        ]
    );
    let claimed = w.claim_one();
    w.end(&claimed, TaskState::Dead, Some("failed"));
    assert_eq!((w.state(ids[0]), w.state(ids[1])), (TaskState::Pending, TaskState::Waiting));
    let claimed = w.claim_one();
    w.complete(&claimed);
    assert_eq!(w.state(ids[1]), TaskState::Pending);
    // A run does not wait for an ended task, nor for a run that was left out.
    let now = state(&w, id).record.turn;
    let left_out = Run { follows: Some(ids[1]), ..run(&w, id, 10) };
    let after = Run { follows: Some(left_out.spec.task_id), ..run(&w, id, 40) };
    let runs = vec![left_out, after, Run { follows: Some(first), ..run(&w, id, 50) }];
    let fired = fire(&w, Turn { runs, ..turn(&w, id, now) });
    assert_eq!(fired, Fired::Done(vec![None, waiting, Some(TaskState::Pending)]));
}

/// Tasks are cancelled in the same turn, and a run that follows a cancelled task waits for its end.
pub fn others_are_called_off(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let running = made(&w, id, 10);
    let claimed = w.claim_one();
    let pending = made(&w, id, 20);
    let now = state(&w, id).record.turn;
    let next = Run { follows: Some(running), ..run(&w, id, 30) };
    let next_id = next.spec.task_id;
    let decision = Turn { runs: vec![next], cancel: vec![running, pending], ..turn(&w, id, now) };
    assert_eq!(fire(&w, decision), Fired::Done(vec![Some(TaskState::Waiting)]));
    assert_eq!((w.state(running), w.state(pending)), (TaskState::Running, TaskState::Cancelled));
    assert!(w.record(running).cancel_requested);
    w.end(&claimed, TaskState::Cancelled, None);
    assert_eq!(w.state(next_id), TaskState::Pending);
}

/// Fires a nominal time whose task replaces `cancel` and waits for `follows`, as decided from the turn `read`.
fn replacing(w: &World, id: ScheduleId, read: i64, follows: Option<TaskId>, cancel: &[TaskId]) -> (TaskId, Fired) {
    let next = Run { follows, ..run(w, id, 100) };
    let task_id = next.spec.task_id;
    (task_id, fire(w, Turn { runs: vec![next], cancel: cancel.to_vec(), ..turn(w, id, read) }))
}

/// Since the decision, the run to wait for has ended and the run behind it has begun. A new run that replaces both
/// waits for the run that has begun.
pub fn what_began_since_is_waited_for(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let first = made(&w, id, 10);
    let claimed = w.claim_one();
    let now = state(&w, id).record.turn;
    let (second, fired) = replacing(&w, id, now, Some(first), &[first]);
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Waiting)]));
    // State at the decision: the first task runs, and the second waits for it.
    let now = state(&w, id).record.turn;
    w.end(&claimed, TaskState::Cancelled, None);
    let second_run = w.claim_one();
    assert_eq!(second_run.spec.task_id, second);
    let third = Run { follows: Some(first), ..run(&w, id, 30) };
    let third_id = third.spec.task_id;
    let fired = fire(&w, Turn { runs: vec![third], cancel: vec![first, second], ..turn(&w, id, now) });
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Waiting)]), "beside the second, which still runs");
    assert_eq!(state(&w, id).live.last().and_then(|last| last.follows), Some(second));
    assert!(w.record(second).cancel_requested);
    w.end(&second_run, TaskState::Cancelled, None);
    assert_eq!(w.state(third_id), TaskState::Pending);
}

/// A task was to be cancelled before it runs, but it has begun since the decision. Its replacement waits for its end.
pub fn what_was_to_be_called_off_and_began_is_waited_for(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let first = made(&w, id, 10);
    let now = state(&w, id).record.turn;
    let claimed = w.claim_one();
    let (second, fired) = replacing(&w, id, now, None, &[first]);
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Waiting)]));
    w.end(&claimed, TaskState::Cancelled, None);
    assert_eq!(w.claim_ids(10), [second]);
}

/// Every task that was to be cancelled has ended since the decision, or is cancelled before it runs. The new run
/// waits for nothing.
pub fn what_ended_since_is_not_waited_for(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let first = made(&w, id, 10);
    let claimed = w.claim_one();
    let now = state(&w, id).record.turn;
    w.complete(&claimed);
    let (second, fired) = replacing(&w, id, now, Some(first), &[first]);
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Pending)]));
    assert_eq!(w.state(first), TaskState::Completed);
    // A task that has failed since the decision and waits for its retry is cancelled at once.
    let claimed = w.claim_one();
    let now = state(&w, id).record.turn;
    w.fail_until(&claimed, at(1_000));
    let third = Run { follows: Some(second), ..run(&w, id, 110) };
    let third_id = third.spec.task_id;
    let fired = fire(&w, Turn { runs: vec![third], cancel: vec![second], ..turn(&w, id, now) });
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Pending)]));
    assert_eq!(w.state(second), TaskState::Cancelled);
    assert_eq!(w.claim_ids(10), [third_id]);
}

/// With two places, each chain has a single task at its end. A run never waits for a task that already has a
/// follower, whichever of the tasks have ended since the decision.
pub fn one_follower_for_each_that_is_called_off(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let (first, second) = (made(&w, id, 10), made(&w, id, 20));
    let runs = w.claim(2);
    // Two new runs take the places of the first two at once.
    let now = state(&w, id).record.turn;
    let (third, fourth) = (run(&w, id, 30), run(&w, id, 40));
    let ids = [third.spec.task_id, fourth.spec.task_id];
    let next = vec![Run { follows: Some(first), ..third }, Run { follows: Some(second), ..fourth }];
    let fired = fire(&w, Turn { runs: next, cancel: vec![first, second], ..turn(&w, id, now) });
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Waiting); 2]));
    // A fifth run takes the place of the third. The first has ended meanwhile, so the third runs.
    let now = state(&w, id).record.turn;
    w.end(&runs[0], TaskState::Cancelled, None);
    let third_run = w.claim_one();
    assert_eq!(third_run.spec.task_id, ids[0]);
    let fifth = Run { follows: Some(first), ..run(&w, id, 50) };
    let fifth_id = fifth.spec.task_id;
    let cancel = vec![first, second, ids[0]];
    let fired = fire(&w, Turn { runs: vec![fifth], cancel, ..turn(&w, id, now) });
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Waiting)]));
    let follows =
        |task_id| state(&w, id).live.iter().find(|task| task.task_id == task_id).and_then(|task| task.follows);
    assert_eq!((follows(ids[1]), follows(fifth_id)), (Some(second), Some(ids[0])));
    assert_eq!(w.claim_ids(10), []);
    w.end(&runs[1], TaskState::Cancelled, None);
    assert_eq!(w.claim_ids(10), [ids[1]]);
    w.end(&third_run, TaskState::Cancelled, None);
    assert_eq!(w.claim_ids(10), [fifth_id]);
}

/// A run is to be buffered behind a task. If the task has ended since the decision, the run starts. If the task goes
/// on, or waits for its retry, the run waits.
pub fn a_buffered_run_waits_for_what_goes_on(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let first = made(&w, id, 10);
    let claimed = w.claim_one();
    let buffered = |read, follows, nominal| {
        let next = Run { follows: Some(follows), ..run(&w, id, nominal) };
        let task_id = next.spec.task_id;
        (task_id, fire(&w, Turn { runs: vec![next], ..turn(&w, id, read) }))
    };
    let now = state(&w, id).record.turn;
    w.complete(&claimed);
    let (second, fired) = buffered(now, first, 20);
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Pending)]));
    let claimed = w.claim_one();
    let now = state(&w, id).record.turn;
    w.fail_until(&claimed, at(1_000));
    let (third, fired) = buffered(now, second, 30);
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Waiting)]));
    // The task to wait for is cancelled by hand after the decision, so this task begins.
    let now = state(&w, id).record.turn;
    w.edit(&[second], EditAction::Cancel("by hand".into()));
    assert_eq!(w.claim_ids(10), [third]);
    assert_eq!(buffered(now, third, 40).1, Fired::Done(vec![Some(TaskState::Waiting)]));
}

/// A decision is void if the schedule was changed since: nothing runs and nothing is cancelled.
pub fn a_decision_about_what_was_changed_is_lost(h: &dyn Harness) {
    let w = World::new(h);
    let (id, read) = stored(&w, "a");
    let before = state(&w, id).record;
    let changes: [fn(&mut ScheduleRecord); 4] = [
        |record| record.status = ScheduleStatus::Paused,
        |record| record.policy.run_limit = Some(1),
        |record| record.cursor = at(77),
        |record| record.status = ScheduleStatus::Deleted,
    ];
    let mut read = read;
    for change in changes {
        let mut record = ScheduleRecord { turn: read, ..before.clone() };
        change(&mut record);
        let now = save(&w, &record, Some(read));
        let (_, fired) = replacing(&w, id, read, None, &[]);
        assert_eq!(fired, Fired::Lost);
        assert_eq!(state(&w, id).record, ScheduleRecord { turn: now, ..record });
        read = now;
    }
    assert_eq!((w.count(TaskState::Pending), statuses(&w, id)), (0, vec![]));
}

/// Counts dead runs from the latest back to the first completed run, but only from a given time on.
pub fn failures_are_counted(h: &dyn Harness) {
    let w = World::new(h);
    let mut record = record("a");
    record.policy.pause_after = Some(3);
    let id = record.schedule_id;
    save(&w, &record, None);
    let ends = [TaskState::Dead, TaskState::Completed, TaskState::Dead, TaskState::Cancelled, TaskState::Dead];
    for (place, end) in (1..).zip(ends) {
        made(&w, id, place * 10);
        let claimed = w.claim_one();
        w.end(&claimed, end, Some("so"));
    }
    made(&w, id, 60);
    assert_eq!(state(&w, id).failures, 2, "the one under way does not count, nor does the cancelled one");
    let now = state(&w, id).record;
    save(&w, &ScheduleRecord { failures_from: at(30), ..now.clone() }, Some(now.turn));
    assert_eq!(state(&w, id).failures, 1);
}

/// Prunes all tasks that have ended in a state.
fn prune(w: &World, state: TaskState) {
    let rule = Retention { state, finished_before: None, keep: Some(0) };
    let outdated = w.backend.outdated(&[rule], w.now(), 100).expect("outdated");
    w.backend.prune(&outdated).expect("prune");
}

/// The results of runs stay known after their tasks are pruned, in whatever order they are pruned.
pub fn failures_outlast_their_tasks(h: &dyn Harness) {
    let w = World::new(h);
    let mut record = record("a");
    record.policy.pause_after = Some(3);
    let id = record.schedule_id;
    save(&w, &record, None);
    let end = |nominal, end| {
        made(&w, id, nominal);
        let claimed = w.claim_one();
        w.end(&claimed, end, None);
    };
    end(10, TaskState::Dead);
    end(20, TaskState::Completed);
    prune(&w, TaskState::Completed);
    end(30, TaskState::Dead);
    assert_eq!(state(&w, id).failures, 1, "one was completed in between, and is pruned");
    prune(&w, TaskState::Dead);
    assert_eq!(state(&w, id).failures, 1, "those that failed are pruned, too");
    end(40, TaskState::Dead);
    assert_eq!(state(&w, id).failures, 2);
    end(50, TaskState::Completed);
    assert_eq!(state(&w, id).failures, 0);
    let shown = w.backend.firings(id, None, 10).expect("firings").into_iter().rev().map(|firing| firing.state);
    let (dead, completed) = (Some(TaskState::Dead), Some(TaskState::Completed));
    assert_eq!(shown.collect::<Vec<_>>(), [dead, completed, dead, dead, completed]);
}

/// A time that has made a task makes no second task, even after the task is pruned and its history is trimmed.
pub fn a_nominal_time_is_remembered(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let later = |nominal, kept| {
        let now = state(&w, id).record.turn;
        let passed = vec![passed(nominal, FiringStatus::Skipped), passed(nominal + 1, FiringStatus::Skipped)];
        fire(&w, Turn { passed, keep_firings: 1, keep_runs: kept, ..turn(&w, id, now) });
    };
    let again = |nominal| {
        let now = state(&w, id).record.turn;
        fire(&w, Turn { runs: vec![run(&w, id, nominal)], ..turn(&w, id, now) })
    };
    for nominal in [10, 20, 30] {
        made(&w, id, nominal);
        let claimed = w.claim_one();
        w.complete(&claimed);
    }
    prune(&w, TaskState::Completed);
    later(100, 1_000);
    assert_eq!(statuses(&w, id), [(at(101), FiringStatus::Skipped)], "history knows nothing of them");
    assert_eq!(again(10), Fired::Done(vec![None]));
    assert_eq!(again(5), Fired::Done(vec![Some(TaskState::Pending)]), "that one has not run");
    assert_eq!(state(&w, id).record.forgotten_to, None);
    later(200, 2);
    assert_eq!(state(&w, id).record.forgotten_to, Some(at(10)), "the last two are remembered");
    assert_eq!(again(7), Fired::Done(vec![None]), "it may have run");
    assert_eq!(again(20), Fired::Done(vec![None]));
    assert_eq!(again(25), Fired::Done(vec![Some(TaskState::Pending)]));
}

/// The history keeps at least the given number of firings, and keeps the latest.
pub fn history_is_bounded(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    let goes_on = Run { cause: FiringCause::Backfill, ..run(&w, id, 0) };
    let now = state(&w, id).record.turn;
    fire(&w, Turn { runs: vec![goes_on], ..turn(&w, id, now) });
    let claimed = w.claim_one();
    for nominal in 1..60 {
        let now = state(&w, id).record.turn;
        let passed = vec![passed(nominal, FiringStatus::Skipped)];
        fire(&w, Turn { passed, keep_firings: 5, ..turn(&w, id, now) });
    }
    assert_eq!(state(&w, id).live[0].cause, FiringCause::Backfill, "known as long as it goes on");
    w.complete(&claimed);
    for nominal in 60..100 {
        let now = state(&w, id).record.turn;
        let passed = vec![passed(nominal, FiringStatus::Skipped)];
        fire(&w, Turn { passed, keep_firings: 5, ..turn(&w, id, now) });
    }
    let kept = statuses(&w, id);
    assert!((5..=25).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last(), Some(&(at(99), FiringStatus::Skipped)));
}
