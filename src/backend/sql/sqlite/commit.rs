//! One commit: settle, insert, record progress, claim.
//!
//! A batch takes the usual for granted: claims that still hold, task ids that are new. Where it is not so, a
//! statement changes fewer rows than it should; then the transaction is rolled back and done once more, row by
//! row ([`Batch::careful`]).

use diesel::RunQueryDsl;
use diesel::sqlite::SqliteConnection;

use super::errors::Abort;
use super::{Sqlite, claim};
use crate::backend::sql::statement::{Value, bind, statements};
use crate::backend::{BackendError, Commit, ProgressUpdate, Receipt};

statements! {
    SetProgress -> (): "UPDATE task_queue SET progress = ?1
        WHERE seq = ?2 AND claim_token = ?3 AND state = 'running'";
}

impl Sqlite {
    pub(super) fn commit_batch(&self, commit: &Commit) -> Result<Receipt, BackendError> {
        let only_claims = commit.settle.is_empty() && commit.insert.is_empty() && commit.progress.is_empty();
        // Looking first: asking for the write lock would keep other processes from writing.
        if only_claims && !self.read("claim", |conn| claim::any(conn, commit))? {
            let claimed = commit.claim.iter().map(|_| Vec::new()).collect();
            return Ok(Receipt { claimed, ..Receipt::default() });
        }
        match self.write("commit", |conn| Batch::new(conn, commit, false).run()) {
            Err(Abort::Surprise) => self.write("commit", |conn| Batch::new(conn, commit, true).run()),
            outcome => outcome,
        }
        .map_err(Abort::into_error)
    }
}

/// A commit under way.
pub(super) struct Batch<'a> {
    pub(super) conn: &'a mut SqliteConnection,
    pub(super) commit: &'a Commit,
    /// Row by row, with a look at each before it is written.
    pub(super) careful: bool,
    /// The node as it is stored.
    pub(super) node: String,
    pub(super) receipt: Receipt,
}

impl<'a> Batch<'a> {
    fn new(conn: &'a mut SqliteConnection, commit: &'a Commit, careful: bool) -> Self {
        Self { conn, commit, careful, node: commit.node.to_string(), receipt: Receipt::default() }
    }

    fn run(mut self) -> Result<Receipt, Abort> {
        for update in &self.commit.progress {
            self.progress(update)?;
        }
        self.settle()?;
        self.insert()?;
        self.claim()?;
        Ok(self.receipt)
    }

    pub(super) fn now(&self) -> Value<'static> {
        Value::Int(self.commit.now.as_micros())
    }

    fn progress(&mut self, update: &ProgressUpdate) -> Result<(), Abort> {
        let progress = serde_json::json!(update.progress).to_string();
        let values = [Value::Text(&progress), Value::Int(update.seq), Value::Int(update.token.as_i64())];
        bind::<SetProgress>(&values).execute(self.conn)?;
        Ok(())
    }
}
