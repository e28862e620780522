//! Deletes history that is no longer kept.

use std::time::Duration;

use slog::warn;

use crate::backend::{BackendError, Retention};
use crate::logging::keys;
use crate::runtime::core::{Core, Stage};
use crate::runtime::persistence::{FindOutdated, ForgetSchedules, PruneTasks};

/// How long the history of a deleted schedule is kept.
const DELETED_SCHEDULES: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most tasks that a search finds. The history is counted once for each search, and not for each transaction.
const MOST_PER_LOOK: usize = 10_000;

/// The most tasks pruned in a transaction.
const MOST_PER_PRUNE: usize = 1_000;

/// Deletes history that the retention rules do not keep, in small transactions with pauses between them.
pub(super) async fn prune_history(core: &Core) {
    loop {
        match round(core).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) if !core.has_storage() => return,
            Err(error) => {
                warn!(core.log, "history was not pruned"; keys::ERROR => %error);
                break;
            }
        }
    }
    let now = core.clock.now();
    let finished_before = core.config.keep_finished_schedules.map(|age| now - age);
    let forget = ForgetSchedules { deleted_before: now - DELETED_SCHEDULES, finished_before };
    if let Err(error) = core.persistence.ask(forget).await
        && core.has_storage()
    {
        warn!(core.log, "schedules that are over were not removed"; keys::ERROR => %error);
    }
}

/// Searches once, and deletes the tasks found; true when a further search may find more.
async fn round(core: &Core) -> Result<bool, BackendError> {
    let find = FindOutdated { rules: rules(core), now: core.clock.now(), limit: MOST_PER_LOOK };
    let outdated = core.persistence.ask(find).await?;
    let mut any = false;
    for tasks in outdated.chunks(MOST_PER_PRUNE) {
        if core.stage() != Stage::Running {
            return Ok(false);
        }
        let began = core.clock.elapsed();
        let gone = core.persistence.ask(PruneTasks { tasks: tasks.to_vec() }).await?;
        core.forget_logs(&gone);
        any |= !gone.is_empty();
        // Commits wait for the same thread, so at least half of its time stays theirs. A manual clock stands still
        // here, so the yield gives commits their turn in any case.
        tokio::task::yield_now().await;
        core.clock.sleep(core.clock.elapsed().saturating_sub(began)).await;
    }
    // Tasks that were found but not deleted are being deleted by a different node.
    Ok(any && outdated.len() == MOST_PER_LOOK)
}

fn rules(core: &Core) -> Vec<Retention> {
    let now = core.clock.now();
    let rule = |keep: &crate::config::Keep| Retention {
        state: keep.state,
        finished_before: keep.age.map(|age| now - age),
        keep: keep.count,
    };
    core.config.retention.iter().map(rule).collect()
}
