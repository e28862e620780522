//! Schedules, as an application changes and reads them.

use std::time::Duration;

use serde::Serialize;

use super::Board;
use super::names::named;
use crate::actor::NoAnswer;
use crate::backend::{Instance, ScheduleFilter};
use crate::clock::Timestamp;
use crate::error::BoardError;
use crate::name::Name;
use crate::runtime::core::{Core, Stage};
use crate::runtime::persistence::{ListFirings, ListSchedules};
use crate::runtime::scheduler::operations::{Create, Delete, GoOn, MoveCursor, Pause, Resume, Update, Upsert, find};
use crate::runtime::scheduler::{Backfill, BackfillOrder, Backfilled, Operate, Operation, TriggerNow};
use crate::schedule::{Firing, Schedule, ScheduleRecord};
use crate::task::TaskId;

/// The number of next times that [`Schedules::get`] returns.
const NEXT_RUNS: usize = 5;
/// The pause before a request to a dead scheduler is retried: its successor starts within milliseconds.
const NEXT_SCHEDULER: Duration = Duration::from_millis(5);
/// The number of firings that [`Schedules::get`] returns.
const LAST_RUNS: usize = 20;

/// The schedules of a board: see [`Board::schedules`].
///
/// Changes made here are stored, apply to all nodes, and reach them within a second. An invalid name (not 1 to 200
/// bytes without control characters) is refused with [`BoardError::Invalid`].
///
/// ```
/// use callboard::{Board, NewTask, Schedule, Trigger, Zone};
/// # actix_rt::System::new().block_on(async {
/// let board = Board::builder().start().await?;
/// let sweep = NewTask::new("sweep", &());
/// board.schedules().create(Schedule::new("sweep", Trigger::cron("@hourly", Zone::UTC)?, sweep)).await?;
/// let sweep = board.schedules().get("sweep").await?;
/// assert_eq!((sweep.next_runs.len(), sweep.firings.len()), (5, 0));
/// board.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).expect("a board with a schedule");
/// ```
#[derive(Debug)]
pub struct Schedules<'a> {
    board: &'a Board,
}

/// A schedule with its past firings and its next times.
#[derive(Clone, Debug, Serialize)]
pub struct ScheduleDetails {
    /// Its row.
    pub schedule: ScheduleRecord,
    /// Why its row is invalid, if it is.
    pub fault: Option<String>,
    /// The next nominal times: see [`ScheduleRecord::preview`].
    pub next_runs: Vec<Timestamp>,
    /// Its tasks that have not ended.
    #[serde(skip)]
    pub live: Vec<Instance>,
    /// Its latest firings, the latest first, with the outcome of their tasks.
    pub firings: Vec<Firing>,
}

impl Board {
    /// The schedules.
    pub fn schedules(&self) -> Schedules<'_> {
        Schedules { board: self }
    }
}

impl Schedules<'_> {
    fn core(&self) -> &std::sync::Arc<Core> {
        &self.board.core
    }

    async fn operate<O: Operation>(&self, operation: O) -> Result<O::Answer, BoardError> {
        let core = self.core();
        let operate = Operate::new(operation);
        let deadline = core.clock.elapsed().saturating_add(core.config.push_deadline);
        loop {
            let answer = core.scheduler.ask(operate.clone()).await;
            let again = operate.is_untouched() && core.stage() < Stage::Stopped && core.clock.elapsed() < deadline;
            match answer {
                // The scheduler has just died: its successor takes the request in a moment.
                Err(NoAnswer::NotAnswering { .. }) if again => core.timeout(NEXT_SCHEDULER).await,
                answer => return answer?,
            }
        }
    }

    /// Creates a schedule that has times to come. They count from now. If a deleted schedule has the same name, the new
    /// schedule takes over its history.
    ///
    /// # Errors
    /// [`BoardError::ScheduleExists`]; [`BoardError::Invalid`] says why the schedule is invalid, also when all its
    /// times have passed; [`BoardError::Storage`].
    pub async fn create(&self, schedule: Schedule) -> Result<ScheduleRecord, BoardError> {
        self.operate(Create(schedule)).await
    }

    /// Replaces the whole definition of a schedule, its name included. The schedule keeps its history, its cursor and
    /// whether it is paused. If the trigger changes, its times count from now.
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::ScheduleExists`] when a different schedule has the new name;
    /// [`BoardError::Invalid`]; [`BoardError::Storage`].
    pub async fn update(&self, name: impl Into<Name>, schedule: Schedule) -> Result<ScheduleRecord, BoardError> {
        self.operate(Update(of_schedule(name)?, schedule)).await
    }

    /// Creates a schedule, or [updates](Self::update) the schedule of the same name.
    ///
    /// # Errors
    /// [`BoardError::Invalid`]; [`BoardError::Storage`].
    pub async fn upsert(&self, schedule: Schedule) -> Result<ScheduleRecord, BoardError> {
        self.operate(Upsert(schedule)).await
    }

    /// Pauses a schedule until it is [resumed](Self::resume).
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Invalid`] when it is finished; [`BoardError::Storage`].
    pub async fn pause(&self, name: impl Into<Name>) -> Result<ScheduleRecord, BoardError> {
        self.operate(Pause(of_schedule(name)?, None)).await
    }

    /// Pauses a schedule until `until`. Times inside the pause are left out.
    ///
    /// # Errors
    /// As [`pause`](Self::pause); [`BoardError::Invalid`] also when `until` has passed.
    pub async fn pause_until(
        &self,
        name: impl Into<Name>,
        until: impl Into<Timestamp>,
    ) -> Result<ScheduleRecord, BoardError> {
        self.operate(Pause(of_schedule(name)?, Some(until.into()))).await
    }

    /// Resumes a paused schedule. Failures are counted from zero again.
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Invalid`] when it has no time left or has reached its run limit,
    /// or its row is invalid; [`BoardError::Storage`].
    pub async fn resume(&self, name: impl Into<Name>, resume: Resume) -> Result<ScheduleRecord, BoardError> {
        self.operate(GoOn(of_schedule(name)?, resume)).await
    }

    /// Runs a schedule's task at once, even if other tasks of the schedule run, and even if it is paused. Its times and
    /// its run limit stay as they are.
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Invalid`] when its row is invalid; [`BoardError::Storage`].
    pub async fn trigger(&self, name: impl Into<Name>) -> Result<TaskId, BoardError> {
        self.operate(TriggerNow(of_schedule(name)?)).await
    }

    /// Deletes a schedule. Its tasks stay, its history is kept for 30 days, and its name is free at once. A schedule
    /// created with this name takes over the history. A schedule renamed to this name does not: the history stays with
    /// the deleted schedule, and its id is appended to the deleted schedule's name.
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Storage`].
    pub async fn delete(&self, name: impl Into<Name>) -> Result<(), BoardError> {
        self.operate(Delete(of_schedule(name)?)).await.map(drop)
    }

    /// Makes tasks for the nominal times from `from` to `to`, both included, that have no task yet; 10,000 at most.
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Invalid`] when `to` lies ahead, there are too many times, or
    /// `from` is so long ago that it is no longer known which times have run
    /// ([`forgotten_to`](ScheduleRecord::forgotten_to)); [`BoardError::Storage`]. After a storage error some tasks may
    /// have been made; a repeated call makes the rest.
    pub async fn backfill(
        &self,
        name: impl Into<Name>,
        from: impl Into<Timestamp>,
        to: impl Into<Timestamp>,
        order: BackfillOrder,
    ) -> Result<Backfilled, BoardError> {
        self.operate(Backfill { name: of_schedule(name)?, from: from.into(), to: to.into(), order }).await
    }

    /// Moves the cursor of a schedule: the time up to which its times are handled. Forward leaves times out; back makes
    /// them due again. A time that already has a task never gets a second task; retry the task instead.
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Invalid`] when its row is invalid, or `to` is so long ago that it
    /// is no longer known which times have run ([`forgotten_to`](ScheduleRecord::forgotten_to));
    /// [`BoardError::Storage`].
    pub async fn move_cursor(
        &self,
        name: impl Into<Name>,
        to: impl Into<Timestamp>,
    ) -> Result<ScheduleRecord, BoardError> {
        self.operate(MoveCursor(of_schedule(name)?, to.into())).await
    }

    /// A schedule with its next five times and its last 20 firings.
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Storage`].
    pub async fn get(&self, name: impl Into<Name>) -> Result<ScheduleDetails, BoardError> {
        self.core().open()?;
        let state = find(self.core(), &of_schedule(name)?).await?;
        let firings = self.firings_of(&state.record, None, LAST_RUNS).await?;
        let next_runs = state.record.preview(self.core().clock.now(), NEXT_RUNS);
        Ok(ScheduleDetails { next_runs, firings, live: state.live, fault: state.fault, schedule: state.record })
    }

    /// Up to `limit` schedules that match, by name; `after` is the last name of the previous page.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] when `limit` is 0 or over 10,000, or the filter has the
    /// character NUL or more than 10,000 bytes of text.
    pub async fn list(
        &self,
        filter: ScheduleFilter,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, BoardError> {
        check_limit(limit)?;
        filter.check().map_err(BoardError::Invalid)?;
        if after.as_ref().is_some_and(|name| name.contains('\0')) {
            return Err(BoardError::Invalid(
                "the name to go on after contains the character NUL; leave it out".into(),
            ));
        }
        self.core().ask_open(ListSchedules { filter, after, limit }).await
    }

    /// The outcomes of a schedule's times before `before`, the latest first, at most `limit`.
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Storage`]; [`BoardError::Invalid`] when `limit` is 0 or over
    /// 10,000.
    pub async fn firings(
        &self,
        name: impl Into<Name>,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Firing>, BoardError> {
        check_limit(limit)?;
        self.core().open()?;
        let state = find(self.core(), &of_schedule(name)?).await?;
        self.firings_of(&state.record, before, limit).await
    }

    async fn firings_of(
        &self,
        record: &ScheduleRecord,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Firing>, BoardError> {
        self.core().ask_open(ListFirings { schedule_id: record.schedule_id, before, limit }).await
    }

    /// The next `n` nominal times of a schedule, 10,000 at most: see [`ScheduleRecord::preview`].
    ///
    /// # Errors
    /// [`BoardError::NoSuchSchedule`]; [`BoardError::Invalid`] when its trigger cannot be read;
    /// [`BoardError::Storage`].
    pub async fn preview(&self, name: impl Into<Name>, n: usize) -> Result<Vec<Timestamp>, BoardError> {
        check_limit(n)?;
        self.core().open()?;
        let state = find(self.core(), &of_schedule(name)?).await?;
        state.record.read_trigger().map_err(|error| BoardError::Invalid(error.to_string()))?;
        Ok(state.record.preview(self.core().clock.now(), n))
    }
}

fn of_schedule(name: impl Into<Name>) -> Result<Name, BoardError> {
    named("the name of a schedule", name)
}

fn check_limit(limit: usize) -> Result<(), BoardError> {
    if limit == 0 || limit > 10_000 {
        return Err(BoardError::Invalid(format!("a page has 1 to 10000 entries, not {limit}")));
    }
    Ok(())
}
