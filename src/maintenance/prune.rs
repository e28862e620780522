//! What is no longer kept.

use std::time::Duration;

use slog::warn;

use crate::backend::{Prune, Retention};
use crate::core::{Core, Stage};
use crate::logging::keys;
use crate::persistence::{ForgetSchedules, PruneTasks};

/// How long the history of a deleted schedule is kept.
const DELETED_SCHEDULES: Duration = Duration::from_secs(30 * 24 * 3600);

/// Tasks pruned in one transaction.
const MOST_PER_PRUNE: usize = 1_000;

/// Deletes what the retention rules do not keep, in small transactions.
pub(super) async fn prune_history(core: &Core) {
    let now = core.clock.now();
    let rule = |keep: &crate::config::Keep| Retention {
        state: keep.state,
        finished_before: keep.age.map(|age| now - age),
        keep: keep.count,
    };
    let rules: Vec<_> = core.config.retention.iter().map(rule).collect();
    while core.stage() == Stage::Running {
        let prune = Prune { rules: rules.clone(), limit: MOST_PER_PRUNE };
        match core.persistence.ask(PruneTasks { prune }).await {
            Ok(pruned) => {
                core.forget_logs(&pruned.tasks);
                if !pruned.more {
                    break;
                }
            }
            Err(error) => {
                warn!(core.log, "history was not pruned"; keys::ERROR => %error);
                break;
            }
        }
    }
    let forget = ForgetSchedules { before: now - DELETED_SCHEDULES };
    if let Err(error) = core.persistence.ask(forget).await {
        warn!(core.log, "deleted schedules were not removed"; keys::ERROR => %error);
    }
}
