//! The next tasks for a node.

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

/// Claims before this one that may have ended in a crash: from then on at most one such task runs on a node.
pub(super) const LAST_CHANCE: i64 = 2;

/// The pending tasks of a queue in the order in which they run; `$of_types` narrows it. The index is named because a
/// database without statistics might prefer another.
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
    /// A few types.
    NextOfFew -> RowTypes: (next!("AND type IN (?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"));
    /// The types are one JSON array, so that one statement does for any number of them.
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

/// The first rows that a request may take, in order; without `suspects` none that is on its last chance.
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

/// True when there is a task that some request of the commit could take.
pub(in crate::backend::sql) fn any<C: Conn>(conn: &mut C, commit: &Commit) -> QueryResult<bool> {
    for request in commit.claim.iter().filter(|request| request.limit > 0) {
        if !pending(conn, request, commit.now, true, 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The task in a row; `before` is the one before it, which is often of the same type: then they share its name.
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

/// What one request found.
#[derive(Default)]
struct Found {
    tasks: Vec<Claimed>,
    /// Where in `tasks` the one on its last chance is.
    suspect: Option<usize>,
    /// Another one was left where it is.
    passed_over: bool,
    /// A task was left because a limit applies to it.
    limited: bool,
    /// Rows that cannot run.
    unreadable: Vec<(i64, Unreadable)>,
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

    /// Claims what a request may take, and tells whether it left tasks because limits apply to them.
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
            // Only the one that was taken counts.
            *suspects &= place >= found.tasks.len();
        }
        if !found.tasks.is_empty() {
            let seqs: Vec<i64> = found.tasks.iter().map(|task| task.seq).collect();
            C::start(self, &seqs)?;
        }
        self.receipt.passed_over |= found.passed_over && found.tasks.len() < request.limit;
        Ok((found.tasks, found.limited))
    }

    /// Reads what a request may take. Most of the time one look is enough; another one is needed when rows had to be
    /// passed over, and then leaves out those on their last chance, which may be many.
    fn find(&mut self, request: &ClaimRequest, suspects: bool) -> Result<Found, Abort> {
        let mut found = Found::default();
        // Not one more than is taken: it would be locked until the commit, and another node would pass it by.
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
            // What a limit applies to is not to be taken here, and neither is what stands behind it.
            if enough || seen_all || found.limited {
                return Ok(found);
            }
            again = true;
            limit = request.limit.saturating_add(found.suspect.is_some().into());
        }
    }

    /// Sets aside the rows that cannot run.
    pub(super) fn bury(&mut self, unreadable: impl IntoIterator<Item = (i64, Unreadable)>) -> Result<(), Abort> {
        for (seq, unreadable) in unreadable {
            self.conn.run::<Bury>(&[Value::Int(seq), Value::Text(&unreadable.reason), self.now()])?;
            if let Some(task_id) = unreadable.task_id {
                // What waits for it need not wait any longer.
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
