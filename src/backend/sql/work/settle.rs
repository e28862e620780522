//! What follows the ends of runs, however a database writes them.

use super::commit::Batch;
use super::unique;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::{Settled, Settlement};

impl<'a, C: Conn> Batch<'a, C> {
    pub(super) fn accepted(&self) -> impl Iterator<Item = &'a Settlement> {
        self.written().map(|(settlement, _)| settlement)
    }

    fn written(&self) -> impl Iterator<Item = (&'a Settlement, Settled)> {
        let both = self.commit.settle.iter().zip(self.receipt.settled.iter().copied());
        both.filter(|(_, settled)| *settled != Settled::Fenced)
    }

    /// Lets the tasks go on that waited for one which came to its end.
    pub(in crate::backend::sql) fn free_waiting(&mut self) -> Result<(), Abort> {
        let at_its_end = |(settlement, settled): &(&Settlement, Settled)| {
            settlement.state.is_terminal() || *settled == Settled::Cancelled
        };
        let ended: Vec<&Settlement> = self.written().filter(at_its_end).map(|(settlement, _)| settlement).collect();
        if ended.is_empty() || !unique::any_waiting(self.conn)? {
            return Ok(());
        }
        for settlement in ended {
            let freed = unique::free_followers(self.conn, &settlement.task_id.to_string(), self.commit.now)?;
            self.receipt.freed_waiting |= !freed.is_empty();
        }
        Ok(())
    }
}
