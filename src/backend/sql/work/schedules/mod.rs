//! Schedules: save, find, forget.

mod fire;
mod ids;
mod read;
mod rows;
mod tasks;

use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text};

pub(in crate::backend::sql) use self::fire::fire;
pub(in crate::backend::sql) use self::ids::mend;
use self::ids::plain;
pub(in crate::backend::sql) use self::read::{ahead, firings, list, states};
use self::rows::{Options, schedule_columns};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::sql::text::retry_text;
use crate::backend::{Saved, ScheduleChanges, next_turn};
use crate::clock::{Timestamp, micros};
use crate::schedule::{ScheduleRecord, ScheduleStatus};
use crate::task::ScheduleId;

/// Schedules that are over, and that program code does not define.
macro_rules! over {
    () => {
        "code IS NULL AND ((status = 'deleted' AND updated_at < ?1) OR (status = 'finished' AND updated_at < ?2
            AND cursor_at < ?2 AND coalesce(last_run_at, 0) < ?2))"
    };
}

statements! {
    NextVersion -> (): "UPDATE schedule_mark SET version = version + 1 WHERE name = 'schedules'";
    Version -> (BigInt,): "SELECT version FROM schedule_mark WHERE name = 'schedules'";
    TurnOf -> (BigInt,): "SELECT turn FROM scheduler_task WHERE schedule_id = ?1 {lock}";
    IdOf -> (Text,): "SELECT schedule_id FROM scheduler_task WHERE name = ?1";
    IdOfCode -> (Text,): "SELECT schedule_id FROM scheduler_task WHERE code_name IS NOT NULL AND code_name = ?1
        ORDER BY created_at LIMIT 1";
    Insert -> (): (concat!("INSERT INTO scheduler_task (", schedule_columns!(), ", version, code_name)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
        ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34)"));
    Update -> (): "UPDATE scheduler_task SET name = ?2, type = ?3, params = ?4, trigger_kind = ?5, trigger_expr = ?6,
        timezone = ?7, queue = ?8, priority = ?9, timeout = ?10, max_attempts = ?11, retry = ?12, options = ?13,
        misfire_grace = ?14, coalesce = ?15, max_instances = ?16, overlap_policy = ?17, run_limit = ?18, status = ?19,
        status_reason = ?20, paused_until = ?21, code = ?22, description = ?23, cursor_at = ?24, last_run_at = ?25,
        next_run_at = ?26, run_count = ?27, failures_from = ?28, forgotten_to = ?29, turn = ?30, created_at = ?31,
        updated_at = ?32, version = ?33, code_name = ?34 WHERE schedule_id = ?1";
    Changed -> (Text, Text, Nullable<BigInt>, Nullable<BigInt>):
        "SELECT schedule_id, status, next_run_at, paused_until FROM scheduler_task WHERE version > ?1";
    AllThatFire -> (Text, Text, Nullable<BigInt>, Nullable<BigInt>):
        "SELECT schedule_id, status, next_run_at, paused_until FROM scheduler_task INDEXED BY scheduler_task_due
        WHERE status IN ('active', 'paused')";
    ToForget -> (BigInt,): (concat!("SELECT count(*) FROM scheduler_task WHERE ", over!()));
    /// Locked, so that the found schedules stay over: a schedule that is revived keeps its history.
    Over -> (Text,): (concat!("SELECT schedule_id FROM scheduler_task WHERE ", over!(),
        " ORDER BY schedule_id LIMIT 1000 {skip}"));
    Forget -> (): "DELETE FROM scheduler_task WHERE schedule_id = ?1";
    ForgetFirings -> (): "DELETE FROM schedule_firing WHERE schedule_id = ?1";
    /// Schedules that were forgotten, now or earlier: their tasks may have been pruned since.
    Forgotten -> (Text,): "SELECT DISTINCT schedule_id FROM schedule_run
        WHERE schedule_id NOT IN (SELECT schedule_id FROM scheduler_task)";
    ForgetRuns -> (): "DELETE FROM schedule_run WHERE schedule_id = ?1";
}

/// A number as it is stored. Larger numbers are cut, but none is so large in practice.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(in crate::backend::sql) fn save<C: Conn>(
    conn: &mut C,
    record: &ScheduleRecord,
    turn: Option<i64>,
) -> Result<Saved, Abort> {
    // This comes first: the lock on this row puts the versions into the order of the commits. So a reader that has seen
    // a version has seen all earlier versions.
    conn.run::<NextVersion>(&[])?;
    let version = conn.first::<Version, (i64,)>(&[])?.map_or(0, |(version,)| version);
    let id = record.schedule_id.to_string();
    let stored = conn.first::<TurnOf, (i64,)>(&[Value::Text(&id)])?.map(|(turn,)| turn);
    if named(conn, &record.name)?.is_some_and(|other| other != Ok(record.schedule_id)) {
        return Ok(Saved::NameTaken);
    }
    if stored != turn {
        return Ok(if turn.is_none() { Saved::NameTaken } else { Saved::Stale });
    }
    let next = next_turn(turn);
    write(conn, &id, record, next, version, turn.is_none())?;
    conn.mark_change()?;
    Ok(Saved::Stored { turn: next })
}

fn write<C: Conn>(
    conn: &mut C,
    id: &str,
    record: &ScheduleRecord,
    turn: i64,
    version: i64,
    new: bool,
) -> QueryResult<()> {
    let ScheduleRecord { task, trigger, policy, .. } = record;
    let options = serde_json::json!(Options {
        tags: task.tags.clone(),
        meta: task.meta.clone(),
        expires_in_us: task.expires_in.map(|span| micros(span).unsigned_abs()),
        pause_after: policy.pause_after,
        keep_firings: Some(policy.keep_firings),
        limit_key: task.limit_key.clone(),
        lost_id: None,
    })
    .to_string();
    let code_name = record.code_name();
    let (retry, coalesce) = (retry_text(&task.retry), policy.coalesce.to_string());
    let time = |time: Option<Timestamp>| Value::MaybeInt(time.map(Timestamp::as_micros));
    let values = [
        Value::Text(id),
        Value::Text(&record.name),
        Value::Text(&task.kind),
        Value::Text(&task.params),
        Value::Text(&trigger.kind),
        Value::Text(&trigger.expr),
        Value::Text(&trigger.zone),
        Value::Text(&task.queue),
        Value::Int(task.priority.into()),
        Value::MaybeInt(task.timeout.map(micros)),
        Value::Int(task.max_attempts.into()),
        Value::Text(&retry),
        Value::Text(&options),
        Value::MaybeInt(policy.misfire_grace.map(micros)),
        Value::Text(&coalesce),
        Value::Int(policy.max_instances.into()),
        Value::Text(policy.overlap.as_str()),
        Value::MaybeInt(policy.run_limit.map(int)),
        Value::Text(record.status.as_str()),
        Value::MaybeText(record.status_reason.as_deref()),
        time(record.paused_until),
        Value::MaybeText(record.code.as_deref()),
        Value::MaybeText(record.description.as_deref()),
        Value::Int(record.cursor.as_micros()),
        time(record.last_run_at),
        time(record.next_run_at),
        Value::Int(int(record.run_count)),
        Value::Int(record.failures_from.as_micros()),
        time(record.forgotten_to),
        Value::Int(turn),
        Value::Int(record.created_at.as_micros()),
        Value::Int(record.updated_at.as_micros()),
        Value::Int(version),
        Value::MaybeText(code_name.as_deref()),
    ];
    if new { conn.run::<Insert>(&values) } else { conn.run::<Update>(&values) }.map(drop)
}

/// The changes since a version, and ids that need [repair](mend) first.
pub(in crate::backend::sql) fn changes<C: Conn>(
    conn: &mut C,
    since: i64,
) -> QueryResult<(ScheduleChanges, Vec<String>)> {
    // Read before the rows: a change written in between is then found again next time, and not missed.
    let version = conn.first::<Version, (i64,)>(&[])?.map_or(0, |(version,)| version);
    let rows: Vec<(StoredText, StoredText, Option<i64>, Option<i64>)> = match since {
        0 => conn.load::<AllThatFire, _>(&[])?,
        _ if since.max(0) == version => Vec::new(),
        _ => conn.load::<Changed, _>(&[Value::Int(since)])?,
    };
    let mut strays = Vec::new();
    let due = rows.into_iter().filter_map(|(id, status, next, until)| {
        let Some(id) = plain(&id) else {
            strays.push(id.0);
            return None;
        };
        let due = match status.parse() {
            Ok(ScheduleStatus::Active) => Some(next.unwrap_or(0)),
            Ok(ScheduleStatus::Paused) => until,
            Ok(ScheduleStatus::Finished | ScheduleStatus::Deleted) | Err(_) => None,
        };
        let due = due.map(Timestamp::from_micros);
        (since != 0 || due.is_some()).then_some((id, due))
    });
    let due = due.collect();
    Ok((ScheduleChanges { version, due }, strays))
}

/// An id, or the stored text that needs [repair](mend) first.
type Found = Option<Result<ScheduleId, String>>;

pub(in crate::backend::sql) fn named<C: Conn>(conn: &mut C, name: &str) -> QueryResult<Found> {
    let found = conn.first::<IdOf, (StoredText,)>(&[Value::Text(name)])?;
    Ok(found.map(|(id,)| plain(&id).ok_or(id.0)))
}

pub(in crate::backend::sql) fn defined<C: Conn>(conn: &mut C, name: &str) -> QueryResult<Found> {
    let found = conn.first::<IdOfCode, (StoredText,)>(&[Value::Text(name)])?;
    Ok(found.map(|(id,)| plain(&id).ok_or(id.0)))
}

/// The time limits for `over!`. Without `finished`, no finished schedule is forgotten.
fn before(deleted: Timestamp, finished: Option<Timestamp>) -> [Value<'static>; 2] {
    [Value::Int(deleted.as_micros()), Value::Int(finished.map_or(i64::MIN, Timestamp::as_micros))]
}

pub(in crate::backend::sql) fn any_to_forget<C: Conn>(
    conn: &mut C,
    deleted: Timestamp,
    finished: Option<Timestamp>,
) -> QueryResult<bool> {
    let found = conn.first::<ToForget, (i64,)>(&before(deleted, finished))?;
    Ok(found.is_some_and(|(schedules,)| schedules > 0))
}

pub(in crate::backend::sql) fn forget<C: Conn>(
    conn: &mut C,
    deleted: Timestamp,
    finished: Option<Timestamp>,
) -> Result<(), Abort> {
    let over: Vec<(StoredText,)> = conn.load::<Over, _>(&before(deleted, finished))?;
    for (schedule,) in over {
        conn.run::<ForgetFirings>(&[Value::Text(&schedule)])?;
        conn.run::<Forget>(&[Value::Text(&schedule)])?;
    }
    let forgotten: Vec<(StoredText,)> = conn.load::<Forgotten, _>(&[])?;
    for (schedule,) in forgotten {
        conn.run::<ForgetRuns>(&[Value::Text(&schedule)])?;
    }
    Ok(())
}
