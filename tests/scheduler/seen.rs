//! A process that only sleeps obeys the changes of a second process within a second. The times in the history show it.

use std::time::Duration;

use callboard::backend::{OpenOptions, Opened, Saved, ScheduleFilter, open};
use callboard::{
    Board, Clock, Firing, FiringStatus, NewTask, Schedule, ScheduleId, ScheduleRecord, ScheduleStatus, Timestamp,
};
use serde_json::json;

use crate::node::Node;
use crate::support::{HOUR, every};
use crate::waiting::until;

const OFTEN: Duration = Duration::from_millis(100);
const WITHIN: Duration = Duration::from_secs(1);
/// The best of these tries counts. A busy machine may be late now and then, but not each time.
const TRIES: usize = 5;

/// A process that fires schedules, and the storage as a second process uses it, which only saves.
struct Stage {
    backend: Opened,
    clock: Clock,
    metronome: ScheduleId,
    hourly: ScheduleRecord,
    _node: Node,
}

impl Stage {
    async fn new(url: &str) -> Self {
        let backend = open(url, &OpenOptions::default()).expect("open");
        // This board makes two schedules, and leaves their firings to the other process.
        let board = Board::builder().url(url).start().await.unwrap();
        let plain = || NewTask::new("plain", &json!({}));
        let metronome = board.schedules().create(Schedule::new("metronome", every(OFTEN), plain())).await.unwrap();
        let hourly = board.schedules().create(Schedule::new("hourly", every(HOUR), plain())).await.unwrap();
        // This clock shows the time of the database, where the database has a clock.
        let clock = board.clock().clone();
        board.stop().await;
        let node = Node::ready(&json!({ "url": url }));
        let stage = Self { backend, clock, metronome: metronome.schedule_id, hourly, _node: node };
        stage.beats(3);
        stage
    }

    fn firings(&self, id: ScheduleId) -> Vec<Firing> {
        let all = self.backend.firings(id, None, 10_000).expect("firings");
        all.into_iter().filter(|firing| firing.status == FiringStatus::Fired).collect()
    }

    /// Waits until the other process has fired `times` times from now on.
    fn beats(&self, times: usize) {
        let from = self.clock.now();
        until("the other process fires", || {
            let fired = self.firings(self.metronome);
            (fired.iter().filter(|firing| firing.at > from).count() >= times).then_some(())
        });
    }

    /// Changes the row of a schedule, and returns the time at which that was done.
    fn change(&self, id: ScheduleId, change: impl Fn(&mut ScheduleRecord)) -> Timestamp {
        until("a row that nobody else writes to", || {
            let mut record = self.backend.schedules(&[id]).expect("schedules").pop().expect("a schedule").record;
            let turn = record.turn;
            change(&mut record);
            let saved = self.backend.save_schedule(&record, Some(turn)).expect("save");
            matches!(saved, Saved::Stored { .. }).then(|| self.clock.now())
        })
    }

    /// The time from `saved` to the first firing of a schedule.
    fn first(&self, id: ScheduleId, saved: Timestamp) -> Duration {
        until("it fires", || self.firings(id).iter().map(|firing| firing.at.since(saved)).min())
    }

    /// The time from `saved` to the last firing of a schedule, while the other process goes on firing.
    fn last(&self, id: ScheduleId, saved: Timestamp) -> Duration {
        self.beats(12);
        self.firings(id).iter().map(|firing| firing.at.since(saved)).max().unwrap_or_default()
    }

    /// A schedule that is not stored yet.
    fn fresh(&self, name: String) -> ScheduleRecord {
        let now = self.clock.now();
        ScheduleRecord { schedule_id: ScheduleId::new(now), name: name.into(), cursor: now, ..self.hourly.clone() }
    }
}

fn often(record: &mut ScheduleRecord, now: Timestamp) {
    let trigger = every(OFTEN);
    record.trigger = trigger.to_text();
    record.cursor = now;
    record.next_run_at = trigger.next_after(now);
}

fn stopped(record: &mut ScheduleRecord, status: ScheduleStatus) {
    record.status = status;
    record.next_run_at = None;
}

/// Makes, changes, pauses and deletes a schedule. Returns the time that each of these changes took to be seen.
fn one_round(stage: &Stage, round: usize) -> [Duration; 4] {
    let mut made = stage.fresh(format!("made {round}"));
    often(&mut made, stage.clock.now());
    stage.backend.save_schedule(&made, None).expect("save");
    let made_in = stage.first(made.schedule_id, stage.clock.now().min(made.cursor));
    let changed = stage.fresh(format!("changed {round}"));
    stage.backend.save_schedule(&changed, None).expect("save");
    stage.beats(3);
    let saved = stage.change(changed.schedule_id, |record| often(record, stage.clock.now()));
    let changed_in = stage.first(changed.schedule_id, saved);
    let saved = stage.change(made.schedule_id, |record| stopped(record, ScheduleStatus::Paused));
    let paused_in = stage.last(made.schedule_id, saved);
    let saved = stage.change(changed.schedule_id, |record| stopped(record, ScheduleStatus::Deleted));
    let deleted_in = stage.last(changed.schedule_id, saved);
    [made_in, changed_in, paused_in, deleted_in]
}

async fn changes_are_seen(url: &str) {
    let stage = Stage::new(url).await;
    let rounds: Vec<_> = (0..TRIES).map(|round| one_round(&stage, round)).collect();
    for (what, kind) in ["made", "changed", "paused", "deleted"].iter().zip(0..) {
        let best = rounds.iter().map(|round| round[kind]).min().unwrap();
        println!("{what}: {:?}", rounds.iter().map(|round| round[kind]).collect::<Vec<_>>());
        assert!(best < WITHIN, "{what}: the best of {TRIES} took {best:?}");
    }
    let records = stage.backend.list_schedules(&ScheduleFilter::default(), None, 100).expect("schedules");
    let paused = records.iter().filter(|record| record.status == ScheduleStatus::Paused).count();
    assert_eq!((records.len(), paused), (2 + TRIES, TRIES));
}

#[actix_rt::test]
async fn changes_are_seen_by_another_process_on_sqlite() {
    let folder = tempfile::TempDir::new().unwrap();
    changes_are_seen(&format!("sqlite:{}", folder.path().join("tasks.db").display())).await;
}

#[cfg(feature = "postgres")]
#[actix_rt::test]
async fn changes_are_seen_by_another_process_on_postgres() {
    let schema = crate::servers::Schema::new();
    changes_are_seen(&schema.url()).await;
}

#[cfg(feature = "mysql")]
#[actix_rt::test]
async fn changes_are_seen_by_another_process_on_mysql() {
    let database = crate::servers::Database::new();
    changes_are_seen(&database.url()).await;
}
