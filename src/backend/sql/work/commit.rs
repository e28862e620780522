//! One commit: record progress, settle, insert, claim.
//!
//! A batch takes the usual for granted: claims that still hold, task ids that are new. Where it is not so, a
//! statement changes fewer rows than it should; then the transaction is rolled back and done once more, row by
//! row ([`Batch::careful`]).

use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{Commit, ProgressUpdate, Receipt};

statements! {
    SetProgress -> (): "UPDATE task_queue SET progress = ?1
        WHERE seq = ?2 AND claim_token = ?3 AND state = 'running'";
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
    /// The node as it is stored.
    pub(in crate::backend::sql) node: String,
    pub(in crate::backend::sql) receipt: Receipt,
}

impl<'a, C: Conn> Batch<'a, C> {
    pub(in crate::backend::sql) fn new(conn: &'a mut C, commit: &'a Commit, careful: bool) -> Self {
        Self { conn, commit, careful, blind: false, node: commit.node.to_string(), receipt: Receipt::default() }
    }

    pub(in crate::backend::sql) fn run(mut self) -> Result<Receipt, Abort> {
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

    fn progress(&mut self, update: &ProgressUpdate) -> Result<(), Abort> {
        let progress = serde_json::json!(update.progress).to_string();
        let values = [Value::Text(&progress), Value::Int(update.seq), Value::Int(update.token.as_i64())];
        self.conn.run::<SetProgress>(&values)?;
        Ok(())
    }
}
