//! Schedules on disk: over restarts, edited by hand, with storage away.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::backend::memory::Memory;
use callboard::testing::{Fault, Faulty};
use callboard::{
    Board, BoardBuilder, Coalesce, Event, Firing, FiringStatus, Overlap, Part, PartState, Resume, Schedule,
    ScheduleFilter, ScheduleRecord, ScheduleStatus, Trigger,
};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::support::{HOUR, builder, every, history, schedule};

const OFTEN: Duration = Duration::from_millis(50);

struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> String {
        self.0.path().join("tasks.db").display().to_string()
    }

    async fn start(&self, builder: BoardBuilder) -> Board {
        builder.url(format!("sqlite:{}", self.path())).start().await.unwrap()
    }

    fn execute(&self, sql: &str) {
        let mut conn = SqliteConnection::establish(&self.path()).unwrap();
        conn.batch_execute(&format!("PRAGMA busy_timeout = 10000; {sql}")).unwrap();
    }
}

/// Looks again and again at what a schedule has done.
async fn until(board: &Board, name: &'static str, wanted: impl Fn(&ScheduleRecord, &[Firing]) -> bool) {
    let begun = Instant::now();
    loop {
        let (record, firings) = (board.schedules().get(name).await.unwrap().schedule, history(board, name).await);
        if wanted(&record, &firings) {
            return;
        }
        assert!(begun.elapsed().as_secs() < 30, "it never comes to that: {record:?}, {} firings", firings.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn complete(schedule: Schedule) -> Schedule {
    schedule.coalesce(Coalesce::All(1_000)).overlap(Overlap::Allow).keep_firings(10_000)
}

/// Each time from the first to the last has fired, once.
fn assert_whole(firings: &[Firing]) {
    assert!(firings.iter().all(|firing| firing.status == FiringStatus::Fired));
    assert!(firings.windows(2).all(|pair| pair[1].nominal_at == pair[0].nominal_at + OFTEN), "{firings:?}");
    let tasks: HashSet<_> = firings.iter().map(|firing| firing.task_id).collect();
    assert_eq!(tasks.len(), firings.len());
}

#[actix_rt::test]
async fn a_restart_neither_forgets_nor_repeats() {
    let file = File::new();
    let code = || builder().schedule(complete(schedule("s", every(OFTEN))));
    for rounds in 1..4 {
        let board = file.start(code()).await;
        until(&board, "s", |_, firings| firings.len() >= rounds * 10).await;
        board.stop().await;
    }
    let board = file.start(builder()).await;
    assert_whole(&history(&board, "s").await);
    board.stop().await;
}

#[actix_rt::test]
async fn changes_at_run_time_stay_until_the_code_changes() {
    let file = File::new();
    let code = |schedule: Schedule| builder().schedule(schedule);
    let board = file.start(code(schedule("s", every(HOUR)))).await;
    board.schedules().update("s", schedule("s", every(HOUR)).description("edited")).await.unwrap();
    board.schedules().pause("s").await.unwrap();
    board.stop().await;
    let board = file.start(code(schedule("s", every(HOUR)))).await;
    let record = board.schedules().get("s").await.unwrap().schedule;
    assert_eq!((record.description.as_deref(), record.status), (Some("edited"), ScheduleStatus::Paused));
    board.stop().await;
    let board = file.start(code(schedule("s", every(2 * HOUR)))).await;
    let record = board.schedules().get("s").await.unwrap().schedule;
    assert_eq!((record.description.as_deref(), record.status), (None, ScheduleStatus::Paused), "the pause stays");
    assert_eq!(record.read_trigger().unwrap(), every(2 * HOUR));
    board.schedules().delete("s").await.unwrap();
    board.stop().await;
    let board = file.start(code(schedule("s", every(2 * HOUR)))).await;
    assert!(board.schedules().get("s").await.is_err(), "deleted at run time");
    board.stop().await;
    let board = file.start(code(schedule("s", every(3 * HOUR)))).await;
    assert_eq!(board.schedules().get("s").await.unwrap().schedule.status, ScheduleStatus::Active);
    board.stop().await;
}

#[actix_rt::test]
async fn another_default_zone_is_no_change_of_the_code() {
    let file = File::new();
    let start = async |zone: &str| {
        let code = schedule("s", Trigger::cron("0 9 * * *", None).unwrap());
        file.start(builder().default_zone(zone.parse().unwrap()).schedule(code)).await
    };
    let zone = async |board: &Board| board.schedules().get("s").await.unwrap().schedule.trigger.zone;
    for later in ["Europe/Berlin", "Asia/Tokyo"] {
        let board = start(later).await;
        assert_eq!(zone(&board).await, "Europe/Berlin", "it keeps the zone that it was made with");
        board.stop().await;
    }
    file.execute("UPDATE scheduler_task SET timezone = '', next_run_at = NULL");
    let board = start("Asia/Tokyo").await;
    until(&board, "s", |record, _| record.status == ScheduleStatus::Paused).await;
    board.stop().await;
}

#[actix_rt::test]
async fn code_finds_its_schedule_under_another_name() {
    let file = File::new();
    let named = |name: &'static str| schedule(name, every(HOUR));
    let names = async |board: &Board| -> Vec<String> {
        let listed = board.schedules().list(ScheduleFilter::default(), None, 10).await.unwrap();
        listed.iter().map(|record| record.name.to_string()).collect()
    };
    let board = file.start(builder().schedule(named("s")).schedule(named("t"))).await;
    board.schedules().update("s", named("renamed")).await.unwrap();
    board.stop().await;
    let board = file.start(builder().schedule(named("s")).schedule(named("t"))).await;
    assert_eq!(names(&board).await, ["renamed", "t"], "no second one beside it");
    board.schedules().delete("t").await.unwrap();
    board.schedules().update("renamed", named("t")).await.unwrap();
    board.stop().await;
    let board = file.start(builder().schedule(named("s")).schedule(named("t"))).await;
    assert_eq!(names(&board).await, ["t"], "the other one was deleted");
    board.stop().await;
    // The code of both changes: one gets its name back, and so the other one can have its own.
    let changed = |name| named(name).description("new");
    let board = file.start(builder().schedule(changed("s")).schedule(changed("t"))).await;
    assert_eq!(names(&board).await, ["s", "t"]);
    assert_eq!(board.schedules().get("t").await.unwrap().schedule.code_name().unwrap(), "t");
    board.schedules().delete("s").await.unwrap();
    board.schedules().update("t", named("s")).await.unwrap();
    board.stop().await;
    let board = file.start(builder().schedule(changed("s").paused()).schedule(changed("t"))).await;
    assert_eq!(names(&board).await, ["s"]);
    board.stop().await;
    // In the other order: its name is another's, so it goes on under the one that it has.
    let again = |name| named(name).description("newer");
    let board = file.start(builder().schedule(again("s")).schedule(changed("t"))).await;
    assert_eq!(names(&board).await.len(), 2);
    board.stop().await;
}

#[actix_rt::test]
async fn a_row_edited_into_nonsense_is_parked_and_stops_no_other() {
    let file = File::new();
    let names = ["trigger", "zone", "params", "policy", "status", "options", "coalesce", "retry", "good"];
    let board = names.iter().fold(builder(), |builder, name| builder.schedule(schedule(name, every(OFTEN))));
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let hear = Arc::clone(&told);
    let board = board.on_event(move |event| {
        if let Event::ScheduleStopped { schedule, .. } = event {
            hear.lock().unwrap().push(schedule.to_string());
        }
    });
    let board = file.start(board).await;
    until(&board, "good", |record, _| record.run_count > 2).await;
    for (name, change) in [
        ("trigger", "trigger_expr = 'every now and then'"),
        ("zone", "timezone = 'Europe/Nowhere'"),
        ("params", "params = '{'"),
        ("policy", "overlap_policy = 'both'"),
        ("status", "status = 'awake'"),
        ("options", "options = 'none', misfire_grace = 'x'"),
        ("coalesce", "coalesce = 'some'"),
        ("retry", "retry = 'never'"),
    ] {
        file.execute(&format!("UPDATE scheduler_task SET {change} WHERE name = '{name}'"));
    }
    let bad = &names[..names.len() - 1];
    for name in bad {
        until(&board, name, |record, _| {
            record.status == ScheduleStatus::Paused && record.status_reason.as_ref().is_some_and(|why| why.len() > 10)
        })
        .await;
        println!("{}", board.schedules().get(*name).await.unwrap().schedule.status_reason.unwrap());
    }
    let before = board.schedules().get("good").await.unwrap().schedule.run_count;
    until(&board, "good", |record, _| record.run_count > before + 3).await;
    until(&board, "good", |_, _| told.lock().unwrap().len() >= bad.len()).await;
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    told.sort_unstable();
    let mut bad = bad.to_vec();
    bad.sort_unstable();
    assert_eq!(told, bad, "of each that was parked everyone hears once");
    assert!(board.schedules().resume("trigger", Resume::FromNow).await.is_err(), "it makes no sense yet");
    board.schedules().update("trigger", schedule("trigger", every(OFTEN))).await.unwrap();
    board.schedules().resume("trigger", Resume::FromNow).await.unwrap();
    let before = board.schedules().get("trigger").await.unwrap().schedule.run_count;
    until(&board, "trigger", |record, _| record.run_count > before).await;
    board.stop().await;
}

/// What has happened to the schedule "good" since now, so many times.
async fn good_goes_on(board: &Board, times: u64) {
    let before = board.schedules().get("good").await.unwrap().schedule.run_count;
    until(board, "good", |record, _| record.run_count > before + times).await;
}

#[actix_rt::test]
async fn the_largest_numbers_and_a_schedule_that_storage_refuses_stop_no_other() {
    let file = File::new();
    let names = ["large", "refused", "locked", "good"];
    let board =
        names.iter().fold(builder(), |builder, name| builder.schedule(complete(schedule(name, every(OFTEN)))));
    let board = file.start(board).await;
    until(&board, "good", |record, _| record.run_count > 2).await;
    let largest = i64::MAX;
    file.execute(&format!("UPDATE scheduler_task SET run_count = {largest}, turn = {largest} WHERE name = 'large'"));
    let id = board.schedules().get("refused").await.unwrap().schedule.schedule_id;
    file.execute(&format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON schedule_firing WHEN new.schedule_id = '{id}'
        BEGIN SELECT raise(ABORT, 'refused'); END"
    ));
    file.execute(
        "CREATE TRIGGER keep BEFORE UPDATE ON scheduler_task WHEN old.name = 'locked'
        BEGIN SELECT raise(ABORT, 'kept as it is'); END",
    );
    let fired = history(&board, "large").await.len();
    good_goes_on(&board, 20).await;
    until(&board, "large", |record, firings| {
        record.run_count == largest.unsigned_abs() && record.turn < largest && firings.len() > fired
    })
    .await;
    board.stop().await;
    assert_whole(&{
        let board = file.start(builder()).await;
        let firings = history(&board, "good").await;
        board.stop().await;
        firings
    });
}

#[actix_rt::test]
async fn an_id_edited_by_hand_is_mended_or_parks_its_schedule() {
    let file = File::new();
    let names = ["upper", "lost", "twin", "good"];
    let code = || names.iter().fold(builder(), |builder, name| builder.schedule(schedule(name, every(OFTEN))));
    let board = file.start(code()).await;
    for name in names {
        until(&board, name, |record, _| record.run_count > 2).await;
    }
    let upper = board.schedules().get("upper").await.unwrap().schedule;
    board.stop().await;
    file.execute("UPDATE scheduler_task SET schedule_id = upper(schedule_id) WHERE name = 'upper'");
    file.execute("UPDATE scheduler_task SET schedule_id = 'my own' WHERE name = 'lost'");
    file.execute(
        "UPDATE scheduler_task SET schedule_id = (SELECT upper(schedule_id) FROM scheduler_task WHERE name = 'good')
        WHERE name = 'twin'",
    );
    let board = file.start(code()).await;
    good_goes_on(&board, 3).await;
    until(&board, "upper", |record, _| record.schedule_id == upper.schedule_id && record.run_count > upper.run_count)
        .await;
    for (name, told) in [("lost", "\"my own\" is no id"), ("twin", "that of another schedule")] {
        until(&board, name, |record, _| {
            record.status == ScheduleStatus::Paused
                && record.next_run_at.is_none()
                && record.status_reason.as_ref().is_some_and(|why| why.contains(told))
        })
        .await;
        board.schedules().update(name, schedule(name, every(OFTEN))).await.unwrap();
        board.schedules().resume(name, Resume::FromNow).await.unwrap();
        until(&board, name, |_, firings| firings.len() > 1).await;
    }
    board.stop().await;
}

#[actix_rt::test]
async fn a_deleted_schedule_stays_deleted_whatever_its_row_says() {
    let file = File::new();
    let code = builder().schedule(schedule("gone", every(OFTEN))).schedule(schedule("good", every(OFTEN)));
    let board = file.start(code).await;
    until(&board, "gone", |record, _| record.run_count > 2).await;
    // Without a new version: this node believes that it is due.
    file.execute("UPDATE scheduler_task SET status = 'deleted', overlap_policy = 'both' WHERE name = 'gone'");
    good_goes_on(&board, 5).await;
    let deleted = ScheduleFilter { statuses: vec![ScheduleStatus::Deleted], ..ScheduleFilter::default() };
    assert_eq!(board.schedules().list(deleted, None, 10).await.unwrap().len(), 1);
    board.stop().await;
}

#[actix_rt::test]
async fn health_shows_that_schedules_do_not_fire() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let board = builder().backend(storage.clone()).schedule(complete(schedule("s", every(OFTEN))));
    let board = board.start().await.unwrap();
    let reaches = async |wanted: PartState| {
        let begun = Instant::now();
        loop {
            let health = board.health().await;
            let part = health.parts.iter().find(|part| part.part == Part::Scheduler).unwrap().clone();
            if part.state == wanted {
                return (health.healthy, part.last_tick_age.unwrap());
            }
            assert!(begun.elapsed().as_secs() < 30, "it is never {wanted:?}");
            tokio::task::yield_now().await;
        }
    };
    until(&board, "s", |_, firings| firings.len() > 2).await;
    storage.next_commits(std::iter::repeat_n(Fault::Away, 100_000));
    assert!(!reaches(PartState::Failing).await.0);
    let (_, before) = reaches(PartState::Failing).await;
    let left = storage.left();
    while storage.left() + 3 > left {
        tokio::task::yield_now().await;
    }
    assert!(reaches(PartState::Failing).await.1 > before, "it does not look fresh");
    board.stop().await;
}

#[actix_rt::test]
async fn storage_that_is_away_or_loses_answers_neither_drops_nor_doubles_a_time() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let board = builder().backend(storage.clone()).schedule(complete(schedule("s", every(OFTEN))));
    let board = board.start().await.unwrap();
    until(&board, "s", |_, firings| firings.len() > 5).await;
    for fault in [Fault::Away, Fault::AnswerLost, Fault::Refuse, Fault::Panic, Fault::PanicAfter] {
        let before = history(&board, "s").await.len();
        storage.next_commits([fault; 4]);
        until(&board, "s", |_, firings| storage.left() == 0 && firings.len() > before + 5).await;
    }
    assert_whole(&history(&board, "s").await);
    board.stop().await;
}
