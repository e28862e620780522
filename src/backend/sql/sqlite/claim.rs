//! The next tasks for a node.

use std::fmt::Write;
use std::sync::Arc;

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::SqliteConnection;
use diesel::{OptionalExtension, QueryResult, Queryable, RunQueryDsl};
use serde::de::IgnoredAny;

use super::commit::Batch;
use super::errors::Abort;
use crate::backend::sql::rows::{StoredText, count, small, span};
use crate::backend::sql::statement::{Value, bind, chunks, execute_sized, sized_statements, statements};
use crate::backend::sql::text::{read_retry, read_rule};
use crate::backend::types::shown_json;
use crate::backend::{ClaimRequest, Claimed, Commit};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{Extras, TaskSpec, Unique};

/// Claims before this one that may have ended in a crash: from then on at most one such task runs on a node.
const LAST_CHANCE: i64 = 2;

/// The SQL types of a [`Row`].
type RowTypes = (
    BigInt,
    Text,
    Text,
    Text,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Text,
    Nullable<Text>,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<BigInt>,
    BigInt,
);

statements! {
    /// No limit: rows are read one by one until there are enough that can run. The index is named because a
    /// database without statistics might prefer another.
    Next -> RowTypes: "SELECT seq, task_id, type, params, priority, run_at, attempt, max_attempts, crash_count,
        timeout, retry, unique_rule, unique_until, tags, meta, expires_at, created_at
        FROM task_queue INDEXED BY task_queue_pending
        WHERE state = 'pending' AND queue = ?1 AND (expires_at IS NULL OR expires_at > ?2)
        ORDER BY priority, run_at, seq";
    /// The types are one JSON array, so that one statement does for any number of them.
    NextOfTypes -> RowTypes: "SELECT seq, task_id, type, params, priority, run_at, attempt, max_attempts, crash_count,
        timeout, retry, unique_rule, unique_until, tags, meta, expires_at, created_at
        FROM task_queue INDEXED BY task_queue_pending
        WHERE state = 'pending' AND queue = ?1 AND type IN (SELECT value FROM json_each(?3))
        AND (expires_at IS NULL OR expires_at > ?2)
        ORDER BY priority, run_at, seq";
    RunningSuspect -> (BigInt,):
        "SELECT seq FROM task_queue INDEXED BY task_queue_running
        WHERE state = 'running' AND node = ?1 AND crash_count > ?2 LIMIT 1";
    Bury -> (): "UPDATE task_queue SET state = 'dead', last_error = ?2, updated_at = ?3, finished_at = ?3
        WHERE seq = ?1";
}

sized_statements! {
    Start: |rows: usize| {
        let mut sql = String::from("UPDATE task_queue SET state = 'running', node = ?1, claim_token = ?2,
            started_at = ?3, updated_at = ?3, crash_count = crash_count + 1 WHERE seq IN (");
        for row in 0..rows {
            let comma = if row > 0 { "," } else { "" };
            write!(sql, "{comma}?{}", row + 4).expect("writing to a string does not fail");
        }
        sql + ")"
    };
}

/// A pending task.
#[derive(Queryable)]
struct Row {
    seq: i64,
    task_id: StoredText,
    kind: StoredText,
    params: StoredText,
    priority: i64,
    run_at: i64,
    attempt: i64,
    max_attempts: i64,
    crash_count: i64,
    timeout: Option<i64>,
    retry: StoredText,
    unique_rule: Option<StoredText>,
    unique_until: Option<i64>,
    tags: Option<StoredText>,
    meta: Option<StoredText>,
    expires_at: Option<i64>,
    created_at: i64,
}

impl Row {
    /// The task, or why it cannot run.
    fn into_spec(self, queue: &Name, kind: Name) -> Result<TaskSpec, String> {
        let task_id = self.task_id.parse().map_err(|error| format!("unreadable row: {error}"))?;
        serde_json::from_str::<IgnoredAny>(&self.params)
            .map_err(|error| format!("unreadable row: params are no JSON: {error}"))?;
        let retry = read_retry(&self.retry).ok_or_else(|| format!("unreadable retry policy {:?}", &*self.retry))?;
        Ok(TaskSpec {
            task_id,
            kind,
            queue: queue.clone(),
            priority: small(self.priority),
            run_at: Timestamp::from_micros(self.run_at),
            max_attempts: count(self.max_attempts).max(1),
            timeout: self.timeout.map(span),
            retry,
            created_at: Timestamp::from_micros(self.created_at),
            extras: self.extras(),
            params: self.params.0.into(),
        })
    }

    fn extras(&self) -> Option<Box<Extras>> {
        let plain =
            self.unique_rule.is_none() && self.tags.is_none() && self.meta.is_none() && self.expires_at.is_none();
        if plain {
            return None;
        }
        Some(Box::new(Extras {
            unique: self.unique(),
            tags: self.tags.as_deref().and_then(|tags| serde_json::from_str(tags).ok()).unwrap_or_default(),
            meta: self.meta.as_deref().map(shown_json),
            expires_at: self.expires_at.map(Timestamp::from_micros),
        }))
    }

    fn unique(&self) -> Option<Unique> {
        let rule = read_rule(self.unique_rule.as_deref()?)?;
        let period_us = self.unique_until.map(|until| until.saturating_sub(self.created_at).max(0).unsigned_abs());
        Some(Unique { key: rule.key.into(), scope: rule.scope, period_us, mode: rule.mode })
    }
}

/// Runs `read` on the rows that a request may take, in order, until it says enough.
fn pending(
    conn: &mut SqliteConnection,
    request: &ClaimRequest,
    now: Timestamp,
    mut read: impl FnMut(Row) -> bool,
) -> QueryResult<()> {
    use diesel::connection::DefaultLoadingMode as OneByOne;
    let types = request.types.as_ref().map(|types| serde_json::json!(types).to_string());
    let values =
        [Value::Text(&request.queue), Value::Int(now.as_micros()), Value::Text(types.as_deref().unwrap_or_default())];
    let mut take = |row: QueryResult<Row>| row.map(&mut read);
    let stopped = if types.is_some() {
        let mut rows = bind::<NextOfTypes>(&values).load_iter::<Row, OneByOne>(conn)?;
        rows.try_for_each(|row| if take(row)? { Ok(()) } else { Err(Stop::Enough) })
    } else {
        let mut rows = bind::<Next>(&values[..2]).load_iter::<Row, OneByOne>(conn)?;
        rows.try_for_each(|row| if take(row)? { Ok(()) } else { Err(Stop::Enough) })
    };
    match stopped {
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Enough) | Ok(()) => Ok(()),
    }
}

enum Stop {
    Enough,
    Failed(diesel::result::Error),
}

impl From<diesel::result::Error> for Stop {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error)
    }
}

/// True when there is a task that some request of the commit could take.
pub(super) fn any(conn: &mut SqliteConnection, commit: &Commit) -> QueryResult<bool> {
    for request in commit.claim.iter().filter(|request| request.limit > 0) {
        let mut found = false;
        pending(conn, request, commit.now, |_| {
            found = true;
            false
        })?;
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What one request found.
#[derive(Default)]
struct Found {
    tasks: Vec<Claimed>,
    /// Where in `tasks` the one on its last chance is.
    suspect: Option<usize>,
    /// Another one was left where it is.
    passed_over: bool,
    /// Rows that cannot run, with the reasons.
    unreadable: Vec<(i64, String)>,
}

impl Found {
    /// Takes a row; false when that is enough. With a task on its last chance one more is read: it may turn out
    /// that it must not run now.
    fn take(&mut self, row: Row, request: &ClaimRequest, commit: &Commit, suspects: bool) -> bool {
        let suspect = row.crash_count >= LAST_CHANCE;
        if suspect && (!suspects || self.suspect.is_some()) {
            self.passed_over = true;
            return true;
        }
        let (seq, attempt) = (row.seq, count(row.attempt));
        // Neighbours are often of one type: they share its name.
        let kind = match self.tasks.last() {
            Some(before) if *before.spec.kind == *row.kind => before.spec.kind.clone(),
            _ => Name::from(row.kind.clone()),
        };
        match row.into_spec(&request.queue, kind) {
            Ok(spec) => {
                if suspect {
                    self.suspect = Some(self.tasks.len());
                }
                self.tasks.push(Claimed { spec: Arc::new(spec), seq, token: commit.token, attempt });
            }
            Err(reason) => self.unreadable.push((seq, reason)),
        }
        self.tasks.len() < request.limit.saturating_add(self.suspect.is_some().into())
    }
}

impl Batch<'_> {
    pub(super) fn claim(&mut self) -> Result<(), Abort> {
        let commit = self.commit;
        let mut suspects = true;
        for request in &commit.claim {
            let claimed = if request.limit > 0 { self.claim_for(request, &mut suspects)? } else { Vec::new() };
            self.receipt.claimed.push(claimed);
        }
        Ok(())
    }

    fn claim_for(&mut self, request: &ClaimRequest, suspects: &mut bool) -> Result<Vec<Claimed>, Abort> {
        let commit = self.commit;
        let mut found = Found::default();
        pending(self.conn, request, commit.now, |row| found.take(row, request, commit, *suspects))?;
        if let Some(place) = found.suspect {
            if self.runs_suspect()? {
                found.tasks.remove(place);
                found.passed_over = true;
                *suspects = false;
            }
            found.tasks.truncate(request.limit);
            // Only the one that was taken counts.
            *suspects &= place >= found.tasks.len();
        }
        for (seq, reason) in &found.unreadable {
            bind::<Bury>(&[Value::Int(*seq), Value::Text(reason), self.now()]).execute(self.conn)?;
        }
        self.start(&found.tasks)?;
        self.receipt.passed_over |= found.passed_over && found.tasks.len() < request.limit;
        Ok(found.tasks)
    }

    fn runs_suspect(&mut self) -> Result<bool, Abort> {
        let values = [Value::Text(&self.node), Value::Int(LAST_CHANCE)];
        Ok(bind::<RunningSuspect>(&values).get_result::<(i64,)>(self.conn).optional()?.is_some())
    }

    fn start(&mut self, tasks: &[Claimed]) -> Result<(), Abort> {
        for tasks in chunks(tasks) {
            let mut values = Vec::with_capacity(3 + tasks.len());
            values.extend([Value::Text(&self.node), Value::Int(self.commit.token.as_i64()), self.now()]);
            values.extend(tasks.iter().map(|task| Value::Int(task.seq)));
            execute_sized!(Start, tasks.len(), &values, self.conn)?;
        }
        Ok(())
    }
}
