//! Requested changes to stored tasks.

use super::list::{matches, wanted_states};
use super::rows::Row;
use super::store::Store;
use crate::backend::{Cursor, Edit, EditAction, EditReport, MOST_LOOKED_AT, Selection};
use crate::clock::Timestamp;
use crate::task::TaskState;

impl Store {
    pub(super) fn edit(&mut self, edit: &Edit) -> EditReport {
        self.woken.clear();
        let mut report = EditReport::default();
        for seq in self.selected(edit, &mut report.next) {
            let Some(row) = self.rows.get(seq) else { continue };
            // The previous task of this edit may have taken the unique key that this task needs.
            if !self.can(&edit.action, seq, row, edit.now) {
                continue;
            }
            let task_id = row.spec.task_id;
            if row.state == TaskState::Running {
                report.cancelling.push(task_id);
            } else {
                report.changed.push(task_id);
            }
            self.act(seq, &edit.action, edit.now);
        }
        report.queues = std::mem::take(&mut self.woken).into_iter().collect();
        report
    }

    /// The tasks that the action changes, in the requested order or in push order.
    fn selected(&self, edit: &Edit, next: &mut Option<Cursor>) -> Vec<i64> {
        match &edit.selection {
            Selection::Ids(ids) => {
                let rows = ids.iter().filter_map(|id| self.find(*id));
                let mut seqs: Vec<i64> = rows
                    .filter(|(seq, row)| self.can(&edit.action, *seq, row, edit.now))
                    .map(|(seq, _)| seq)
                    .collect();
                let mut seen = std::collections::HashSet::new();
                seqs.retain(|seq| seen.insert(*seq));
                seqs
            }
            Selection::Filter(filter) => {
                let Some(filter) = filter.narrowed(&edit.action) else { return Vec::new() };
                let after = edit.after.map_or(0, Cursor::seq);
                let mut seqs: Vec<i64> = Vec::new();
                for (looked_at, (seq, row)) in self.rows.ascending(after, wanted_states(&filter)).enumerate() {
                    if looked_at == MOST_LOOKED_AT {
                        *next = Some(Cursor::after(seq - 1));
                        break;
                    }
                    let chosen = matches(&filter, row)
                        && would_change(&edit.action, row)
                        && self.can(&edit.action, seq, row, edit.now);
                    if chosen && seqs.len() == edit.limit {
                        *next = seqs.last().map(|seq| Cursor::after(*seq)).or(edit.after);
                        break;
                    }
                    if chosen {
                        seqs.push(seq);
                    }
                }
                seqs
            }
        }
    }

    fn can(&self, action: &EditAction, seq: i64, row: &Row, now: Timestamp) -> bool {
        let state = row.state;
        match action {
            EditAction::Cancel(_) => !state.is_terminal(),
            EditAction::Retry if state.is_terminal() => self.key_is_free_for(seq, now),
            EditAction::Retry => matches!(state, TaskState::Scheduled | TaskState::Retrying),
            EditAction::Delete => state != TaskState::Running,
            EditAction::Reprioritise(_) | EditAction::Reschedule(_) => {
                state != TaskState::Running && !state.is_terminal()
            }
        }
    }

    fn act(&mut self, seq: i64, action: &EditAction, now: Timestamp) {
        match action {
            EditAction::Cancel(reason) => self.cancel(seq, reason, now),
            EditAction::Retry => self.retry(seq, now),
            EditAction::Delete => {
                self.free_follower(seq, now);
                self.delete(seq);
            }
            EditAction::Reprioritise(priority) => {
                self.change(seq, |row| std::sync::Arc::make_mut(&mut row.spec).priority = *priority);
            }
            EditAction::Reschedule(run_at) => self.reschedule(seq, *run_at, now),
        }
    }

    pub(super) fn cancel(&mut self, seq: i64, reason: &str, now: Timestamp) {
        match self.rows.get_mut(seq) {
            Some(row) if row.state == TaskState::Running => row.rare().cancel = Some(reason.into()),
            _ => self.end_for(seq, TaskState::Cancelled, reason, now),
        }
    }

    fn retry(&mut self, seq: i64, now: Timestamp) {
        let Some(row) = self.rows.get(seq) else { return };
        let anew = row.state.is_terminal();
        self.change(seq, |row| {
            row.state = TaskState::Pending;
            row.run_at = now;
            row.updated_at = now;
            if anew {
                row.attempt = 0;
                row.crash_count = 0;
                if row.spec.extras().expires_at.is_some()
                    && let Some(extras) = &mut std::sync::Arc::make_mut(&mut row.spec).extras
                {
                    extras.expires_at = None;
                }
                if let Some(rare) = &mut row.rare {
                    rare.reason = None;
                }
            }
        });
        if anew {
            self.take_key(seq);
        }
        self.wake(seq);
    }

    fn reschedule(&mut self, seq: i64, run_at: Timestamp, now: Timestamp) {
        let Some(before) = self.rows.get(seq).map(|row| row.state) else { return };
        let state = match before {
            TaskState::Waiting => TaskState::Waiting,
            _ if run_at <= now => TaskState::Pending,
            TaskState::Pending => TaskState::Scheduled,
            other => other,
        };
        self.change(seq, |row| {
            row.run_at = run_at;
            std::sync::Arc::make_mut(&mut row.spec).run_at = run_at;
            if state != before {
                row.state = state;
                row.updated_at = now;
            }
        });
        if state == TaskState::Pending && state != before {
            self.wake(seq);
        }
    }
}

/// False if the action would leave the row unchanged. A filter skips such rows, so that they do not use up its limit.
fn would_change(action: &EditAction, row: &Row) -> bool {
    match action {
        EditAction::Cancel(_) => !row.cancel_requested(),
        EditAction::Reprioritise(priority) => row.spec.priority != *priority,
        EditAction::Reschedule(run_at) => row.run_at != *run_at,
        EditAction::Retry | EditAction::Delete => true,
    }
}
