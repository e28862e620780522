//! Id repair: reads schedules, and repairs ids in a non-standard form first.

use diesel::QueryResult;

use super::database::{Database, write};
use super::work::schedules;
use crate::backend::{BackendError, ScheduleChanges};
use crate::task::ScheduleId;

pub(super) fn changes<D: Database>(database: &D, version: i64) -> Result<ScheduleChanges, BackendError> {
    let read = || database.read("schedule changes", |conn| schedules::changes(conn, version));
    let (changes, strays) = read()?;
    if strays.is_empty() {
        return Ok(changes);
    }
    match write(database, "mend schedules", |conn| schedules::mend(conn, &strays)) {
        Err(error) if error.is_transient() => Err(error),
        // A schedule whose id cannot be repaired does not fire. All other schedules do.
        _ => Ok(read()?.0),
    }
}

pub(super) fn find<D: Database>(
    database: &D,
    operation: &'static str,
    find: impl Fn(&mut D::Conn) -> QueryResult<Option<Result<ScheduleId, String>>>,
) -> Result<Option<ScheduleId>, BackendError> {
    match database.read(operation, &find)?.transpose() {
        Ok(id) => Ok(id),
        Err(stray) => {
            write(database, operation, |conn| schedules::mend(conn, std::slice::from_ref(&stray)))?;
            Ok(database.read(operation, &find)?.and_then(Result::ok))
        }
    }
}
