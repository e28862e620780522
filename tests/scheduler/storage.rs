//! Schedules on disk: across restarts, with changed code, and while storage is away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callboard::backend::memory::Memory;
use callboard::testing::{Fault, Faulty};
use callboard::{
    Board, BoardBuilder, Coalesce, Firing, FiringStatus, Overlap, Part, PartState, Schedule, ScheduleFilter,
    ScheduleRecord, ScheduleStatus, Trigger,
};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::support::{HOUR, builder, every, history, schedule};

pub(crate) const OFTEN: Duration = Duration::from_millis(50);

pub(crate) struct File(TempDir);

impl File {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> String {
        self.0.path().join("tasks.db").display().to_string()
    }

    pub(crate) async fn start(&self, builder: BoardBuilder) -> Board {
        builder.url(format!("sqlite:{}", self.path())).start().await.unwrap()
    }

    pub(crate) fn execute(&self, sql: &str) {
        let mut conn = SqliteConnection::establish(&self.path()).unwrap();
        conn.batch_execute(&format!("PRAGMA busy_timeout = 10000; {sql}")).unwrap();
    }
}

/// Polls a schedule and its firings until they are as `wanted`.
pub(crate) async fn until(board: &Board, name: &'static str, wanted: impl Fn(&ScheduleRecord, &[Firing]) -> bool) {
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

pub(crate) fn complete(schedule: Schedule) -> Schedule {
    schedule.coalesce(Coalesce::All(1_000)).overlap(Overlap::Allow).keep_firings(10_000)
}

/// Asserts that each nominal time from the first to the last has fired exactly once.
pub(crate) fn assert_whole(firings: &[Firing]) {
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
    // The code of both schedules has changed. The first gets its name "s" back, so that the second can have its own
    // name "t".
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
    // The opposite order. The name of a schedule belongs to a different schedule, so it goes on under its present name.
    let again = |name| named(name).description("newer");
    let board = file.start(builder().schedule(again("s")).schedule(changed("t"))).await;
    assert_eq!(names(&board).await.len(), 2);
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

/// The log of a program. It sends each warning to the test.
struct Warnings(std::sync::mpsc::Sender<String>);

impl slog::Drain for Warnings {
    type Ok = ();
    type Err = slog::Never;
    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if record.level() == slog::Level::Warning {
            // The receiver may be gone already.
            drop(self.0.send(record.msg().to_string()));
        }
        Ok(())
    }
}

#[actix_rt::test]
async fn a_board_that_lives_for_a_moment_warns_of_nothing() {
    let (tell, told) = std::sync::mpsc::channel();
    let log = slog::Logger::root(slog::Drain::fuse(std::sync::Mutex::new(Warnings(tell))), slog::o!());
    let file = File::new();
    for _ in 0..40 {
        let board = file.start(builder().logger(log.clone()).schedule(schedule("s", every(HOUR)))).await;
        board.stop().await;
    }
    assert_eq!(told.try_iter().collect::<Vec<_>>(), Vec::<String>::new());
}
