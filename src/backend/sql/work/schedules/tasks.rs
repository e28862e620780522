//! The facts about its tasks that a decision about a schedule needs.

use std::collections::HashMap;

use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text};

use crate::backend::sql::conn::Conn;
use crate::backend::sql::dialect::Dialect;
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::statement::Value;
use crate::backend::{Instance, MOST_FIRED};
use crate::clock::Timestamp;
use crate::schedule::FiringCause;
use crate::task::TaskState;

/// The tasks of schedules that have not ended, by schedule.
pub(super) fn live<C: Conn>(
    conn: &mut C,
    places: &str,
    values: &[Value<'_>],
) -> QueryResult<HashMap<String, Vec<Instance>>> {
    let of_these = match C::DIALECT {
        #[cfg(feature = "mysql")]
        Dialect::Mysql => format!("t.instance_of IN ({places})"),
        #[cfg(feature = "sqlite")]
        Dialect::Sqlite => alive(places),
        #[cfg(feature = "postgres")]
        Dialect::Postgres => alive(places),
    };
    let sql = format!(
        "SELECT t.schedule_id, t.task_id, t.state, t.parent_id, f.cause
        FROM task_queue AS t INDEXED BY task_queue_instances
        LEFT JOIN schedule_firing AS f ON f.schedule_id = t.schedule_id AND f.nominal_at = t.nominal_at
        WHERE {of_these} ORDER BY t.seq"
    );
    type Row = (StoredText, StoredText, StoredText, Option<StoredText>, Option<StoredText>);
    let rows: Vec<Row> = conn.load_once::<(Text, Text, Text, Nullable<Text>, Nullable<Text>), _>(&sql, values)?;
    let mut live: HashMap<String, Vec<Instance>> = HashMap::new();
    for (schedule, task_id, state, parent, cause) in rows {
        let (Ok(task_id), state) = (task_id.parse(), shown_state(&state)) else { continue };
        let follows = parent.and_then(|parent| parent.parse().ok()).filter(|_| state == TaskState::Waiting);
        let cause = cause.and_then(|cause| cause.parse().ok()).unwrap_or(FiringCause::Schedule);
        live.entry(schedule.0).or_default().push(Instance { task_id, state, follows, cause });
    }
    Ok(live)
}

/// Nominal times after the cursor that already have a task, by schedule. Usually there are none. They exist when a
/// backfill went ahead, or when a cursor was moved back.
pub(super) fn fired<C: Conn>(
    conn: &mut C,
    places: &str,
    values: &[Value<'_>],
) -> QueryResult<HashMap<String, Vec<Timestamp>>> {
    // SQLite reads the tables of a cross join in the order in which they are named.
    let sql = format!(
        "SELECT f.schedule_id AS schedule_id, f.nominal_at AS nominal_at
        FROM scheduler_task AS s CROSS JOIN schedule_firing AS f
        WHERE s.schedule_id IN ({places}) AND f.schedule_id = s.schedule_id AND f.nominal_at > s.cursor_at
        AND f.status = 'fired'
        UNION SELECT r.schedule_id, r.nominal_at FROM scheduler_task AS s CROSS JOIN schedule_run AS r
        WHERE s.schedule_id IN ({places}) AND r.schedule_id = s.schedule_id AND r.nominal_at > s.cursor_at
        UNION SELECT t.schedule_id, t.nominal_at
        FROM scheduler_task AS s CROSS JOIN task_queue AS t INDEXED BY task_queue_firing
        WHERE s.schedule_id IN ({places}) AND t.schedule_id IS NOT NULL AND t.schedule_id = s.schedule_id
        AND t.nominal_at > s.cursor_at ORDER BY nominal_at DESC LIMIT {MOST_FIRED}"
    );
    let rows: Vec<(StoredText, i64)> = conn.load_once::<(Text, BigInt), _>(&sql, values)?;
    let mut fired: HashMap<String, Vec<Timestamp>> = HashMap::new();
    for (schedule, nominal_at) in rows.into_iter().rev() {
        fired.entry(schedule.0).or_default().push(Timestamp::from_micros(nominal_at));
    }
    Ok(fired)
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn alive(places: &str) -> String {
    format!(
        "t.schedule_id IS NOT NULL AND t.schedule_id IN ({places})
        AND t.state IN ('waiting', 'scheduled', 'pending', 'running', 'retrying')"
    )
}
