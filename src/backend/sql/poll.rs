//! Polls for changes by other nodes, where the database does not notify.
//!
//! A single statement reads the `seq` of the newest task, and a number that edits and settings increment. It runs often
//! while there are changes. Without changes, the pause between polls doubles up to a limit.
//!
//! A task gets its `seq` at the insert, but becomes visible at the commit. So a task that was pushed in a long
//! transaction of an application can appear below a `seq` that was already seen. Therefore, while tasks are pending and
//! nothing is new, each poll at the longest pause reports a change, although there may be none.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable};
use parking_lot::Mutex;

use super::conn::Conn;
use super::statement::statements;
use crate::backend::BackendError;
use crate::clock::moment_after;

statements! {
    Look -> (Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>): "SELECT (SELECT max(seq) FROM task_queue),
        (SELECT version FROM change_mark WHERE name = 'edits'),
        (SELECT seq FROM task_queue WHERE state = 'pending' LIMIT 1)";
    Mark -> (): "UPDATE change_mark SET version = version + 1 WHERE name = 'edits'";
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(800);

/// The state seen by the last poll, and the time of the next poll.
#[derive(Debug)]
pub(super) struct Poll(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    seq: i64,
    edits: i64,
    pause: Duration,
    next: Instant,
}

impl Poll {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Seen { seq: 0, edits: 0, pause: SHORTEST, next: Instant::now() }))
    }

    /// True if something changed since the last poll, by this node or any other, or may have become visible late.
    pub(super) fn look<C: Conn>(&self, conn: &mut C) -> QueryResult<bool> {
        let found = conn.first::<Look, (Option<i64>, Option<i64>, Option<i64>)>(&[])?;
        let (seq, edits, pending) = found.unwrap_or_default();
        let (seq, edits) = (seq.unwrap_or(0), edits.unwrap_or(0));
        let mut seen = self.0.lock();
        let new = seq > seen.seq || edits != seen.edits;
        let pause = if new { SHORTEST } else { (seen.pause * 2).min(LONGEST) };
        let late = pending.is_some() && seen.pause == LONGEST;
        *seen = Seen { seq: seq.max(seen.seq), edits, pause, next: Instant::now() + pause };
        Ok(new || late)
    }

    /// See [`Backend::watch`](crate::backend::Backend::watch).
    pub(super) fn watch(
        &self,
        timeout: Duration,
        look: impl Fn(&Self) -> Result<bool, BackendError>,
    ) -> Result<bool, BackendError> {
        let deadline = moment_after(timeout);
        loop {
            let next = self.0.lock().next;
            if next > deadline {
                std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                return Ok(false);
            }
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            if look(self)? {
                return Ok(true);
            }
        }
    }
}

/// Records, in the transaction of an edit, that something changed.
pub(super) fn mark<C: Conn>(conn: &mut C) -> QueryResult<()> {
    conn.run::<Mark>(&[]).map(drop)
}
