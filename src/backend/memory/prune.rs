//! Deleting history that nobody wants to keep.

use super::store::Store;
use crate::backend::{Prune, Pruned, Retention};

impl Store {
    pub(super) fn prune(&mut self, prune: &Prune) -> Pruned {
        let mut pruned = Pruned::default();
        for rule in prune.rules.iter().filter(|rule| rule.state.is_terminal()) {
            while let Some(seq) = self.next_to_prune(rule) {
                if pruned.tasks.len() >= prune.limit {
                    pruned.more = true;
                    return pruned;
                }
                pruned.tasks.extend(self.rows.get(seq).map(|row| row.spec.task_id));
                self.finished[rule.state as usize].order.pop_front();
                self.delete(seq);
            }
        }
        pruned
    }

    /// The task that finished first in the rule's state, when the rule does not keep it.
    fn next_to_prune(&mut self, rule: &Retention) -> Option<i64> {
        let finished = &mut self.finished[rule.state as usize];
        while let Some((at, seq)) = finished.order.front().copied() {
            if !self.rows.get(seq).is_some_and(|row| row.finished_as(rule.state, at)) {
                finished.order.pop_front();
                continue;
            }
            let too_old = rule.finished_before.is_some_and(|before| at < before);
            let too_many = rule.keep.is_some_and(|keep| u64::try_from(finished.tasks).unwrap_or(u64::MAX) > keep);
            return (too_old || too_many).then_some(seq);
        }
        None
    }
}
