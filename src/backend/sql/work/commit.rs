//! One commit: record progress, settle, insert, claim.
//!
//! A batch takes the usual for granted: claims that still hold, task ids that are new. Where it is not so, a
//! statement changes fewer rows than it should; then the transaction is rolled back and done once more, row by
//! row ([`Batch::careful`]).

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
/// What a row has beside its largest text, at most.
const REST_OF_A_ROW: usize = 16 << 10;

/// What is left out of a commit, because another transaction, which has not ended, was found to have it in hand.
#[derive(Clone, Debug, Default)]
pub(in crate::backend::sql) struct Aside {
    /// Groups of pushed tasks, by their place in the commit.
    pub(in crate::backend::sql) groups: BTreeSet<usize>,
    /// Other tasks with keys that no row has: each of them may be found like that by a try that is undone.
    pub(in crate::backend::sql) fresh: bool,
}

impl Aside {
    pub(in crate::backend::sql) fn add(&mut self, group: usize) {
        self.groups.insert(group);
        self.fresh = true;
    }
}

/// A commit under way.
pub(in crate::backend::sql) struct Batch<'a, C> {
    pub(in crate::backend::sql) conn: &'a mut C,
    pub(in crate::backend::sql) commit: &'a Commit,
    /// Row by row, with a look at each before it is written.
    pub(in crate::backend::sql) careful: bool,
    /// Stores what has extras, too, without a look that locks: a key that is there already is a surprise or an error, and
    /// the work is to be done once more with care.
    pub(in crate::backend::sql) blind: bool,
    /// Outside of a transaction: what its first statement has written stays, whatever becomes of the next.
    pub(in crate::backend::sql) alone: bool,
    /// In a transaction of the application, which waits for what others have locked. All others do not: see
    /// [`locks`](super::locks).
    pub(in crate::backend::sql) patient: bool,
    /// What is left out.
    pub(in crate::backend::sql) aside: Aside,
    /// The node as it is stored.
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
            node,
            receipt,
            packet: usize::MAX,
        }
    }

    /// How many bytes a statement for many rows may have. Larger ones are not faster.
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

    /// When what is claimed starts: a commit may have waited for a lock since it was sent, and claims what was pushed
    /// meanwhile.
    pub(in crate::backend::sql) fn starts_at(&self) -> Value<'static> {
        let waited = self.commit.sent.map_or(Duration::ZERO, |sent| sent.elapsed());
        Value::Int((self.commit.now + waited).as_micros())
    }

    /// A server that gets too much cuts the connection, and looks like one that is away.
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
        // The next one says it again: it is not worth waiting for.
        if !self.careful || self.patient || self.is_free(update.seq, update.token)? {
            self.conn.run::<SetProgress>(&values)?;
        }
        Ok(())
    }
}
