//! Schedules that code defines, and which change wins: by code or at run time.

use std::sync::Arc;

use slog::warn;

use super::Operation;
use super::change::{TRIES, busy, check, find_any, give_way, make, save, state};
use crate::error::BoardError;
use crate::logging::keys;
use crate::name::Name;
use crate::runtime::core::Core;
use crate::runtime::persistence::FindScheduleByCodeName;
use crate::schedule::definition::{Definition, Schedule};
use crate::schedule::{ScheduleRecord, ScheduleStatus};

/// Makes a schedule, or replaces its definition, for code. Changes made at run time are left alone until the code
/// changes.
pub(crate) struct Define(pub(crate) Schedule);

impl Operation for Define {
    type Answer = ScheduleRecord;
    async fn apply(self, core: &Arc<Core>) -> Result<ScheduleRecord, BoardError> {
        let definition = check(core, self.0.clone())?;
        let name = definition.name.clone();
        let mut keeps_name = false;
        for _ in 0..TRIES {
            let stored = match find_defined(core, &name).await? {
                Some(stored) => stored,
                None => match make(core, self.0.clone(), true).await {
                    // A different node was first.
                    Err(BoardError::ScheduleExists(_)) => continue,
                    outcome => return outcome,
                },
            };
            match stored.code_name() {
                Some(own) if name == *own && definition.is_code(stored.code.as_deref()) => return Ok(stored),
                // Code defines this schedule under a different name, and it was renamed to this name.
                Some(own) if name != *own => {
                    if give_way(core, &name).await? {
                        continue;
                    }
                    warn!(core.log, "a schedule of code is left out: another one was given its name at run time";
                        keys::SCHEDULE => %name);
                    return Ok(stored);
                }
                _ => {}
            }
            let turn = stored.turn;
            let record = redefined(core, &definition, stored, keeps_name);
            match save(core, record, Some(turn)).await {
                Ok(Some(record)) => return Ok(record),
                Ok(None) => {}
                // A new definition under the present name is better than no change at all.
                Err(BoardError::ScheduleExists(_)) => keeps_name = !give_way(core, &name).await?,
                Err(error) => return Err(error),
            }
        }
        Err(busy(&name))
    }
}

/// The schedule that code has defined under a name, regardless of its present name; else the schedule with this name.
async fn find_defined(core: &Core, name: &Name) -> Result<Option<ScheduleRecord>, BoardError> {
    let found = match core.ask(FindScheduleByCodeName { name: name.to_string() }).await? {
        Some(id) => state(core, id).await?,
        None => find_any(core, name).await?,
    };
    Ok(found.map(|state| state.record))
}

/// A stored schedule with the definition that code gives it now.
fn redefined(core: &Core, definition: &Definition, stored: ScheduleRecord, keeps_name: bool) -> ScheduleRecord {
    let (mut record, now) = (stored, core.clock.now());
    let name = record.name.clone();
    if record.status == ScheduleStatus::Deleted {
        record.status = ScheduleStatus::Active;
        record.cursor = record.cursor.max(now);
    }
    definition.clone().apply_to(&mut record, now);
    if keeps_name {
        record.name = name;
    }
    record.code = Some(definition.code().to_string());
    record.updated_at = now;
    record
}
