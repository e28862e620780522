//! Schedules: storing, finding, deciding once, and the history of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Harness;
use crate::backend::{EditAction, Fired, Instance, Passed, Run, Saved, ScheduleFilter, ScheduleState, Turn};
use crate::clock::{Clock, Timestamp};
use crate::scheduler::trigger::Trigger;
use crate::scheduler::{
    Coalesce, FiringCause, FiringKey, FiringStatus, Overlap, Policy, Schedule, ScheduleId, ScheduleRecord,
    ScheduleStatus,
};
use crate::task::{Extras, NewTask, Retry, TaskId, TaskSpec, TaskState};
use crate::testing::factory::{World, at};

fn record(name: &'static str) -> ScheduleRecord {
    let trigger = Trigger::every(Duration::from_secs(10)).expect("a valid trigger");
    let schedule = Schedule::new(name, trigger, NewTask::new("work", &json!({"at": "{{nominal_time}}"})));
    schedule.check(&Clock::manual(at(0)), usize::MAX).expect("a valid schedule").record(at(0))
}

fn save(w: &World, record: &ScheduleRecord, turn: Option<i64>) -> i64 {
    match w.backend.save_schedule(record, turn).expect("save") {
        Saved::Stored { turn } => turn,
        other => panic!("not saved: {other:?}"),
    }
}

fn stored(w: &World, name: &'static str) -> (ScheduleId, i64) {
    let record = record(name);
    (record.schedule_id, save(w, &record, None))
}

fn state(w: &World, id: ScheduleId) -> ScheduleState {
    w.backend.schedules(&[id]).expect("schedules").pop().expect("the schedule is there")
}

fn turn(w: &World, id: ScheduleId, turn: i64) -> Turn {
    Turn {
        schedule_id: id,
        turn,
        now: w.now(),
        node: w.node,
        status: ScheduleStatus::Active,
        reason: None,
        paused_until: None,
        cursor: w.now(),
        next_run_at: Some(w.now() + Duration::from_secs(10)),
        runs: Vec::new(),
        passed: Vec::new(),
        cancel: Vec::new(),
        keep_firings: 100,
    }
}

fn run(w: &World, id: ScheduleId, nominal: u64) -> Run {
    let insertion = w.insertion(NewTask::new("work", &nominal));
    let firing = Some(FiringKey { schedule_id: id, nominal_at: at(nominal) });
    let spec =
        TaskSpec { extras: Some(Box::new(Extras { firing, ..Extras::default() })), ..(*insertion.spec).clone() };
    Run { spec: Arc::new(spec), follows: None, cause: FiringCause::Schedule }
}

fn fire(w: &World, turn: Turn) -> Fired {
    w.backend.fire(&[turn]).expect("fire").pop().expect("an answer for each turn")
}

/// Fires one nominal time that must be made.
fn made(w: &World, id: ScheduleId, nominal: u64) -> TaskId {
    let run = run(w, id, nominal);
    let task_id = run.spec.task_id;
    let now = state(w, id).record.turn;
    let fired = fire(w, Turn { runs: vec![run], ..turn(w, id, now) });
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Pending)]));
    task_id
}

fn passed(nominal: u64, status: FiringStatus) -> Passed {
    Passed { nominal_at: at(nominal), status, times: 1, reason: "why".into() }
}

fn statuses(w: &World, id: ScheduleId) -> Vec<(Timestamp, FiringStatus)> {
    let firings = w.backend.firings(id, None, 1_000).expect("firings");
    firings.into_iter().rev().map(|firing| (firing.nominal_at, firing.status)).collect()
}

/// Every field of a schedule comes back as it was saved.
pub fn saved_is_read(h: &dyn Harness) {
    let w = World::new(h);
    let mut all = record("a name: Ünïcödé 夜");
    all.task.params = r#"{"text":"夜 {{schedule}} \u0001"}"#.into();
    all.task.queue = "other".into();
    all.task.priority = -7;
    all.task.max_attempts = 3;
    all.task.timeout = Some(Duration::from_micros(1_500_001));
    all.task.retry = Retry::fixed(Duration::from_secs(60));
    all.task.tags = vec!["a".into(), "b c".into()];
    all.task.meta = Some(json!({"deep": [1, null]}));
    all.task.expires_in = Some(Duration::from_secs(5));
    all.policy = Policy {
        misfire_grace: Some(Duration::from_secs(300)),
        coalesce: Coalesce::All(7),
        overlap: Overlap::CancelOther,
        max_instances: 4,
        pause_after: Some(5),
        run_limit: Some(1 << 40),
        keep_firings: 77,
    };
    all.description = Some("what it is for".into());
    all.status_reason = Some("a reason".into());
    all.paused_until = Some(at(77));
    all.code = Some("{}".into());
    all.last_run_at = Some(at(1));
    all.run_count = 12;
    let id = all.schedule_id;
    let turn = save(&w, &all, None);
    let found = state(&w, id);
    assert_eq!(
        found,
        ScheduleState { record: ScheduleRecord { turn, ..all }, fault: None, live: vec![], failures: 0 }
    );
    let plain = record("plain");
    let turn = save(&w, &plain, None);
    let plain = ScheduleRecord { turn, ..plain };
    assert_eq!(state(&w, plain.schedule_id).record, plain);
    assert_eq!(w.backend.schedules(&[ScheduleId::new(at(0)), id]).expect("schedules").len(), 1);
    assert_eq!(w.backend.schedules(&[]).expect("schedules"), []);
}

/// No two schedules have one name, and no change is written over another.
pub fn names_and_turns_are_kept(h: &dyn Harness) {
    let w = World::new(h);
    let (first, second) = (record("a"), record("b"));
    let turn = save(&w, &first, None);
    assert_eq!(
        w.backend.save_schedule(&ScheduleRecord { name: "a".into(), ..second.clone() }, None).expect("an answer"),
        Saved::NameTaken
    );
    let other = save(&w, &second, None);
    assert_eq!(
        w.backend
            .save_schedule(&ScheduleRecord { name: "a".into(), ..second.clone() }, Some(other))
            .expect("an answer"),
        Saved::NameTaken
    );
    assert_eq!(w.backend.save_schedule(&first, Some(turn + 1)).expect("an answer"), Saved::Stale);
    assert_eq!(w.backend.save_schedule(&record("c"), Some(1)).expect("an answer"), Saved::Stale);
    let next = save(&w, &ScheduleRecord { name: "z".into(), ..first.clone() }, Some(turn));
    assert_ne!(next, turn);
    assert_eq!(w.backend.save_schedule(&first, Some(turn)).expect("an answer"), Saved::Stale);
    assert_eq!(w.backend.schedule_named("a").expect("an answer"), None);
    assert_eq!(w.backend.schedule_named("z").expect("an answer"), Some(first.schedule_id));
}

/// A look after a version tells of what was saved since, whether it fires or no longer does.
pub fn changes_are_told_by_version(h: &dyn Harness) {
    let w = World::new(h);
    assert_eq!(w.backend.schedule_changes(0).expect("changes").due, []);
    let (a, turn) = stored(&w, "a");
    let (b, _) = stored(&w, "b");
    let mut all = w.backend.schedule_changes(0).expect("changes");
    all.due.sort_unstable();
    assert_eq!(all.due, [(a, Some(at(10))), (b, Some(at(10)))]);
    assert_eq!(w.backend.schedule_changes(all.version).expect("changes").due, []);
    let paused = ScheduleRecord { schedule_id: a, status: ScheduleStatus::Paused, ..record("a") };
    let turn = save(&w, &paused, Some(turn));
    let changes = w.backend.schedule_changes(all.version).expect("changes");
    assert_eq!(changes.due, [(a, None)]);
    assert_eq!(w.backend.schedule_changes(0).expect("changes").due, [(b, Some(at(10)))]);
    save(&w, &ScheduleRecord { paused_until: Some(at(50)), ..paused }, Some(turn));
    assert_eq!(w.backend.schedule_changes(changes.version).expect("changes").due, [(a, Some(at(50)))]);
    let version = w.backend.schedule_changes(0).expect("changes").version;
    made(&w, b, 10);
    assert_eq!(w.backend.schedule_changes(version).expect("changes").due, [], "a firing is no change");
    assert!(w.backend.schedule_changes(0).expect("changes").due.contains(&(b, Some(at(10)))));
}

/// A turn writes all of it: tasks, history, the row.
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

/// Of two nodes that decide at the same time one writes, and each turn of a call by itself.
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

/// A nominal time makes one task, whatever the cursor says; one that was passed by may run after all.
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
    assert!(state(&w, id).record.turn > first);
}

/// A run waits for the one that it follows, and starts when that has ended.
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
    assert_eq!(
        state(&w, id).live,
        [
            Instance { task_id: first, state: TaskState::Pending, follows: None },
            Instance { task_id: ids[0], state: TaskState::Waiting, follows: Some(first) },
            Instance { task_id: ids[1], state: TaskState::Waiting, follows: Some(ids[0]) },
        ]
    );
    let claimed = w.claim_one();
    w.end(&claimed, TaskState::Dead, Some("failed"));
    assert_eq!((w.state(ids[0]), w.state(ids[1])), (TaskState::Pending, TaskState::Waiting));
    let claimed = w.claim_one();
    w.complete(&claimed);
    assert_eq!(w.state(ids[1]), TaskState::Pending);
    // What has ended is not waited for, nor is a run that was left out.
    let now = state(&w, id).record.turn;
    let left_out = Run { follows: Some(ids[1]), ..run(&w, id, 10) };
    let after = Run { follows: Some(left_out.spec.task_id), ..run(&w, id, 40) };
    let runs = vec![left_out, after, Run { follows: Some(first), ..run(&w, id, 50) }];
    let fired = fire(&w, Turn { runs, ..turn(&w, id, now) });
    assert_eq!(fired, Fired::Done(vec![None, waiting, Some(TaskState::Pending)]));
}

/// Tasks are called off in the same turn, and a run that follows one waits for its end.
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

/// Dead runs are counted from the latest back to the first that was completed, and from a time on.
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

/// History keeps as many as it is told to, at least, and the latest.
pub fn history_is_bounded(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    for nominal in 1..60 {
        let now = state(&w, id).record.turn;
        let passed = vec![passed(nominal, FiringStatus::Skipped)];
        fire(&w, Turn { passed, keep_firings: 5, ..turn(&w, id, now) });
    }
    let kept = statuses(&w, id);
    assert!((5..=25).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last(), Some(&(at(59), FiringStatus::Skipped)));
}

/// Lists are by name, filtered, and in pages.
pub fn schedules_are_listed(h: &dyn Harness) {
    let w = World::new(h);
    for name in ["d", "b 100% sure", "a", "c"] {
        let mut one = record(name);
        one.status = if name == "c" { ScheduleStatus::Deleted } else { ScheduleStatus::Active };
        one.task.kind = if name == "a" { "other".into() } else { "work".into() };
        one.description = (name == "d").then(|| "About Percent%".into());
        save(&w, &one, None);
    }
    let list = |filter: ScheduleFilter, after: Option<&str>, limit| {
        let found = w.backend.list_schedules(&filter, after, limit).expect("list");
        found.into_iter().map(|record| record.name.to_string()).collect::<Vec<_>>()
    };
    let all = ScheduleFilter::default;
    assert_eq!(list(all(), None, 10), ["a", "b 100% sure", "d"]);
    assert_eq!(list(all(), None, 2), ["a", "b 100% sure"]);
    assert_eq!(list(all(), Some("a"), 2), ["b 100% sure", "d"]);
    assert_eq!(list(ScheduleFilter { statuses: vec![ScheduleStatus::Deleted], ..all() }, None, 10), ["c"]);
    assert_eq!(list(ScheduleFilter { types: vec!["other".into()], ..all() }, None, 10), ["a"]);
    assert_eq!(list(ScheduleFilter { text: Some("%".into()), ..all() }, None, 10), ["b 100% sure", "d"]);
    assert_eq!(list(ScheduleFilter { text: Some("PERCENT".into()), ..all() }, None, 10), ["d"]);
}

/// Deleted schedules go with their history, when it is time.
pub fn deleted_ones_are_forgotten(h: &dyn Harness) {
    let w = World::new(h);
    let (kept, _) = stored(&w, "kept");
    let mut gone = record("gone");
    gone.status = ScheduleStatus::Deleted;
    save(&w, &gone, None);
    let now = state(&w, gone.schedule_id).record.turn;
    let passed = vec![passed(1, FiringStatus::Skipped)];
    fire(&w, Turn { passed, status: ScheduleStatus::Deleted, ..turn(&w, gone.schedule_id, now) });
    w.backend.forget_schedules(at(0)).expect("forget");
    assert_eq!(statuses(&w, gone.schedule_id).len(), 1);
    w.backend.forget_schedules(at(1)).expect("forget");
    assert_eq!(w.backend.schedule_named("gone").expect("an answer"), None);
    assert_eq!(statuses(&w, gone.schedule_id), []);
    assert_eq!(w.backend.schedule_named("kept").expect("an answer"), Some(kept));
}

/// What one handle saves and fires another one sees, and it outlives the process where that is promised.
pub fn schedules_are_shared_and_survive(h: &dyn Harness) {
    let w = World::new(h);
    let (id, _) = stored(&w, "a");
    if let Some(second) = h.second() {
        let second = World::on(second);
        let now = state(&second, id).record.turn;
        assert_eq!(
            fire(&second, Turn { runs: vec![run(&second, id, 10)], ..turn(&second, id, now) }),
            Fired::Done(vec![Some(TaskState::Pending)])
        );
        assert_eq!(fire(&w, turn(&w, id, now)), Fired::Lost);
    }
    if w.backend.capabilities().durable {
        let before = state(&w, id);
        drop(w);
        let again = World::on(h.reopen().expect("a durable backend is opened again"));
        assert_eq!(state(&again, id), before);
    }
}
