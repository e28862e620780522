//! Schedules: storing, finding, forgetting.

use std::time::Duration;

use serde_json::json;

use super::Harness;
use super::timetable::{fire, made, passed, record, run, save, state, statuses, stored, turn};
use crate::backend::{Fired, Saved, ScheduleFilter, ScheduleState, Turn};
use crate::schedule::{Coalesce, FiringStatus, Overlap, Policy, ScheduleRecord, ScheduleStatus};
use crate::task::{Retry, ScheduleId, TaskState};
use crate::testing::factory::{World, at};

/// Every field of a schedule is read back as it was saved.
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
    all.task.limit_key = Some("api:anna".into());
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
    all.forgotten_to = Some(at(2));
    all.last_run_at = Some(at(1));
    all.run_count = 12;
    let id = all.schedule_id;
    let turn = save(&w, &all, None);
    let found = state(&w, id);
    assert_eq!(
        found,
        ScheduleState {
            record: ScheduleRecord { turn, ..all },
            fault: None,
            live: vec![],
            fired: vec![],
            failures: 0
        }
    );
    let plain = record("plain");
    let turn = save(&w, &plain, None);
    let plain = ScheduleRecord { turn, ..plain };
    assert_eq!(state(&w, plain.schedule_id).record, plain);
    assert_eq!(w.backend.schedules(&[ScheduleId::new(at(0)), id]).expect("schedules").len(), 1);
    assert_eq!(w.backend.schedules(&[]).expect("schedules"), []);
}

/// No two schedules have the same name, and no change overwrites a concurrent change.
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

/// A schedule that code has defined is found by its name in code, whatever its current name is.
pub fn found_by_the_name_in_code(h: &dyn Harness) {
    let w = World::new(h);
    let record = ScheduleRecord { code: Some(r#"{"name":"in code"}"#.into()), ..record("a") };
    let defined = |name| w.backend.schedule_defined(name).expect("an answer");
    let turn = save(&w, &record, None);
    stored(&w, "in code");
    assert_eq!((defined("in code"), defined("a")), (Some(record.schedule_id), None));
    let renamed = ScheduleRecord { name: "b".into(), status: ScheduleStatus::Deleted, ..record.clone() };
    let turn = save(&w, &renamed, Some(turn));
    assert_eq!(defined("in code"), Some(record.schedule_id));
    save(&w, &ScheduleRecord { code: None, ..renamed }, Some(turn));
    assert_eq!(defined("in code"), None);
}

/// `schedule_changes` after a version reports every schedule saved since, whether or not it still fires.
pub fn changes_are_told_by_version(h: &dyn Harness) {
    let w = World::new(h);
    for version in [0, -1] {
        let none = w.backend.schedule_changes(version).expect("changes");
        assert_eq!((none.version, none.due), (0, vec![]));
    }
    let (a, turn) = stored(&w, "a");
    let (b, _) = stored(&w, "b");
    let mut all = w.backend.schedule_changes(0).expect("changes");
    all.due.sort_unstable();
    assert_eq!(all.due, [(a, Some(at(10))), (b, Some(at(10)))]);
    let mut saved = w.backend.schedule_changes(-1).expect("changes");
    saved.due.sort_unstable();
    assert_eq!((saved.version, saved.due), (all.version, all.due));
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

/// `schedules_ahead` names the active schedules whose cursor lies ahead of a time. If they exceed the limit, it names
/// those with the latest next run.
pub fn those_ahead_of_the_clock_are_named(h: &dyn Harness) {
    let w = World::new(h);
    let ahead = |now, limit| w.backend.schedules_ahead(at(now), limit).expect("schedules");
    let save_ahead = |name, cursor, status| {
        let record =
            ScheduleRecord { cursor: at(cursor), next_run_at: Some(at(cursor + 10)), status, ..record(name) };
        save(&w, &record, None);
        record.schedule_id
    };
    assert_eq!(ahead(0, 10), []);
    let far = save_ahead("far", 100, ScheduleStatus::Active);
    let near = save_ahead("near", 50, ScheduleStatus::Active);
    save_ahead("due", 0, ScheduleStatus::Active);
    save_ahead("paused", 100, ScheduleStatus::Paused);
    let mut both = ahead(49, 10);
    both.sort_unstable();
    let mut wanted = [far, near];
    wanted.sort_unstable();
    assert_eq!(both, wanted);
    assert_eq!((ahead(50, 10), ahead(49, 1)), (vec![far], vec![far]));
    assert_eq!(ahead(100, 10), []);
}

/// Lists are by name, filtered, and in pages.
pub fn schedules_are_listed(h: &dyn Harness) {
    let w = World::new(h);
    for name in ["d", "b 100% sure", "a", "c"] {
        let mut one = record(name);
        one.status = if name == "c" { ScheduleStatus::Deleted } else { ScheduleStatus::Active };
        one.task.kind = if name == "a" { "other".into() } else { "work".into() };
        one.description = (name == "d").then(|| "About Percent% и Отчёт".into());
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
    assert_eq!(list(ScheduleFilter { text: Some("Отчёт".into()), ..all() }, None, 10), ["d"]);
}

/// Deleted schedules are removed with their history, after the given time.
pub fn deleted_ones_are_forgotten(h: &dyn Harness) {
    let w = World::new(h);
    let (kept, _) = stored(&w, "kept");
    let mut gone = record("gone");
    gone.status = ScheduleStatus::Deleted;
    save(&w, &gone, None);
    let now = state(&w, gone.schedule_id).record.turn;
    let passed = vec![passed(1, FiringStatus::Skipped)];
    fire(&w, Turn { passed, status: ScheduleStatus::Deleted, ..turn(&w, gone.schedule_id, now) });
    w.backend.forget_schedules(at(0), None).expect("forget");
    assert_eq!(statuses(&w, gone.schedule_id).len(), 1);
    w.backend.forget_schedules(at(1), None).expect("forget");
    assert_eq!(w.backend.schedule_named("gone").expect("an answer"), None);
    assert_eq!(statuses(&w, gone.schedule_id), []);
    assert_eq!(w.backend.schedule_named("kept").expect("an answer"), Some(kept));
}

/// Finished schedules are removed too, if that is asked for. A schedule that code defines stays, because the next
/// start must know that it has ended.
pub fn finished_ones_are_forgotten(h: &dyn Harness) {
    let w = World::new(h);
    let over = |name, status, code: Option<&str>, last| {
        let mut over = ScheduleRecord { status, code: code.map(str::to_owned), ..record(name) };
        over.last_run_at = Some(at(last));
        save(&w, &over, None);
    };
    over("long over", ScheduleStatus::Finished, None, 10);
    over("just over", ScheduleStatus::Finished, None, 20);
    over("of code", ScheduleStatus::Finished, Some("{}"), 10);
    over("of code and deleted", ScheduleStatus::Deleted, Some("{}"), 10);
    over("goes on", ScheduleStatus::Active, None, 10);
    let forget = |finished| w.backend.forget_schedules(at(15), finished).expect("forget");
    let there = |name| w.backend.schedule_named(name).expect("an answer").is_some();
    forget(None);
    assert!(there("long over"));
    forget(Some(at(15)));
    assert!(!there("long over"));
    for name in ["just over", "of code", "of code and deleted", "goes on"] {
        assert!(there(name), "{name}");
    }
}

/// A schedule saved or fired on a handle is visible on a second handle. It outlives the process where storage
/// promises that.
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
