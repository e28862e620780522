//! A commit: record progress, settle, insert, claim.
//!
//! A batch assumes the usual case: claims still hold, and task ids are new. If this does not hold, a statement changes
//! fewer rows than it should. The transaction is then rolled back and repeated row by row ([`Batch::careful`]).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{BackendError, Commit, ProgressUpdate, Receipt};

statements! {
    SetProgress -> (): "UPDATE task_queue SET progress = ?1
        WHERE seq = ?2 AND claim_token = ?3 AND state = 'running'";
}

/// The most bytes of a statement for many rows.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
const MOST_BYTES: usize = 1 << 20;
/// The most bytes of a row besides its largest text.
const REST_OF_A_ROW: usize = 16 << 10;

/// Parts of a commit that are deferred, because a concurrent transaction, not yet ended, had them locked.
#[derive(Clone, Debug, Default)]
pub(in crate::backend::sql) struct Aside {
    /// Groups of pushed tasks, by their index in the commit.
    pub(in crate::backend::sql) groups: BTreeSet<usize>,
    /// Defers all other tasks with keys that no row has. Storing any of them may also meet a busy key, and finding that
    /// out undoes the try.
    pub(in crate::backend::sql) fresh: bool,
}

impl Aside {
    pub(in crate::backend::sql) fn add(&mut self, group: usize) {
        self.groups.insert(group);
        self.fresh = true;
    }
}

/// A commit in progress.
pub(in crate::backend::sql) struct Batch<'a, C> {
    pub(in crate::backend::sql) conn: &'a mut C,
    pub(in crate::backend::sql) commit: &'a Commit,
    /// Works row by row, with a check before each write.
    pub(in crate::backend::sql) careful: bool,
    /// Also stores tasks with extras without a locking read. If a key is already there, that is a surprise or an error,
    /// and the work must be repeated with care.
    pub(in crate::backend::sql) blind: bool,
    /// Runs outside of a transaction: the rows that its first statement wrote stay, even if the next statement fails.
    #[cfg_attr(not(feature = "mysql"), allow(dead_code, reason = "only MySQL stores such a row in another way"))]
    pub(in crate::backend::sql) alone: bool,
    /// Runs in a transaction of the application, which waits for rows that concurrent transactions have locked. All
    /// other batches do not wait: see [`locks`](super::locks).
    pub(in crate::backend::sql) patient: bool,
    /// The deferred parts.
    pub(in crate::backend::sql) aside: Aside,
    /// Claims wait for the limits that concurrent claims have locked. False after a wait that was too long: then tasks under
    /// locked limits are held back, so that the rest of the commit does not wait with them.
    pub(in crate::backend::sql) awaits_limits: bool,
    /// The node id as it is stored.
    pub(in crate::backend::sql) node: String,
    pub(in crate::backend::sql) receipt: Receipt,
    /// The largest packet that the server takes, in bytes.
    pub(in crate::backend::sql) packet: usize,
}

impl<'a, C: Conn> Batch<'a, C> {
    pub(in crate::backend::sql) fn new(conn: &'a mut C, commit: &'a Commit, careful: bool) -> Self {
        let node = commit.node.to_string();
        let (aside, receipt) = (Aside::default(), Receipt::default());
        Self {
            conn,
            commit,
            careful,
            blind: false,
            alone: false,
            patient: false,
            aside,
            awaits_limits: true,
            node,
            receipt,
            packet: usize::MAX,
        }
    }

    /// The most bytes of a statement for many rows. Larger statements are not faster.
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    pub(in crate::backend::sql) fn most_bytes(&self) -> usize {
        if self.packet == usize::MAX { usize::MAX } else { MOST_BYTES.min(self.packet / 2) }
    }

    pub(in crate::backend::sql) fn run(mut self) -> Result<Receipt, Abort> {
        self.check_sizes()?;
        for update in &self.commit.progress {
            self.progress(update)?;
        }
        if !self.commit.settle.is_empty() {
            C::settle(&mut self)?;
        }
        self.insert()?;
        self.claim()?;
        Ok(self.receipt)
    }

    pub(in crate::backend::sql) fn now(&self) -> Value<'static> {
        Value::Int(self.commit.now.as_micros())
    }

    /// The start time of claimed tasks. A commit may have waited for a lock since it was sent, and then also claims
    /// tasks that were pushed meanwhile.
    pub(in crate::backend::sql) fn starts_at(&self) -> Value<'static> {
        let waited = self.commit.sent.map_or(Duration::ZERO, |sent| sent.elapsed());
        Value::Int((self.commit.now + waited).as_micros())
    }

    /// A server that gets too large a packet cuts the connection. That would look like a server that is away.
    fn check_sizes(&self) -> Result<(), Abort> {
        if self.packet == usize::MAX {
            return Ok(());
        }
        let tasks = self.commit.insert.iter().flat_map(|group| &group.tasks).map(|task| task.spec.params.len());
        let ends = self.commit.settle.iter().filter_map(|settlement| settlement.execution.as_ref());
        let ends = ends.map(|end| [&end.result, &end.error].into_iter().flatten().map(|text| text.len()).sum());
        let Some(bytes) = tasks.chain(ends).max().filter(|bytes| bytes + REST_OF_A_ROW > self.packet) else {
            return Ok(());
        };
        let message = format!(
            "a task has {bytes} bytes, and the server takes {} at a time; raise its max_allowed_packet, or make the task \
            smaller",
            self.packet
        );
        Err(BackendError::Permanent { operation: "commit", message }.into())
    }

    fn progress(&mut self, update: &ProgressUpdate) -> Result<(), Abort> {
        let progress = serde_json::json!(update.progress).to_string();
        let values = [Value::Text(&progress), Value::Int(update.seq), Value::Int(update.token.as_i64())];
        // The next update repeats the progress, so a locked row is not worth waiting for.
        if !self.careful || self.patient || self.is_free(update.seq, update.token)? {
            self.conn.run::<SetProgress>(&values)?;
        }
        Ok(())
    }
}
