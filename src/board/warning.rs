//! What a board warns of: it works, but hardly as it was meant.

use std::fmt;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::core::Core;
use crate::name::Name;
use crate::scheduler::Silent;
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
    /// A schedule leaves out times, because its cursor lies ahead of the clock: a clock was set ahead and back, or the cursor
    /// was moved ahead. Found within a minute.
    ScheduleSilent {
        /// Its name.
        schedule: Name,
        /// The next time that its trigger names, which it leaves out.
        leaves_out: Timestamp,
        /// When it fires next.
        until: Timestamp,
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
            Self::ScheduleSilent { schedule, leaves_out, until } => write!(
                f,
                "schedule {schedule:?} is silent until {until} and leaves out {leaves_out}: its cursor lies ahead of the \
                 clock, as after a clock that was set ahead and back; schedules().move_cursor({schedule:?}, \
                 board.clock().now()) lets it go on from now, and no time that has made its task runs twice"
            ),
        }
    }
}

/// Everything that there is to warn of now.
pub(super) fn warnings(core: &Core) -> Vec<HealthWarning> {
    let mut all = of_handlers(core);
    all.extend(of_schedules(core));
    all
}

fn of_schedules(core: &Core) -> impl Iterator<Item = HealthWarning> {
    let silent = core.agenda.silent(core.clock.now()).into_iter();
    silent.map(|Silent { name, leaves_out, until, .. }| HealthWarning::ScheduleSilent {
        schedule: name,
        leaves_out,
        until,
    })
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
