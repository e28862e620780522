//! Upkeep: due tasks, expired tasks, tasks of dead nodes, and tasks that a node releases.

use std::collections::HashSet;

use super::rows::{Claim, Row};
use super::store::Store;
use crate::backend::{ExecutionEnd, NodeBeat, NodeRecord, Released, Rescued, Sweep, SweepReport};
use crate::clock::Timestamp;
use crate::task::{ClaimToken, ExecutionStatus, NodeId, TaskId, TaskState};

const LOST: &str = "its node died or lost its lease while it ran";

impl Store {
    pub(super) fn sweep(&mut self, sweep: &Sweep) -> SweepReport {
        self.woken.clear();
        let mut report = SweepReport::default();
        // Runs before promotion, because a task that is both due and expired must not run.
        self.expire(sweep, &mut report);
        self.promote(sweep, &mut report);
        if sweep.rescue {
            self.rescue(sweep, &mut report);
        }
        report.promoted = std::mem::take(&mut self.woken).into_iter().collect();
        report.next_due = self.next_due(sweep.now);
        report.cancel = self.cancels_for(sweep.node);
        report.queues = self.settings.values().cloned().collect();
        report.limits = self.limiter.list();
        let ended = |id: &TaskId| self.find(*id).is_none_or(|(_, row)| row.state.is_terminal());
        report.ended = sweep.awaited.iter().copied().filter(ended).collect();
        report
    }

    fn expire(&mut self, sweep: &Sweep, report: &mut SweepReport) {
        let over = self.expiring.range(..=(sweep.now, i64::MAX)).map(|(_, seq)| *seq);
        for seq in bounded(over, sweep.limit, &mut report.more) {
            let Some(row) = self.rows.get(seq) else { continue };
            report.expired.push(row.spec.task_id);
            let by = row.expires_at().unwrap_or(sweep.now);
            self.end_for(seq, TaskState::Cancelled, &format!("expired: not started by {by}"), sweep.now);
        }
    }

    fn promote(&mut self, sweep: &Sweep, report: &mut SweepReport) {
        let due = self.due.range(..=(sweep.now, i64::MAX)).map(|(_, seq)| *seq);
        for seq in bounded(due, sweep.limit, &mut report.more) {
            self.move_to(seq, TaskState::Pending, sweep.now);
        }
    }

    fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let after = (now, i64::MAX);
        let ahead = |(time, _): &(Timestamp, i64)| *time > now;
        let run = self.due.range(after..).find(|entry| ahead(entry));
        let expiry = self.expiring.range(after..).find(|entry| ahead(entry));
        run.into_iter().chain(expiry).map(|(time, _)| *time).min()
    }

    fn rescue(&mut self, sweep: &Sweep, report: &mut SweepReport) {
        let alive = |node: &NodeRecord| node.lease_until >= sweep.now;
        let nodes = &self.nodes;
        // The sweeping node is alive, even if its row says otherwise.
        let dead = |node: NodeId| node != sweep.node && !nodes.get(&node).is_some_and(alive);
        let orphaned = |row: &Row| row.holder().is_some_and(dead);
        let orphans = self.running_where(orphaned);
        for seq in bounded(orphans.into_iter(), sweep.limit, &mut report.more) {
            report.rescued.extend(self.rescue_one(seq, sweep));
        }
        // The row of a dead node stays until the last of its tasks is rescued.
        let holders: HashSet<NodeId> = self.running.iter().filter_map(|seq| self.rows.get(*seq)?.holder()).collect();
        self.nodes.retain(|id, node| *id == sweep.node || alive(node) || holders.contains(id));
    }

    fn rescue_one(&mut self, seq: i64, sweep: &Sweep) -> Option<Rescued> {
        let row = self.rows.get_mut(seq)?;
        let claim = row.claim?;
        let asked = row.rare.as_mut().and_then(|rare| rare.cancel.take());
        let crashes = row.crash_count;
        let (state, reason) = match asked {
            Some(reason) => (TaskState::Cancelled, Some(reason)),
            None if crashes >= sweep.crash_limit => {
                (TaskState::Dead, Some(format!("crash loop: its node died {crashes} times while it ran").into()))
            }
            None => (TaskState::Pending, None),
        };
        self.change(seq, |row| {
            row.end = Some(lost(row, claim, sweep.now));
            row.rare().reason = reason;
            row.state = state;
            row.updated_at = sweep.now;
        });
        if state == TaskState::Pending {
            self.wake(seq);
        }
        let spec = &self.rows.get(seq)?.spec;
        Some(Rescued {
            task_id: spec.task_id,
            kind: spec.kind.clone(),
            queue: spec.queue.clone(),
            node: claim.node,
            state,
        })
    }

    fn cancels_for(&self, node: NodeId) -> Vec<TaskId> {
        let asked = self.running_where(|row| row.holder() == Some(node) && row.cancel_requested());
        asked.into_iter().filter_map(|seq| Some(self.rows.get(seq)?.spec.task_id)).collect()
    }

    pub(super) fn heartbeat(&mut self, beat: &NodeBeat) {
        let record = NodeRecord {
            node_id: beat.node_id,
            name: beat.name.clone(),
            started_at: beat.started_at,
            heartbeat_at: beat.now,
            lease_until: beat.now + beat.lease,
            version: beat.version.clone(),
            queues: beat.queues.clone(),
            types: beat.types.clone(),
            pulls: beat.pulls.clone(),
        };
        self.nodes.insert(beat.node_id, record);
    }

    pub(super) fn release(
        &mut self,
        node: NodeId,
        keep: &[(TaskId, ClaimToken)],
        retire: bool,
        now: Timestamp,
    ) -> Released {
        let keep: HashSet<&(TaskId, ClaimToken)> = keep.iter().collect();
        let given_back = |row: &Row| {
            let kept = row.claim.is_some_and(|claim| keep.contains(&(row.spec.task_id, claim.token)));
            row.holder() == Some(node) && !kept
        };
        let seqs = self.running_where(given_back);
        for seq in &seqs {
            self.change(*seq, |row| {
                let asked = row.rare.as_mut().and_then(|rare| rare.cancel.take());
                row.crash_count = row.crash_count.saturating_sub(1);
                row.state = if asked.is_some() { TaskState::Cancelled } else { TaskState::Pending };
                row.updated_at = now;
                if asked.is_some() {
                    row.rare().reason = asked;
                }
            });
        }
        if retire {
            self.nodes.remove(&node);
        }
        Released { tasks: u64::try_from(seqs.len()).unwrap_or(u64::MAX) }
    }
}

/// The first `limit` of the tasks. Sets `more` if there were further tasks.
fn bounded(seqs: impl Iterator<Item = i64>, limit: usize, more: &mut bool) -> Vec<i64> {
    let mut seqs: Vec<i64> = seqs.take(limit.saturating_add(1)).collect();
    *more |= seqs.len() > limit;
    seqs.truncate(limit);
    seqs
}

/// The history entry of a run whose node died.
fn lost(row: &Row, claim: Claim, now: Timestamp) -> ExecutionEnd {
    ExecutionEnd {
        attempt: row.attempt.saturating_add(1),
        status: ExecutionStatus::Lost,
        started_at: claim.started_at,
        finished_at: now,
        result: None,
        error: Some(LOST.into()),
    }
}
