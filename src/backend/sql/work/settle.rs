//! The work that follows the end of a run, common to all databases.

use diesel::QueryResult;
use diesel::sql_types::BigInt;

use super::commit::Batch;
use super::unique::{self, Look};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{Settled, Settlement};
use crate::task::ClaimToken;

statements! {
    Held -> (BigInt,): "SELECT seq FROM task_queue WHERE seq = ?1 AND claim_token = ?2";
    HeldIfFree -> (BigInt,): "SELECT seq FROM task_queue WHERE seq = ?1 AND claim_token = ?2 {skip}";
}

impl<'a, C: Conn> Batch<'a, C> {
    /// Locks the rows that the ends of runs change, and reports for each end whether a concurrent transaction has
    /// locked any of them. It does so only in a careful batch that does not wait; otherwise it reports none as busy.
    pub(in crate::backend::sql) fn busy_ends(&mut self) -> QueryResult<Vec<bool>> {
        let ends = &self.commit.settle;
        if !self.careful || self.patient {
            return Ok(vec![false; ends.len()]);
        }
        let waiting = unique::any_waiting(self.conn)?;
        let mut busy = Vec::with_capacity(ends.len());
        for end in ends {
            let followed = waiting && end.state.is_terminal();
            let free = self.is_free(end.seq, end.token)?
                && (!followed || unique::lock_followers(self.conn, &end.task_id.to_string(), Look::Try)?.is_some());
            busy.push(!free);
        }
        Ok(busy)
    }

    /// Locks a task under a claim; false when a concurrent transaction has locked it. A task whose claim no longer
    /// holds counts as free.
    pub(super) fn is_free(&mut self, seq: i64, token: ClaimToken) -> QueryResult<bool> {
        let held = [Value::Int(seq), Value::Int(token.as_i64())];
        Ok(self.conn.first::<HeldIfFree, (i64,)>(&held)?.is_some()
            || self.conn.first::<Held, (i64,)>(&held)?.is_none())
    }

    pub(super) fn accepted(&self) -> impl Iterator<Item = &'a Settlement> {
        self.written().map(|(settlement, _)| settlement)
    }

    fn written(&self) -> impl Iterator<Item = (&'a Settlement, Settled)> {
        let both = self.commit.settle.iter().zip(self.receipt.settled.iter().copied());
        both.filter(|(_, settled)| !matches!(settled, Settled::Fenced | Settled::Busy))
    }

    /// Releases the tasks that waited for a task which has ended.
    pub(in crate::backend::sql) fn free_waiting(&mut self) -> Result<(), Abort> {
        let at_its_end = |(settlement, settled): &(&Settlement, Settled)| {
            settlement.state.is_terminal() || *settled == Settled::Cancelled
        };
        let ended: Vec<&Settlement> = self.written().filter(at_its_end).map(|(settlement, _)| settlement).collect();
        if ended.is_empty() || !unique::any_waiting(self.conn)? {
            return Ok(());
        }
        for settlement in ended {
            let freed =
                unique::free_followers(self.conn, &settlement.task_id.to_string(), self.commit.now, self.look())?;
            self.receipt.freed_waiting |= !freed.is_empty();
        }
        Ok(())
    }
}
