//! The first tasks in line of each queue, for the check for tasks that no node runs.

use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text};

use crate::backend::InLine;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, statements};
use crate::clock::Timestamp;
use crate::name::Name;

statements! {
    /// Reads a single index entry: queues are found step by step, without reading all pending tasks.
    NextQueue -> (Nullable<Text>,): "SELECT min(queue) FROM task_queue INDEXED BY task_queue_pending
        WHERE state = 'pending' AND queue > ?1";
    FirstOfQueue -> (Text, BigInt, BigInt): "SELECT type, count(*), min(run_at) FROM (
        SELECT type, run_at FROM task_queue INDEXED BY task_queue_pending
        WHERE state = 'pending' AND queue = ?1 ORDER BY priority, run_at, seq LIMIT ?2) AS line
        GROUP BY type ORDER BY type";
}

pub(in crate::backend::sql) fn in_line<C: Conn>(
    conn: &mut C,
    after: Option<&str>,
    queues: usize,
    most: usize,
) -> QueryResult<Vec<InLine>> {
    let mut found = Vec::new();
    let mut after = after.unwrap_or_default().to_owned();
    for _ in 0..queues {
        let next = conn.first::<NextQueue, (Option<StoredText>,)>(&[Value::Text(&after)])?;
        let Some(queue) = next.and_then(|(queue,)| queue) else { break };
        let limit = Value::Int(i64::try_from(most).unwrap_or(i64::MAX));
        let types: Vec<(StoredText, i64, i64)> = conn.load::<FirstOfQueue, _>(&[Value::Text(&queue), limit])?;
        let looked_at: i64 = types.iter().map(|(_, tasks, _)| tasks).sum();
        let more = usize::try_from(looked_at).is_ok_and(|tasks| tasks >= most);
        after.clone_from(&queue.0);
        let queue = Name::from(queue);
        found.extend(types.into_iter().map(|(kind, tasks, oldest)| InLine {
            queue: queue.clone(),
            kind: kind.into(),
            tasks: tasks.max(0).unsigned_abs(),
            oldest: Timestamp::from_micros(oldest),
            more,
        }));
    }
    Ok(found)
}
