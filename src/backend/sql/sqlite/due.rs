//! Due tasks, and the tasks that finished earliest. Both are searched queue by queue, because in the indexes the queue
//! comes before the time. Counting needs that order.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::SqliteConnection;
use diesel::{QueryResult, Queryable};

use crate::backend::sql::conn::Conn;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, statements};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::TaskState;

statements! {
    /// For each state and queue, the earliest `run_at`, and the earliest `run_at` after now. The query seeks in the
    /// index from queue to queue, so it does not read the rows between them.
    Lanes -> (Text, Text, BigInt, Nullable<BigInt>):
        "WITH RECURSIVE lane(state, queue) AS (
            SELECT 'scheduled', (SELECT min(queue) FROM task_queue INDEXED BY task_queue_due
                WHERE state IN ('scheduled', 'retrying') AND state = 'scheduled')
            UNION ALL
            SELECT 'retrying', (SELECT min(queue) FROM task_queue INDEXED BY task_queue_due
                WHERE state IN ('scheduled', 'retrying') AND state = 'retrying')
            UNION ALL
            SELECT lane.state, (SELECT min(t.queue) FROM task_queue AS t INDEXED BY task_queue_due
                WHERE t.state IN ('scheduled', 'retrying') AND t.state = lane.state AND t.queue > lane.queue)
                FROM lane WHERE lane.queue IS NOT NULL)
        SELECT state, queue,
            (SELECT min(t.run_at) FROM task_queue AS t INDEXED BY task_queue_due
                WHERE t.state IN ('scheduled', 'retrying') AND t.state = lane.state AND t.queue = lane.queue),
            (SELECT min(t.run_at) FROM task_queue AS t INDEXED BY task_queue_due
                WHERE t.state IN ('scheduled', 'retrying') AND t.state = lane.state AND t.queue = lane.queue
                AND t.run_at > ?1)
        FROM lane WHERE queue IS NOT NULL";
    Promote -> (): "UPDATE task_queue SET state = 'pending', updated_at = ?3 WHERE seq IN (
        SELECT seq FROM task_queue INDEXED BY task_queue_due
        WHERE state IN ('scheduled', 'retrying') AND state = ?1 AND queue = ?2 AND run_at <= ?3
        ORDER BY run_at LIMIT ?4)";
    /// The queues with finished tasks in a state. The query seeks in the index from queue to queue.
    FinishedLanes -> (Text,): "WITH RECURSIVE lane(queue) AS (
        SELECT (SELECT min(queue) FROM task_queue INDEXED BY task_queue_finished
            WHERE finished_at IS NOT NULL AND state = ?1)
        UNION ALL
        SELECT (SELECT min(t.queue) FROM task_queue AS t INDEXED BY task_queue_finished
            WHERE t.finished_at IS NOT NULL AND t.state = ?1 AND t.queue > lane.queue)
            FROM lane WHERE lane.queue IS NOT NULL)
        SELECT queue FROM lane WHERE queue IS NOT NULL";
    Finished -> (BigInt, BigInt): "SELECT finished_at, seq FROM task_queue
        INDEXED BY task_queue_finished WHERE finished_at IS NOT NULL AND state = ?1 AND queue = ?2
        AND finished_at < ?4 ORDER BY finished_at, seq LIMIT ?3";
}

/// The scheduled or the retrying tasks of a queue.
#[derive(Queryable)]
struct Lane {
    state: StoredText,
    queue: StoredText,
    first: i64,
    ahead: Option<i64>,
}

fn lanes(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<Vec<Lane>> {
    conn.load::<Lanes, _>(&[Value::Int(now.as_micros())])
}

pub(super) fn due(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<(Option<i64>, Option<i64>)> {
    let lanes = lanes(conn, now)?;
    Ok((lanes.iter().map(|lane| lane.first).min(), lanes.iter().filter_map(|lane| lane.ahead).min()))
}

pub(super) fn promote(conn: &mut SqliteConnection, now: Timestamp, limit: usize) -> QueryResult<(usize, Vec<Name>)> {
    let mut promoted = 0;
    let mut queues = Vec::new();
    for lane in lanes(conn, now)?.into_iter().filter(|lane| lane.first <= now.as_micros()) {
        let left = Value::Int(i64::try_from(limit - promoted).unwrap_or(i64::MAX));
        let values = [Value::Text(&lane.state), Value::Text(&lane.queue), Value::Int(now.as_micros()), left];
        let rows = conn.run::<Promote>(&values)?;
        promoted += rows;
        if rows > 0 {
            queues.push(lane.queue.into());
        }
    }
    Ok((promoted, queues))
}

/// The earliest finished tasks of every queue, merged.
pub(super) fn oldest_finished(
    conn: &mut SqliteConnection,
    state: TaskState,
    mut before: i64,
    limit: usize,
) -> QueryResult<Vec<(i64, i64)>> {
    let state = Value::Text(state.as_str());
    let most = Value::Int(i64::try_from(limit).unwrap_or(i64::MAX));
    let mut oldest: Vec<(i64, i64)> = Vec::new();
    let lanes: Vec<(StoredText,)> = conn.load::<FinishedLanes, _>(&[state])?;
    for (queue,) in lanes {
        oldest.extend(conn.load::<Finished, (i64, i64)>(&[state, Value::Text(&queue), most, Value::Int(before)])?);
        oldest.sort_unstable();
        oldest.truncate(limit);
        // The list is full. A task of a later queue belongs in it only if it finished no later than the last entry.
        if oldest.len() == limit
            && let Some((latest, _)) = oldest.last()
        {
            before = before.min(latest.saturating_add(1));
        }
    }
    Ok(oldest)
}
