//! Gaps of every kind: a machine that slept, a restart, storage that was away, a clock that was set. The runs
//! afterwards are exactly the runs that the rules name, in memory and on disk.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::memory::Memory;
use callboard::backend::{OpenOptions, Opened, TaskFilter, TaskOrder, open};
use callboard::testing::{Fault, Faulty, at};
use callboard::{Board, Clock, Coalesce, FiringStatus, Overlap, Schedule, Timestamp};
use tempfile::TempDir;

use crate::support::{DAY, HOUR, builder, every, history, schedule};
use crate::waiting::eventually;

const STEP: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(25);
/// The lease is very long, because a test may jump over days. There is no second node that could take the tasks over.
const LEASE: Duration = Duration::from_secs(1_000 * 365 * 86_400);

type Rules = fn(Schedule) -> Schedule;

/// The rules. No name is the beginning of a different name.
const RULES: [(&str, Rules); 7] = [
    ("latest", |schedule| schedule),
    ("earliest", |schedule| schedule.coalesce(Coalesce::Earliest)),
    ("all", |schedule| schedule.coalesce(Coalesce::All(1_000)).overlap(Overlap::Allow)),
    ("three skip", |schedule| schedule.coalesce(Coalesce::All(3))),
    ("none", |schedule| schedule.coalesce(Coalesce::None)),
    ("grace all", |schedule| schedule.coalesce(Coalesce::All(1_000)).overlap(Overlap::Allow).misfire_grace(GRACE)),
    ("grace latest", |schedule| schedule.misfire_grace(GRACE)),
];

/// The storage of the tasks.
enum Place {
    Memory(Arc<Memory>),
    Disk(TempDir),
}

impl Place {
    fn both() -> [Self; 2] {
        [Self::Memory(Arc::new(Memory::new())), Self::Disk(TempDir::new().unwrap())]
    }

    fn open(&self) -> Opened {
        match self {
            Self::Memory(memory) => Arc::<Memory>::clone(memory),
            Self::Disk(folder) => {
                let url = format!("sqlite:{}", folder.path().join("tasks.db").display());
                open(&url, &OpenOptions::default()).unwrap()
            }
        }
    }
}

struct Stage {
    place: Place,
    clock: Clock,
    storage: Arc<Faulty>,
    board: Board,
    every: Duration,
}

impl Stage {
    /// A board whose schedules have fired at the first time after its start.
    async fn begun(place: Place, every: Duration) -> Self {
        let clock = Clock::manual(at(0));
        let (storage, board) = Self::start(&place, &clock, every).await;
        let stage = Self { place, clock, storage, board, every };
        stage.pass(every).await;
        stage
    }

    async fn start(place: &Place, clock: &Clock, span: Duration) -> (Arc<Faulty>, Board) {
        let storage = Faulty::new(place.open(), true);
        let builder = RULES.iter().fold(builder(), |builder, (name, rules)| {
            builder.schedule(rules(schedule(name, every(span)).keep_firings(10_000)))
        });
        let board = builder.backend(storage.clone()).clock(clock.clone()).lease(LEASE).start().await.unwrap();
        (storage, board)
    }

    /// Moves the clock by `span` at once, and waits until all work that became due is done.
    async fn pass(&self, span: Duration) {
        self.clock.advance(span);
        self.at_rest().await;
    }

    async fn at_rest(&self) {
        let now = self.clock.now();
        eventually("nothing is due any more, and nothing runs", async || {
            for (name, _) in RULES {
                let next = self.board.schedules().get(name).await.unwrap().schedule.next_run_at;
                next.filter(|next| *next > now)?;
            }
            let tasks = self.board.list(TaskFilter::default(), TaskOrder::OldestFirst, None, 10_000).await.unwrap();
            tasks.tasks.iter().all(|task| task.state.is_terminal()).then_some(())
        })
        .await;
    }

    /// The machine sleeps, or the process is suspended.
    async fn sleep(&mut self, span: Duration) {
        self.pass(span).await;
    }

    /// The process ends, and starts again after `span`.
    async fn restart(&mut self, span: Duration) {
        self.board.stop().await;
        self.clock.advance(span);
        (self.storage, self.board) = Self::start(&self.place, &self.clock, self.every).await;
        self.at_rest().await;
    }

    /// Storage is away at the next nominal time, and back at the end of `span`.
    async fn be_away(&mut self, span: Duration) {
        self.storage.next_commits([Fault::Away]);
        self.clock.advance(self.every);
        eventually("storage was asked for and away", async || (self.storage.left() == 0).then_some(())).await;
        self.pass(span - self.every).await;
    }

    /// The wall clock is set. The board gets no notice of it: it reads the clock each second.
    async fn set(&self, to: Timestamp) {
        self.clock.set_wall(to);
        self.pass(Duration::from_secs(1)).await;
    }

    /// The firings of a schedule as text, such as `fired 10 20 | missed 30`. Times are in steps since the start.
    async fn told(&self, name: &'static str) -> String {
        let firings = history(&self.board, name).await;
        let step = |time: Timestamp| time.since(at(0)).as_secs() / self.every.as_secs();
        let statuses = [FiringStatus::Fired, FiringStatus::Missed, FiringStatus::Coalesced, FiringStatus::Skipped];
        let told = statuses.map(|status| {
            let with = firings.iter().filter(|firing| firing.status == status);
            (status, with.map(|firing| format!(" {}", step(firing.nominal_at))).collect::<String>())
        });
        let told = told.into_iter().filter(|(_, times)| !times.is_empty());
        told.map(|(status, times)| format!("{status}{times}")).collect::<Vec<_>>().join(" | ")
    }

    async fn expect(&self, gap: &str, table: [&str; 7]) {
        for ((name, _), expected) in RULES.into_iter().zip(table) {
            assert_eq!(self.told(name).await, expected, "{name} after {gap}");
        }
    }
}

/// Times 2 to 7 fall into the gap, and time 7 is five seconds before its end. Time 8 is on time again.
const AFTER_A_MINUTE: [&str; 7] = [
    "fired 1 7 8 | coalesced 2 3 4 5 6",
    "fired 1 2 8 | coalesced 3 4 5 6 7",
    "fired 1 2 3 4 5 6 7 8",
    "fired 1 5 8 | coalesced 2 3 4 | skipped 6 7",
    "fired 1 7 8 | coalesced 2 3 4 5 6",
    "fired 1 5 6 7 8 | missed 2 3 4",
    "fired 1 7 8 | missed 2 3 4 | coalesced 5 6",
];

const GAP: Duration = Duration::from_secs(65);

#[actix_rt::test]
async fn a_machine_that_slept_for_a_minute() {
    for place in Place::both() {
        let mut stage = Stage::begun(place, STEP).await;
        stage.sleep(GAP).await;
        stage.pass(STEP - Duration::from_secs(5)).await;
        stage.expect("a sleep", AFTER_A_MINUTE).await;
        stage.board.stop().await;
    }
}

#[actix_rt::test]
async fn a_process_that_was_down_for_a_minute() {
    for place in Place::both() {
        let mut stage = Stage::begun(place, STEP).await;
        stage.restart(GAP).await;
        stage.pass(STEP - Duration::from_secs(5)).await;
        stage.expect("a restart", AFTER_A_MINUTE).await;
        // A second restart follows at once, and no time fires twice.
        stage.restart(Duration::ZERO).await;
        stage.expect("a second restart", AFTER_A_MINUTE).await;
        stage.board.stop().await;
    }
}

#[actix_rt::test]
async fn storage_that_was_away_for_a_minute() {
    for place in Place::both() {
        let mut stage = Stage::begun(place, STEP).await;
        stage.be_away(GAP).await;
        stage.pass(STEP - Duration::from_secs(5)).await;
        stage.expect("an outage of storage", AFTER_A_MINUTE).await;
        stage.board.stop().await;
    }
}

/// Hourly firings, where hours 2 to 25 come at once. None of them is on time, and only hour 25 is within a grace of 25
/// seconds.
const AFTER_A_DAY: [&str; 7] = [
    "fired 1 25 26 | coalesced 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24",
    "fired 1 2 26 | coalesced 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25",
    "fired 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26",
    "fired 1 23 26 | coalesced 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 | skipped 24 25",
    "fired 1 26 | coalesced 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25",
    "fired 1 25 26 | missed 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24",
    "fired 1 25 26 | missed 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24",
];

#[actix_rt::test]
async fn a_clock_that_is_set_ahead_a_day_and_then_back_an_hour() {
    for place in Place::both() {
        let stage = Stage::begun(place, HOUR).await;
        stage.set(at(3_600) + DAY + Duration::from_secs(19)).await;
        // The clock is set back. Hour 25 comes a second time, and nothing fires.
        stage.set(at(24 * 3_600 + 1_800)).await;
        stage.pass(Duration::from_secs(1_799)).await;
        stage.pass(HOUR).await;
        stage.expect("a clock that was set", AFTER_A_DAY).await;
        stage.board.stop().await;
    }
}

#[actix_rt::test]
async fn a_clock_that_is_set_back_an_hour_before_anything_was_due() {
    for place in Place::both() {
        let stage = Stage::begun(place, HOUR).await;
        stage.set(at(1_800)).await;
        // The clock goes on to 01:30. It passes hour 1 a second time, and nothing fires.
        stage.pass(Duration::from_secs(1_800)).await;
        stage.pass(Duration::from_secs(1_800)).await;
        stage.expect("a clock that was set back", ["fired 1"; 7]).await;
        stage.pass(HOUR).await;
        let late = ["fired 1 2"; 7];
        let mut expected = late;
        // Hour 2 comes half an hour late. Schedules that have a grace, or make nothing up, leave it out.
        expected[4] = "fired 1 | coalesced 2";
        (expected[5], expected[6]) = ("fired 1 | missed 2", "fired 1 | missed 2");
        stage.expect("a clock that was set back", expected).await;
        stage.board.stop().await;
    }
}
