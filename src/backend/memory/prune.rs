//! Deletes history that retention does not keep.

use super::store::Store;
use crate::backend::{Outdated, Retention};
use crate::clock::Timestamp;
use crate::task::{TaskId, TaskState};

impl Store {
    /// The tasks that the rules do not keep, in the order of their finish.
    pub(super) fn outdated(&mut self, rules: &[Retention], now: Timestamp, limit: usize) -> Vec<Outdated> {
        let mut outdated = Vec::new();
        for rule in rules.iter().filter(|rule| rule.state.is_terminal()) {
            self.forget_moved(rule.state);
            let finished = &self.finished[rule.state as usize];
            let excess = rule
                .keep
                .map_or(0, |keep| finished.tasks.saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX)));
            let rows = &self.rows;
            let there = finished.order.iter().filter(|(at, seq)| {
                // The task may have been retried or deleted since then: its entry stays until a scan reaches it.
                rows.get(*seq).is_some_and(|row| row.finished_as(rule.state, *at))
            });
            let too_old = |at| rule.finished_before.is_some_and(|before| at < before);
            let gone = there.enumerate().take_while(|(place, (at, _))| *place < excess || too_old(*at));
            let gone = gone.filter(|(_, (_, seq))| !self.holds_for_a_period(*seq, now));
            let gone = gone.map(|(_, (at, seq))| Outdated { seq: *seq, finished_at: *at });
            outdated.extend(gone.take(limit.saturating_sub(outdated.len())));
        }
        outdated
    }

    /// True if a task has its unique key at `now` because of a period.
    fn holds_for_a_period(&self, seq: i64, now: Timestamp) -> bool {
        let Some(row) = self.rows.get(seq) else { return false };
        let unique = row.spec.extras().unique.as_ref();
        unique.is_some_and(|unique| {
            unique.until(row.spec.created_at).is_some_and(|until| now < until) && self.has_key(seq, unique)
        })
    }

    /// Deletes the tasks that are unchanged since they were found.
    pub(super) fn prune(&mut self, tasks: &[Outdated]) -> Vec<TaskId> {
        let mut gone = Vec::with_capacity(tasks.len());
        for Outdated { seq, finished_at } in tasks {
            let Some(row) = self.rows.get(*seq) else { continue };
            let (state, task_id) = (row.state, row.spec.task_id);
            if state.is_terminal() && row.finished_as(state, *finished_at) {
                self.delete(*seq);
                self.forget_moved(state);
                gone.push(task_id);
            }
        }
        gone
    }

    /// Removes entries from the front of the list of `state` as long as their tasks have left this state.
    fn forget_moved(&mut self, state: TaskState) {
        let (rows, order) = (&self.rows, &mut self.finished[state as usize].order);
        while let Some((at, seq)) = order.front()
            && !rows.get(*seq).is_some_and(|row| row.finished_as(state, *at))
        {
            order.pop_front();
        }
    }
}
