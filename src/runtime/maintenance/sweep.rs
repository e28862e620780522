//! A round of upkeep, for any caller.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slog::{info, warn};

use crate::backend::{BackendError, Sweep, SweepReport};
use crate::clock::Timestamp;
use crate::logging::keys;
use crate::runtime::core::Core;
use crate::runtime::events::{Event, Fact};
use crate::runtime::persistence::SweepTasks;
use crate::runtime::queue::Configure;
use crate::runtime::queue::delivery::{Held, cancelled, ended};
use crate::runtime::queue::inbox::{Holder, SettleRequest};
use crate::runtime::worker::CancelReason;
use crate::task::{ExecutionStatus, TaskState};

/// The most tasks for each kind of upkeep in a transaction.
const MOST_PER_SWEEP: usize = 1_000;

/// A round of upkeep; safe to repeat at any time.
pub(crate) async fn sweep(core: &Arc<Core>) -> Result<SweepReport, BackendError> {
    core.wake_held();
    expire_deliveries(core);
    core.inbox.ripen(core.clock.elapsed());
    if core.wall_jumped() {
        // Leases are in wall time. So no node is taken for dead before all nodes had time for a heartbeat by the new
        // time.
        core.lease.missed();
    }
    let healthy = core.lease.healthy_for(core.clock.elapsed());
    let sweep = Sweep {
        now: core.clock.now(),
        node: core.node,
        // After an outage the other nodes get time for a heartbeat first.
        rescue: core.lease.is_safe(core.clock.elapsed(), Duration::ZERO)
            && healthy.is_some_and(|span| span >= core.config.heartbeat()),
        crash_limit: core.config.crash_limit,
        limit: MOST_PER_SWEEP,
        awaited: core.awaited.ids(),
    };
    let now = sweep.now;
    let look = core.looks.begin();
    let report = core.persistence.ask(SweepTasks { sweep }).await?;
    apply(core, &report, now);
    core.queue.poke(Configure { settings: report.queues.clone(), limits: report.limits.clone(), look });
    core.publish_stored(&report.expired).await;
    Ok(report)
}

/// Applies the findings of a round: publishes events, ends waits, cancels runs and hands in hints.
fn apply(core: &Arc<Core>, report: &SweepReport, now: Timestamp) {
    for rescued in &report.rescued {
        core.counters.rescued.fetch_add(1, Ordering::Relaxed);
        warn!(core.log, "task rescued from a dead node"; keys::TASK_ID => %rescued.task_id,
            keys::NODE => %rescued.node, keys::STATE => %rescued.state);
        core.events.publish(|| Fact::rescued(rescued, now));
        if rescued.state == TaskState::Dead {
            let fact = Fact::bare(rescued.task_id, &rescued.kind, &rescued.queue, rescued.state, now);
            core.events.publish(|| Event::Dead(fact));
        }
        if rescued.state.is_terminal() {
            core.awaited.ended(rescued.task_id);
        }
    }
    for task_id in &report.expired {
        info!(core.log, "task expired before it started"; keys::TASK_ID => %task_id);
        core.awaited.ended(*task_id);
    }
    for task_id in &report.ended {
        core.awaited.ended(*task_id);
    }
    for task_id in &report.cancel {
        core.cancel_run(*task_id, &CancelReason::Requested(String::new()));
    }
    let rescued = report.rescued.iter().map(|rescued| &rescued.queue);
    let hints: Vec<_> = report.promoted.iter().chain(rescued).cloned().collect();
    if !hints.is_empty() {
        core.inbox.hand_in(|g| g.hints.extend(hints));
    }
}

/// Settles deliveries whose time has run out: as timed out, or as cancelled when that was requested.
fn expire_deliveries(core: &Core) {
    let now = core.clock.elapsed();
    let in_time = |held: &Held| held.deadline.is_none_or(|deadline| now < deadline);
    if core.deliveries.lock().values().all(in_time) {
        return;
    }
    // In a single step, because a claim must be held somewhere at every moment.
    core.inbox.hand_in(|g| {
        core.deliveries.lock().retain(|_, held| {
            let keep = in_time(held);
            if !keep {
                g.settles.push(late_delivery(core, held));
            }
            keep
        });
    });
}

fn late_delivery(core: &Core, held: &Held) -> SettleRequest {
    let (claimed, now) = (&held.claimed, core.clock.now());
    let settlement = if let Some(CancelReason::Requested(reason)) = held.cancel.reason() {
        cancelled(claimed, held.started_at, now, reason)
    } else {
        let again = claimed.attempt + 1 < claimed.spec.max_attempts;
        let state = if again { TaskState::Pending } else { TaskState::Dead };
        let text = Some("its consumer did not settle it in time".into());
        ended(claimed, held.started_at, now, state, ExecutionStatus::Timeout, None, text)
    };
    SettleRequest { settlement, spec: Arc::clone(&claimed.spec), holder: Holder::Delivery(None) }
}
