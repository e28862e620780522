//! Notices what other nodes have written, where the database does not tell.
//!
//! One statement looks at the place of the newest task and at a number that edits and settings change. It is asked often
//! while something changes, and less and less often while nothing does.
//!
//! Places are given out when a task is inserted, and seen when it is committed: one that was pushed in a long transaction
//! of an application comes to light behind places that were seen before it. So while tasks wait, and nothing is new, there
//! is an alarm with each of the rare looks, for which this node may have been one too many.

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

/// What was seen last, and when to look next.
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

    /// True when something is new since the last look, by whomever, or may have come to light late.
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

/// Says in the transaction of an edit that there was one.
pub(super) fn mark<C: Conn>(conn: &mut C) -> QueryResult<()> {
    conn.run::<Mark>(&[]).map(drop)
}
