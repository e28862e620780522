//! What a board warns of: it works, but hardly as it was meant.

use std::fmt;

use serde::Serialize;

use crate::core::Core;
use crate::name::Name;
use crate::task::DEFAULT_QUEUE;

/// Something that works, but hardly as it was meant. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthWarning {
    /// Tasks of a type that has a handler on this node go to a queue that the node does not run.
    QueueNotRun {
        /// The type.
        #[serde(rename = "type")]
        kind: Name,
        /// The queue.
        queue: Name,
    },
}

impl fmt::Display for HealthWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueNotRun { kind, queue } => write!(
                f,
                "tasks of type {kind:?} go to the queue {queue:?}, which this node does not run; add .queue({queue:?}, 10) \
                 to its builder, or .queue({queue:?}, 0) if other nodes run it"
            ),
        }
    }
}

/// Everything that there is to warn of now.
pub(super) fn warnings(core: &Core) -> Vec<HealthWarning> {
    of_handlers(core)
}

/// Handlers that never get a task by themselves.
fn of_handlers(core: &Core) -> Vec<HealthWarning> {
    let known = |queue: &str| core.config.queues.iter().any(|(name, _)| name == queue);
    let mut found = Vec::new();
    for (kind, queue) in core.registry.queues() {
        // A push that names no queue goes to the default one.
        let queue = queue.unwrap_or(DEFAULT_QUEUE);
        if !known(queue) {
            found.push(HealthWarning::QueueNotRun { kind: kind.clone(), queue: Name::from(queue) });
        }
    }
    found
}
