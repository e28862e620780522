//! How a change to a schedule is read, made and written.

use crate::backend::{Saved, ScheduleState};
use crate::clock::Timestamp;
use crate::error::BoardError;
use crate::name::{LONGEST_NAME, Name};
use crate::runtime::core::Core;
use crate::runtime::persistence::{FindScheduleByName, ReadSchedules, SaveSchedule};
use crate::schedule::definition::{Definition, Schedule};
use crate::schedule::trigger::Trigger;
use crate::schedule::{ScheduleRecord, ScheduleStatus};
use crate::task::ScheduleId;

/// How often a change is made anew when the row changed meanwhile.
pub(super) const TRIES: usize = 50;

pub(super) fn check(core: &Core, schedule: Schedule) -> Result<Definition, BoardError> {
    schedule.check(&core.clock, core.config.bounds(), core.config.default_zone).map_err(BoardError::Invalid)
}

pub(in crate::runtime::scheduler) fn trigger(record: &ScheduleRecord) -> Result<Trigger, BoardError> {
    record.read_trigger().map_err(|error| BoardError::Invalid(format!("schedule {:?}: {error}", record.name)))
}

/// Rejects a definition that will never fire.
pub(super) fn has_times(definition: &Definition, after: Timestamp) -> Result<(), BoardError> {
    if definition.trigger.next_after(after).is_some() {
        return Ok(());
    }
    let text = definition.trigger.to_text();
    Err(BoardError::Invalid(format!(
        "schedule {:?}: its {} trigger {:?} has no time after {after}; give it a later one",
        definition.name, text.kind, text.expr
    )))
}

pub(super) fn busy(name: &Name) -> BoardError {
    BoardError::Invalid(format!("schedule {name:?} was changed {TRIES} times meanwhile; try again"))
}

/// Makes a schedule. The row of a deleted schedule with the same name is taken over.
pub(super) async fn make(core: &Core, schedule: Schedule, by_code: bool) -> Result<ScheduleRecord, BoardError> {
    let definition = check(core, schedule)?;
    let name = definition.name.clone();
    let code = by_code.then(|| definition.code().to_string());
    // A definition in code was valid once, and is not invalid because its time has come.
    if !by_code {
        has_times(&definition, core.clock.now())?;
    }
    let mut record = ScheduleRecord { code, ..definition.record(core.clock.now()) };
    let turn = match find_any(core, &name).await? {
        None => None,
        Some(before) if before.record.status == ScheduleStatus::Deleted => {
            record.schedule_id = before.record.schedule_id;
            record.code = record.code.or(before.record.code);
            record.forgotten_to = before.record.forgotten_to;
            Some(before.record.turn)
        }
        Some(_) => return Err(BoardError::ScheduleExists(name)),
    };
    save(core, record, turn).await?.ok_or(BoardError::ScheduleExists(name))
}

/// Takes its name from a deleted schedule, whose new name contains its id as well; false when it is not deleted.
pub(super) async fn give_way(core: &Core, name: &Name) -> Result<bool, BoardError> {
    for _ in 0..TRIES {
        let Some(state) = find_any(core, name).await? else { return Ok(true) };
        let mut record = state.record;
        if record.status != ScheduleStatus::Deleted {
            return Ok(false);
        }
        let id = record.schedule_id.to_string();
        let room = LONGEST_NAME - id.len() - 3;
        let short = name.char_indices().take_while(|(place, letter)| place + letter.len_utf8() <= room);
        record.name = format!("{} ({id})", short.map(|(_, letter)| letter).collect::<String>()).into();
        let turn = record.turn;
        if save(core, record, Some(turn)).await?.is_some() {
            return Ok(true);
        }
    }
    Err(busy(name))
}

/// How an operation treats a row that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Faulty {
    /// The row is rejected, because only a new definition helps.
    Refused,
    /// The row is accepted, because the operation writes a new definition.
    Mended,
    /// The row is accepted, because the schedule is deleted anyway.
    Shown,
}

/// Reads a schedule, changes it and writes it. Starts anew when the row changed meanwhile. Nothing is written without a
/// change.
pub(super) async fn change(
    core: &Core,
    name: &Name,
    faulty: Faulty,
    mut change: impl FnMut(&mut ScheduleRecord, Timestamp) -> Result<bool, BoardError>,
) -> Result<ScheduleRecord, BoardError> {
    change_knowing(core, name, faulty, |record, _, now| change(record, now)).await
}

/// The same for a change that needs the nominal times after the cursor that have made a task.
pub(super) async fn change_knowing(
    core: &Core,
    name: &Name,
    faulty: Faulty,
    mut change: impl FnMut(&mut ScheduleRecord, &[Timestamp], Timestamp) -> Result<bool, BoardError>,
) -> Result<ScheduleRecord, BoardError> {
    for _ in 0..TRIES {
        let state = find(core, name).await?;
        if let Some(fault) = state.fault.filter(|_| faulty == Faulty::Refused) {
            return Err(BoardError::Invalid(format!(
                "the row of schedule {name:?} makes no sense: {fault}; update it"
            )));
        }
        let (mut record, now) = (state.record, core.clock.now());
        let turn = record.turn;
        if !change(&mut record, &state.fired, now)? {
            return Ok(record);
        }
        record.updated_at = now;
        if let Some(record) = save(core, record, Some(turn)).await? {
            return Ok(record);
        }
    }
    Err(busy(name))
}

/// Writes a schedule; `None` when its row changed meanwhile.
pub(super) async fn save(
    core: &Core,
    record: ScheduleRecord,
    turn: Option<i64>,
) -> Result<Option<ScheduleRecord>, BoardError> {
    match core.ask(SaveSchedule { record: record.clone(), turn }).await? {
        Saved::Stored { turn } => {
            core.due_list.ring();
            Ok(Some(ScheduleRecord { turn, ..record }))
        }
        Saved::NameTaken => Err(BoardError::ScheduleExists(record.name)),
        Saved::Stale => Ok(None),
    }
}

/// A schedule that exists and is not deleted.
pub(crate) async fn find(core: &Core, name: &Name) -> Result<ScheduleState, BoardError> {
    let state = find_any(core, name).await?;
    let there = state.filter(|state| state.record.status != ScheduleStatus::Deleted);
    there.ok_or_else(|| BoardError::NoSuchSchedule(name.clone()))
}

pub(super) async fn find_any(core: &Core, name: &Name) -> Result<Option<ScheduleState>, BoardError> {
    let Some(id) = core.ask(FindScheduleByName { name: name.to_string() }).await? else { return Ok(None) };
    state(core, id).await
}

pub(super) async fn state(core: &Core, id: ScheduleId) -> Result<Option<ScheduleState>, BoardError> {
    Ok(core.ask(ReadSchedules { ids: vec![id] }).await?.pop())
}
