//! Operations on schedules while the board runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use callboard::testing::{at, crash};
use callboard::{
    BackfillOrder, Board, BoardError, FiringCause, FiringStatus, NewTask, Outcome, Overlap, Part, PartState, Resume,
    Schedule, ScheduleFilter, ScheduleStatus, StartError, TaskError, TaskState, Trigger, Unique, Zone,
};
use serde_json::json;

use crate::support::{DAY, HOUR, MINUTE, builder, cron, every, fired, history, moment, schedule, start, with};

#[actix_rt::test]
async fn it_is_made_changed_and_deleted_at_run_time() {
    let board = start(builder()).await;
    let schedules = board.schedules();
    schedules.create(schedule("s", every(HOUR)).description("hourly")).await.unwrap();
    assert!(matches!(schedules.create(schedule("s", every(HOUR))).await, Err(BoardError::ScheduleExists(_))));
    board.advance(2 * HOUR).await;
    schedules.update("s", schedule("t", every(30 * MINUTE))).await.unwrap();
    assert!(matches!(schedules.get("s").await, Err(BoardError::NoSuchSchedule(_))));
    board.advance(HOUR).await;
    assert_eq!(fired(&board, "t").await, [3_600, 7_200, 9_000, 10_800]);
    schedules.upsert(schedule("t", every(HOUR))).await.unwrap();
    schedules.upsert(schedule("u", every(HOUR)).paused()).await.unwrap();
    let listed = schedules.list(ScheduleFilter::default(), None, 10).await.unwrap();
    assert_eq!(
        listed.iter().map(|s| (&*s.name, s.status)).collect::<Vec<_>>(),
        [("t", ScheduleStatus::Active), ("u", ScheduleStatus::Paused)]
    );
    schedules.delete("t").await.unwrap();
    board.advance(DAY).await;
    assert!(matches!(schedules.get("t").await, Err(BoardError::NoSuchSchedule(_))));
    let deleted = ScheduleFilter { statuses: vec![ScheduleStatus::Deleted], ..ScheduleFilter::default() };
    assert_eq!(schedules.list(deleted, None, 10).await.unwrap().len(), 1);
    schedules.create(schedule("t", every(HOUR))).await.unwrap();
    board.advance(HOUR).await;
    assert_eq!(fired(&board, "t").await.len(), 5, "the same name has the same history");
    schedules.delete("t").await.unwrap();
    let renamed = schedules.update("u", schedule("t", every(HOUR))).await.unwrap();
    assert_eq!((&*renamed.name, renamed.status), ("t", ScheduleStatus::Paused), "the name is free at once");
    let deleted = ScheduleFilter { statuses: vec![ScheduleStatus::Deleted], ..ScheduleFilter::default() };
    let deleted = schedules.list(deleted, None, 10).await.unwrap().remove(0);
    assert_eq!(deleted.name.to_string(), format!("t ({})", deleted.schedule_id));
}

#[actix_rt::test]
async fn a_pause_ends_by_itself_or_when_somebody_says_so() {
    let board = start(builder().schedule(schedule("a", every(HOUR))).schedule(schedule("b", every(HOUR)))).await;
    let schedules = board.schedules();
    schedules.pause_until("a", at(3 * 3_600)).await.unwrap();
    schedules.pause("b").await.unwrap();
    board.advance(4 * HOUR).await;
    assert_eq!(fired(&board, "a").await, [10_800, 14_400], "at the very end of the pause it fires");
    assert!(fired(&board, "b").await.is_empty());
    schedules.resume("b", Resume::FromNow).await.unwrap();
    board.advance(HOUR).await;
    assert_eq!(fired(&board, "b").await, [18_000]);
    schedules.pause("b").await.unwrap();
    board.advance(2 * HOUR).await;
    schedules.resume("b", Resume::CatchUp).await.unwrap();
    board.settle().await;
    assert_eq!(fired(&board, "b").await, [18_000, 25_200], "the latest, as its rules say");
    assert_eq!(with(&board, "b", FiringStatus::Coalesced).await, [21_600]);
}

#[actix_rt::test]
async fn it_is_triggered_beside_its_times() {
    let board = start(builder().schedule(schedule("s", every(HOUR)).run_limit(1).paused())).await;
    let task_id = board.schedules().trigger("s").await.unwrap();
    board.settle().await;
    board.assert_state(task_id, TaskState::Completed);
    let details = board.schedules().get("s").await.unwrap();
    assert_eq!((details.schedule.run_count, details.schedule.status), (0, ScheduleStatus::Paused));
    assert_eq!(
        (details.firings[0].cause, details.firings[0].state),
        (FiringCause::Manual, Some(TaskState::Completed))
    );
    assert_eq!(details.next_runs, [at(3_600)], "as many as the run limit allows");
}

#[actix_rt::test]
async fn a_backfill_makes_each_time_once() {
    let board = start(builder().schedule(schedule("s", every(HOUR)))).await;
    board.jump(3 * HOUR).await;
    board.settle().await;
    assert_eq!(fired(&board, "s").await, [10_800]);
    let backfill = async |order| board.schedules().backfill("s", at(3_600), at(10_800), order).await.unwrap();
    let report = backfill(BackfillOrder::OneByOne).await;
    assert_eq!((report.made.len(), report.already), (2, 1));
    let report = backfill(BackfillOrder::AllAtOnce).await;
    assert_eq!((report.made.len(), report.already), (0, 3));
    board.settle().await;
    assert_eq!(fired(&board, "s").await, [3_600, 7_200, 10_800]);
    let ahead = board.schedules().backfill("s", at(0), at(20_000), BackfillOrder::OneByOne).await;
    assert!(matches!(ahead, Err(BoardError::Invalid(_))));
}

#[actix_rt::test]
async fn a_backfill_goes_on_beside_the_clock_and_neither_disturbs_the_other() {
    for overlap in [Overlap::Skip, Overlap::BufferOne, Overlap::CancelOther] {
        // The lane runs a single task at a time, so that the backfill takes long.
        let slow = Board::builder().queue("default", 1).handler("work", |_, cx| async move {
            cx.clock().sleep(30 * MINUTE).await;
            Ok(Outcome::done())
        });
        let board = start(slow.schedule(schedule("s", every(HOUR)).overlap(overlap).paused())).await;
        board.jump(3 * HOUR).await;
        let report =
            board.schedules().backfill("s", at(3_600), at(3 * 3_600), BackfillOrder::OneByOne).await.unwrap();
        board.schedules().resume("s", Resume::FromNow).await.unwrap();
        board.jump(HOUR).await;
        assert_eq!(fired(&board, "s").await, [3_600, 7_200, 10_800, 14_400], "with {overlap}");
        let states = async || {
            let mut states = Vec::new();
            for task_id in &report.made {
                states.push(board.get(*task_id).await.unwrap().unwrap().state);
            }
            states
        };
        assert!(!states().await.contains(&TaskState::Cancelled), "with {overlap}");
        board.leave_rest();
    }
}

#[actix_rt::test]
async fn a_backfill_one_by_one_goes_behind_the_one_before_it() {
    let board = start(builder().schedule(schedule("s", every(HOUR)).paused())).await;
    board.pause("default").await.unwrap();
    board.jump(9 * HOUR).await;
    let backfill = async |from: u64, to: u64| {
        let range = (at(from * 3_600), at(to * 3_600));
        board.schedules().backfill("s", range.0, range.1, BackfillOrder::OneByOne).await.unwrap().made
    };
    let mut made = backfill(1, 3).await;
    made.extend(backfill(1, 4).await);
    made.extend(backfill(7, 8).await);
    let live = board.schedules().get("s").await.unwrap().live;
    let follows: Vec<_> = live.iter().map(|task| (task.task_id, task.follows)).collect();
    let chain: Vec<_> = made.iter().enumerate().map(|(k, id)| (*id, k.checked_sub(1).map(|k| made[k]))).collect();
    assert_eq!((follows, made.len()), (chain, 6));
    board.resume("default").await.unwrap();
    board.settle().await;
}

#[actix_rt::test]
async fn the_cursor_moves_both_ways_and_no_time_fires_twice() {
    let board = start(builder().schedule(schedule("s", every(HOUR)).coalesce(callboard::Coalesce::All(100)))).await;
    board.advance(2 * HOUR).await;
    board.schedules().move_cursor("s", at(0)).await.unwrap();
    board.settle().await;
    assert_eq!(fired(&board, "s").await, [3_600, 7_200]);
    board.schedules().move_cursor("s", at(5 * 3_600)).await.unwrap();
    board.advance(6 * HOUR).await;
    assert_eq!(fired(&board, "s").await, [3_600, 7_200, 21_600, 25_200, 28_800]);
}

#[actix_rt::test]
async fn a_pause_for_failures_does_not_wait_for_the_next_time() {
    let fails = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&fails);
    let board = Board::builder().schedule(schedule("s", every(HOUR)).pause_after(2)).handler("work", move |_, _| {
        let fails = fails.load(Ordering::Relaxed);
        async move { if fails { Err(TaskError::fatal("broken").into()) } else { Ok(Outcome::done()) } }
    });
    let board = start(board).await;
    let status = async || board.schedules().get("s").await.unwrap().schedule.status;
    board.advance(HOUR).await;
    told.store(false, Ordering::Relaxed);
    board.advance(HOUR).await;
    told.store(true, Ordering::Relaxed);
    board.advance(HOUR).await;
    assert_eq!(status().await, ScheduleStatus::Active, "not in a row");
    board.advance(HOUR).await;
    assert_eq!(status().await, ScheduleStatus::Paused, "it does not wait for its next time");
    assert_eq!(fired(&board, "s").await, [1, 2, 3, 4].map(|hour| hour * 3_600));
}

#[actix_rt::test]
async fn what_never_fires_again_is_refused_but_not_in_code() {
    let once = |hour: u64| Trigger::at(at(hour * 3_600)).unwrap();
    let passed = || Trigger::at(at(0)).unwrap();
    let board = start(builder().schedule(schedule("code", passed())).schedule(schedule("s", once(1)))).await;
    let schedules = board.schedules();
    assert_eq!(schedules.get("code").await.unwrap().schedule.status, ScheduleStatus::Finished, "it was right once");
    for past in [passed(), every(HOUR).end_at(at(0)).unwrap(), cron("0 0 9 1 1 * 2020", "UTC")] {
        let refused = schedules.create(schedule("past", past.clone())).await.unwrap_err().to_string();
        assert!(refused.contains("has no time after"), "{refused}");
        let refused = schedules.update("s", schedule("s", past)).await.unwrap_err().to_string();
        assert!(refused.contains("has no time after"), "{refused}");
    }
    board.advance(2 * HOUR).await;
    let ended = schedules.update("s", schedule("s", once(1)).description("over")).await.unwrap();
    assert_eq!((ended.status, ended.next_run_at), (ScheduleStatus::Finished, None));
    assert!(schedules.get("s").await.unwrap().next_runs.is_empty());
    let refused = schedules.resume("s", Resume::FromNow).await.unwrap_err().to_string();
    assert!(refused.contains("no time left"), "{refused}");
}

#[actix_rt::test]
async fn the_next_runs_lie_ahead() {
    let board = start(builder().schedule(schedule("s", every(HOUR))).schedule(schedule("t", every(HOUR)))).await;
    board.schedules().pause("s").await.unwrap();
    board.schedules().pause_until("t", at(200 * 3_600)).await.unwrap();
    board.advance(100 * HOUR).await;
    assert_eq!(board.schedules().get("s").await.unwrap().next_runs[0], at(101 * 3_600));
    assert_eq!(board.schedules().preview("t", 2).await.unwrap(), [at(200 * 3_600), at(201 * 3_600)]);
}

#[actix_rt::test]
async fn one_that_has_reached_its_run_limit_goes_on_with_a_higher_one_only() {
    let board = start(builder().schedule(schedule("s", every(HOUR)).run_limit(2))).await;
    board.advance(5 * HOUR).await;
    let refused = board.schedules().resume("s", Resume::FromNow).await.unwrap_err().to_string();
    assert!(refused.contains("its run limit of 2 is reached"), "{refused}");
    let same = board.schedules().update("s", schedule("s", every(HOUR)).run_limit(2)).await.unwrap();
    assert_eq!((same.status, same.next_run_at), (ScheduleStatus::Finished, None));
    board.schedules().update("s", schedule("s", every(HOUR)).run_limit(3)).await.unwrap();
    assert_eq!(board.schedules().get("s").await.unwrap().next_runs.len(), 1);
    board.advance(5 * HOUR).await;
    assert_eq!(fired(&board, "s").await.len(), 3);
}

#[actix_rt::test]
async fn a_trigger_without_a_zone_has_that_of_the_board() {
    let berlin: Zone = "Europe/Berlin".parse().unwrap();
    let nine = || Trigger::cron("0 9 * * *", None).unwrap();
    let both = Trigger::any_of(vec![nine(), cron("0 12 * * *", "Asia/Tokyo")]).unwrap();
    let json: Trigger = serde_json::from_value(json!({"kind": "cron", "expr": "30 9 * * *"})).unwrap();
    assert_eq!(serde_json::from_value::<Trigger>(json!(both)).unwrap(), both);
    assert!(Trigger::all_of(vec![nine(), cron("0 9 1 * *", "UTC")]).is_err(), "one zone or none");
    let whole = Trigger::all_of(vec![nine(), Trigger::cron("0 9 1 * *", None).unwrap()]).unwrap();
    let board = builder().default_zone(berlin).schedule(schedule("code", nine()));
    let board = start(board.schedule(schedule("both", both)).schedule(schedule("whole", whole))).await;
    board.schedules().create(schedule("json", json)).await.unwrap();
    let stored = async |name| board.schedules().get(name).await.unwrap();
    assert_eq!(stored("code").await.schedule.trigger.zone, "Europe/Berlin");
    assert_eq!(stored("code").await.next_runs[0], moment("2026-01-01T08:00:00Z"));
    assert_eq!(stored("json").await.next_runs[0], moment("2026-01-01T08:30:00Z"));
    assert_eq!(
        stored("both").await.next_runs[..2],
        ["03:00", "08:00"].map(|at| moment(&format!("2026-01-01T{at}:00Z")))
    );
    assert_eq!(stored("whole").await.next_runs[0], moment("2026-01-01T08:00:00Z"));
    assert_eq!(stored("whole").await.schedule.trigger.zone, "Europe/Berlin");
}

#[actix_rt::test]
async fn its_tasks_have_their_limit_key() {
    let task = NewTask::new("work", &()).limit_key("api:anna");
    let board = start(builder().schedule(Schedule::new("s", every(HOUR), task))).await;
    let task_id = board.schedules().trigger("s").await.unwrap();
    assert_eq!(board.get(task_id).await.unwrap().unwrap().limit_key.as_deref(), Some("api:anna"));
    let refused = Schedule::new("t", every(HOUR), NewTask::new("work", &()).limit_key(""));
    assert!(board.schedules().create(refused).await.is_err());
}

#[actix_rt::test]
async fn nonsense_is_refused_with_its_reason() {
    let board = start(builder()).await;
    let refused = async |schedule: Schedule| board.schedules().create(schedule).await.unwrap_err().to_string();
    assert!(refused(schedule("", every(HOUR))).await.contains("1 to 200 bytes"));
    assert!(refused(schedule("s", every(HOUR)).max_instances(0)).await.contains("max_instances"));
    let place = NewTask::new("work", &json!({"at": "{{tomorrow}}"}));
    assert!(refused(Schedule::new("s", every(HOUR), place)).await.contains("{{tomorrow}}"));
    let task = || NewTask::new("work", &());
    for (task, words) in [
        (task().delay(HOUR), "must not have a run_at or a delay: its trigger says when it runs"),
        (task().unique(Unique::key("k")), "must not have a unique key: each nominal time makes one task anyway"),
        (task().task_id(uuid::Uuid::nil()), "must not have a task_id: each firing makes a task with a new one"),
        (
            task().expires_at(at(5)),
            "must not have an expires_at: all firings would have the same; give it expires_in",
        ),
    ] {
        let text = refused(Schedule::new("s", every(HOUR), task)).await;
        assert!(text.contains(words), "{text}");
    }
    let grace = refused(schedule("s", every(HOUR)).misfire_grace(std::time::Duration::ZERO)).await;
    assert!(grace.contains("misfire_grace is 0ns") && grace.contains("leave it away"), "{grace}");
    let tagged = refused(Schedule::new("s", every(HOUR), task().tag("{{local_date}}"))).await;
    assert!(tagged.contains("a tag has the place {{local_date}}, which only params may have"), "{tagged}");
    board.schedules().create(schedule("s", every(HOUR)).paused()).await.unwrap();
    board.advance(DAY).await;
    let turned = board.schedules().backfill("s", at(7_200), at(3_600), BackfillOrder::OneByOne).await.unwrap_err();
    assert!(turned.to_string().contains("from the earlier time to the later"), "{turned}");
    board.schedules().delete("s").await.unwrap();
    let fault = builder().schedule(schedule("s", every(HOUR)).keep_firings(0)).start().await.unwrap_err();
    assert!(matches!(fault, StartError::Config(faults) if faults[0].contains("keep_firings")));
}

#[actix_rt::test]
async fn two_schedules_of_one_name_are_refused_at_the_start() {
    let two = || builder().schedule(schedule("s", every(HOUR))).schedule(schedule("t", every(HOUR)));
    assert!(two().start().await.is_ok());
    let started = two().schedule(schedule("s", every(DAY))).start().await;
    assert!(matches!(&started, Err(StartError::TwoSchedules(name)) if name == "s"), "{started:?}");
    assert!(started.unwrap_err().to_string().contains("two schedules named \"s\""));
}

#[actix_rt::test]
async fn health_shows_the_scheduler_and_the_guardian_starts_it_anew() {
    let board = start(builder().schedule(schedule("s", every(HOUR)))).await;
    board.advance(HOUR).await;
    assert!(crash(&board, Part::Scheduler));
    let restarted = async || {
        let health = board.health().await;
        let part = health.parts.into_iter().find(|part| part.part == Part::Scheduler).unwrap();
        part.restarts == 1 && part.state == PartState::Up && part.last_tick_age.is_some()
    };
    let begun = std::time::Instant::now();
    while !restarted().await {
        assert!(begun.elapsed().as_secs() < 20, "it is not started anew");
        tokio::task::yield_now().await;
    }
    board.advance(HOUR).await;
    assert_eq!(fired(&board, "s").await, [3_600, 7_200]);
    assert_eq!(history(&board, "s").await.len(), 2);
}

#[actix_rt::test]
async fn what_is_asked_right_after_the_scheduler_died_waits_for_its_successor() {
    let board = Board::builder().schedule(schedule("s", every(HOUR))).start().await.unwrap();
    for _ in 0..3 {
        assert!(crash(&board, Part::Scheduler));
        let task_id = board.schedules().trigger("s").await.unwrap();
        assert!(board.get(task_id).await.unwrap().is_some());
    }
    assert_eq!(board.counts().await.unwrap().iter().map(|count| count.tasks).sum::<u64>(), 3, "each ran once");
    board.stop().await;
}
