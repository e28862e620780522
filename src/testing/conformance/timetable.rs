//! Shared helpers for the cases about schedules.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Fired, Run, Saved, ScheduleState, SkippedTime, Turn};
use crate::clock::Timestamp;
use crate::schedule::{FiringCause, FiringStatus, ScheduleRecord, ScheduleStatus};
use crate::task::{Extras, NewTask, TaskId, TaskSpec, TaskState};
use crate::task::{FiringKey, ScheduleId};
pub(super) use crate::testing::factory::schedule as record;
use crate::testing::factory::{World, at};

pub(super) fn save(w: &World, record: &ScheduleRecord, turn: Option<i64>) -> i64 {
    match w.backend.save_schedule(record, turn).expect("save") {
        Saved::Stored { turn } => turn,
        other => panic!("not saved: {other:?}"),
    }
}

pub(super) fn stored(w: &World, name: &'static str) -> (ScheduleId, i64) {
    let record = record(name);
    (record.schedule_id, save(w, &record, None))
}

pub(super) fn state(w: &World, id: ScheduleId) -> ScheduleState {
    w.backend.schedules(&[id]).expect("schedules").pop().expect("the schedule is there")
}

pub(super) fn turn(w: &World, id: ScheduleId, turn: i64) -> Turn {
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
        keep_runs: 1_000,
    }
}

pub(super) fn run(w: &World, id: ScheduleId, nominal: u64) -> Run {
    let insertion = w.insertion(NewTask::new("work", &nominal));
    let firing = Some(FiringKey { schedule_id: id, nominal_at: at(nominal) });
    let spec =
        TaskSpec { extras: Some(Box::new(Extras { firing, ..Extras::default() })), ..(*insertion.spec).clone() };
    Run { spec: Arc::new(spec), follows: None, cause: FiringCause::Schedule }
}

pub(super) fn fire(w: &World, turn: Turn) -> Fired {
    w.backend.fire(&[turn]).expect("fire").pop().expect("an answer for each turn")
}

/// Fires a nominal time, and its task must be made.
pub(super) fn made(w: &World, id: ScheduleId, nominal: u64) -> TaskId {
    let run = run(w, id, nominal);
    let task_id = run.spec.task_id;
    let now = state(w, id).record.turn;
    let fired = fire(w, Turn { runs: vec![run], ..turn(w, id, now) });
    assert_eq!(fired, Fired::Done(vec![Some(TaskState::Pending)]));
    task_id
}

pub(super) fn passed(nominal: u64, status: FiringStatus) -> SkippedTime {
    SkippedTime { nominal_at: at(nominal), status, times: 1, reason: "why".into() }
}

pub(super) fn statuses(w: &World, id: ScheduleId) -> Vec<(Timestamp, FiringStatus)> {
    let firings = w.backend.firings(id, None, 1_000).expect("firings");
    firings.into_iter().rev().map(|firing| (firing.nominal_at, firing.status)).collect()
}
