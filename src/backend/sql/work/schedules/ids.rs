//! Repair of edited ids. All references to a schedule use its id in lower case with hyphens.

use diesel::sql_types::{BigInt, Text};

use super::rows::Options;
use super::{NextVersion, Version};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, statements};
use crate::clock::Timestamp;
use crate::task::ScheduleId;

statements! {
    RowOf -> (BigInt, Text): "SELECT created_at, options FROM scheduler_task WHERE schedule_id = ?1 {lock}";
    Rename -> (): "UPDATE scheduler_task SET schedule_id = ?2, version = ?3 WHERE schedule_id = ?1";
    NewId -> (): "UPDATE scheduler_task SET schedule_id = ?2, version = ?3, options = ?4, next_run_at = NULL
        WHERE schedule_id = ?1";
}

/// The id that a text spells. `None` when the text needs id repair first.
pub(super) fn plain(text: &str) -> Option<ScheduleId> {
    text.parse::<ScheduleId>().ok().filter(|id| id.to_string() == text)
}

/// Rewrites ids in their standard form. A row whose id is lost gets a new id, and a note of it in its options. It is
/// then parked like any other invalid row, because its history and its tasks belong to the old id.
pub(in crate::backend::sql) fn mend<C: Conn>(conn: &mut C, strays: &[String]) -> Result<(), Abort> {
    conn.run::<NextVersion>(&[])?;
    let version = conn.first::<Version, (i64,)>(&[])?.map_or(0, |(version,)| version);
    for stray in strays {
        // A different node may already have repaired it.
        let Some((created_at, options)) = row(conn, stray)? else { continue };
        let meant = stray.parse::<ScheduleId>().ok().map(|id| id.to_string());
        if let Some(id) = meant
            && row(conn, &id)?.is_none()
        {
            conn.run::<Rename>(&[Value::Text(stray), Value::Text(&id), Value::Int(version)])?;
            continue;
        }
        let id = ScheduleId::new(Timestamp::from_micros(created_at)).to_string();
        let fault = format!("{stray:?} is no id, or that of another schedule; it has a new one, without its history");
        let read: Options = serde_json::from_str(&options).unwrap_or_default();
        let options = serde_json::json!(Options { lost_id: Some(fault), ..read }).to_string();
        conn.run::<NewId>(&[Value::Text(stray), Value::Text(&id), Value::Int(version), Value::Text(&options)])?;
    }
    Ok(())
}

fn row<C: Conn>(conn: &mut C, id: &str) -> Result<Option<(i64, StoredText)>, Abort> {
    Ok(conn.first::<RowOf, (i64, StoredText)>(&[Value::Text(id)])?)
}
