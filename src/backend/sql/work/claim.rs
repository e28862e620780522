//! Claims the next tasks for a node.

use std::sync::Arc;

use diesel::QueryResult;
use diesel::sql_types::BigInt;

use super::commit::Batch;
use super::pending::{Row, RowTypes, columns, of_types};
use super::unique::{self, Look};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::count;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{ClaimRequest, Claimed, Commit, Unreadable};
use crate::clock::Timestamp;
use crate::name::Name;

/// Number of earlier claims that may have ended in a crash. A task that reaches it is on its last chance: at most a
/// single such task runs on a node at a time.
pub(super) const LAST_CHANCE: i64 = 2;

/// The pending tasks of a queue in the order in which they run; `$of_types` narrows it. The index is named because a
/// database without statistics might prefer a different index.
macro_rules! next {
    ($of_types:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM task_queue INDEXED BY task_queue_pending
            WHERE state = 'pending' AND queue = ?1 AND crash_count < ?3
            AND (expires_at IS NULL OR expires_at > ?2 OR started_at IS NOT NULL) ",
            $of_types,
            " ORDER BY priority, run_at, seq LIMIT ?4 {skip}"
        )
    };
}

statements! {
    Next -> RowTypes: (next!(""));
    /// For a few types.
    NextOfFew -> RowTypes: (next!("AND type IN (?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"));
    /// The types are a JSON array, so that the same statement serves any number of them.
    NextOfTypes -> RowTypes: {
        sqlite next!("AND type IN (SELECT value FROM json_each(?5))");
        postgres next!("AND type = ANY (ARRAY(SELECT jsonb_array_elements_text(?5::jsonb)))");
        mysql next!("AND JSON_CONTAINS(?5, JSON_QUOTE(type))");
    };
    RunningSuspect -> (BigInt,):
        "SELECT seq FROM task_queue INDEXED BY task_queue_running
        WHERE state = 'running' AND node = ?1 AND crash_count > ?2 LIMIT 1";
    Bury -> (): "UPDATE task_queue SET state = 'dead', last_error = ?2, updated_at = ?3, finished_at = ?3
        WHERE seq = ?1";
}

/// The first rows that a request may take, in order. Without `suspects`, tasks on their last chance are left out.
fn pending<C: Conn>(
    conn: &mut C,
    request: &ClaimRequest,
    now: Timestamp,
    suspects: bool,
    limit: usize,
) -> QueryResult<Vec<Row>> {
    let values = vec![
        Value::Text(&request.queue),
        Value::Int(now.as_micros()),
        Value::Int(if suspects { i64::MAX } else { LAST_CHANCE }),
        Value::Int(i64::try_from(limit).unwrap_or(i64::MAX)),
    ];
    of_types::<Next, NextOfFew, NextOfTypes, _, Row>(conn, request.types.as_deref(), values)
}

/// True when there is a task that any request of the commit could take.
pub(in crate::backend::sql) fn any<C: Conn>(conn: &mut C, commit: &Commit) -> QueryResult<bool> {
    for request in commit.claim.iter().filter(|request| request.limit > 0) {
        if !pending(conn, request, commit.now, true, 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the task in a row. `before` is the previous task. It is often of the same type: then both share the name.
pub(super) fn claimed(
    row: Row,
    request: &ClaimRequest,
    commit: &Commit,
    before: Option<&Claimed>,
) -> Result<Claimed, Unreadable> {
    let (seq, attempt) = (row.seq, count(row.attempt));
    let kind = match before {
        Some(before) if *before.spec.kind == *row.kind => before.spec.kind.clone(),
        _ => Name::from(row.kind.clone()),
    };
    let spec = row.into_spec(&request.queue, kind)?;
    Ok(Claimed { spec: Arc::new(spec), seq, token: commit.token, attempt })
}

/// The result of a single request.
#[derive(Default)]
struct Found {
    tasks: Vec<Claimed>,
    /// The index in `tasks` of the task on its last chance.
    suspect: Option<usize>,
    /// A further task on its last chance was left pending.
    passed_over: bool,
    /// A task was left because a limit applies to it.
    limited: bool,
    /// Rows that cannot run.
    unreadable: Vec<(i64, Unreadable)>,
}

impl Found {
    /// Takes a row; false when there are enough. With a task on its last chance, an extra row is read, because that
    /// task may turn out to be unable to run now.
    fn take(&mut self, row: Row, request: &ClaimRequest, commit: &Commit, suspects: bool) -> bool {
        let suspect = row.crash_count >= LAST_CHANCE;
        if suspect && (!suspects || self.suspect.is_some()) {
            self.passed_over = true;
            return true;
        }
        if commit.limits.as_ref().is_some_and(|limits| limits.touch(row.labels(&request.queue))) {
            self.limited = true;
            return true;
        }
        let seq = row.seq;
        match claimed(row, request, commit, self.tasks.last()) {
            Ok(task) => {
                if suspect {
                    self.suspect = Some(self.tasks.len());
                }
                self.tasks.push(task);
            }
            Err(unreadable) => self.unreadable.push((seq, unreadable)),
        }
        self.tasks.len() < request.limit.saturating_add(self.suspect.is_some().into())
    }

    fn has(&self, seq: i64) -> bool {
        self.tasks.iter().any(|task| task.seq == seq)
    }
}

impl<C: Conn> Batch<'_, C> {
    pub(super) fn claim(&mut self) -> Result<(), Abort> {
        let commit = self.commit;
        if let Some(limits) = commit.limits.as_ref().filter(|_| !commit.claim.is_empty()) {
            return self.claim_limited(limits);
        }
        let mut suspects = true;
        for request in &commit.claim {
            let claimed = if request.limit > 0 { self.claim_for(request, &mut suspects)?.0 } else { Vec::new() };
            self.receipt.claimed.push(claimed);
        }
        Ok(())
    }

    /// Claims the tasks that a request may take. Also returns whether tasks were left because limits apply to them.
    pub(super) fn claim_for(
        &mut self,
        request: &ClaimRequest,
        suspects: &mut bool,
    ) -> Result<(Vec<Claimed>, bool), Abort> {
        let mut found = self.find(request, *suspects)?;
        if let Some(place) = found.suspect {
            if self.runs_suspect()? {
                found.tasks.remove(place);
                found.passed_over = true;
                *suspects = false;
            }
            found.tasks.truncate(request.limit);
            // The task on its last chance counts only if it was taken.
            *suspects &= place >= found.tasks.len();
        }
        if !found.tasks.is_empty() {
            let seqs: Vec<i64> = found.tasks.iter().map(|task| task.seq).collect();
            C::start(self, &seqs)?;
        }
        self.receipt.passed_over |= found.passed_over && found.tasks.len() < request.limit;
        Ok((found.tasks, found.limited))
    }

    /// Reads the tasks that a request may take. Most of the time a single read is enough. If rows had to be passed
    /// over, a further read is needed. It leaves out tasks on their last chance, because there may be many.
    fn find(&mut self, request: &ClaimRequest, suspects: bool) -> Result<Found, Abort> {
        let mut found = Found::default();
        // No extra row is read here. It would stay locked until the commit, and a different node would skip it.
        let mut limit = request.limit;
        let mut again = false;
        loop {
            let rows = pending(self.conn, request, self.commit.now, !again, limit)?;
            let seen_all = rows.len() < limit;
            let mut enough = false;
            for row in rows {
                if again && found.has(row.seq) {
                    continue;
                }
                enough = !found.take(row, request, self.commit, suspects);
                if enough {
                    break;
                }
            }
            self.bury(found.unreadable.drain(..))?;
            // A task under a limit must not be taken here, nor must the tasks behind it.
            if enough || seen_all || found.limited {
                return Ok(found);
            }
            again = true;
            limit = request.limit.saturating_add(found.suspect.is_some().into());
        }
    }

    /// Marks the rows that cannot run as dead.
    pub(super) fn bury(&mut self, unreadable: impl IntoIterator<Item = (i64, Unreadable)>) -> Result<(), Abort> {
        for (seq, unreadable) in unreadable {
            self.conn.run::<Bury>(&[Value::Int(seq), Value::Text(&unreadable.reason), self.now()])?;
            if let Some(task_id) = unreadable.task_id {
                // The tasks that wait for it need not wait any longer.
                let freed = unique::free_followers(self.conn, &task_id.to_string(), self.commit.now, Look::Try)?;
                self.receipt.freed_waiting |= !freed.is_empty();
            }
            self.receipt.unreadable.push(unreadable);
        }
        Ok(())
    }

    pub(super) fn runs_suspect(&mut self) -> Result<bool, Abort> {
        let values = [Value::Text(&self.node), Value::Int(LAST_CHANCE)];
        Ok(self.conn.first::<RunningSuspect, (i64,)>(&values)?.is_some())
    }
}
