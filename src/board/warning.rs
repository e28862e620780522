//! Warnings of a board: about a setup that works, but hardly as intended.

use std::fmt;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::name::Name;
use crate::runtime::core::{Core, UnrunReason, UnrunTasks};
use crate::runtime::scheduler::Silent;
use crate::task::DEFAULT_QUEUE;

/// A setup that works, but hardly as intended. Its text says how to change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthWarning {
    /// Tasks of a typed handler go to a queue that this node does not have.
    QueueNotRun {
        /// The type.
        #[serde(rename = "type")]
        kind: Name,
        /// The queue.
        queue: Name,
    },
    /// A schedule leaves out times, because its cursor is ahead of the clock: a clock was set ahead and back, or the
    /// cursor was moved ahead. Found within a minute.
    ScheduleSilent {
        /// Its name.
        schedule: Name,
        /// The next time of its trigger, which it leaves out.
        leaves_out: Timestamp,
        /// When it fires next.
        until: Timestamp,
    },
    /// Some handlers have types whose pushes may name no queue, and this node does not have the default queue: the
    /// first [`queue`](crate::BoardBuilder::queue) replaces it.
    DefaultQueueNotRun {
        /// The types.
        types: Vec<Name>,
    },
    /// Pending tasks that no live node runs, as found within the last minute.
    TasksNotRun(UnrunTasks),
    /// A schedule that this node's code defines makes tasks that no live node runs.
    ScheduleNotRun {
        /// The schedule.
        schedule: Name,
        /// The type of its tasks.
        #[serde(rename = "type")]
        kind: Name,
        /// Their queue.
        queue: Name,
        /// Why no node runs them.
        reason: UnrunReason,
    },
}

impl fmt::Display for HealthWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueNotRun { kind, queue } => write!(
                f,
                "tasks of type {kind:?} go to the queue {queue:?}, which this node does not run; add .queue({queue:?}, 10) \
                 to its builder, or .queue({queue:?}, 0) if only other nodes run it"
            ),
            Self::DefaultQueueNotRun { types } => write!(
                f,
                "a push that names no queue goes to {DEFAULT_QUEUE:?}, which this node does not run, for .queue(...) takes \
                 its place; add .queue({DEFAULT_QUEUE:?}, 10) to its builder, or .queue({DEFAULT_QUEUE:?}, 0) if each push of \
                 {types:?} names its queue"
            ),
            Self::TasksNotRun(UnrunTasks { queue, kind, tasks, more, oldest, reason }) => {
                let more = if *more { " or more" } else { "" };
                write!(
                    f,
                    "{tasks}{more} pending tasks of type {kind:?} in the queue {queue:?}, the oldest since {oldest}, are run by \
                     no live node; {}",
                    mend(*reason, queue, kind)
                )
            }
            Self::ScheduleNotRun { schedule, kind, queue, reason } => write!(
                f,
                "the tasks of the schedule {schedule:?}, of type {kind:?} in the queue {queue:?}, are run by no live node; {}",
                mend(*reason, queue, kind)
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

fn of_schedules(core: &Core) -> impl Iterator<Item = HealthWarning> {
    let silent = core.due_list.silent(core.clock.now()).into_iter();
    silent.map(|Silent { name, leaves_out, until, .. }| HealthWarning::ScheduleSilent {
        schedule: name,
        leaves_out,
        until,
    })
}

/// Advice for tasks that no node runs.
fn mend(reason: UnrunReason, queue: &Name, kind: &Name) -> String {
    match reason {
        UnrunReason::Queue => format!("add .queue({queue:?}, 10) to the builder of a node that has handlers"),
        UnrunReason::Type => format!(
            "register a handler with .task::<T>() or .handler({kind:?}, ...) on a node that runs the queue, or delete the tasks"
        ),
    }
}

/// All current warnings.
pub(super) fn warnings(core: &Core) -> Vec<HealthWarning> {
    let mut found = of_handlers(core);
    found.extend(of_schedules(core));
    found.extend(core.unrun.tasks.lock().iter().cloned().map(HealthWarning::TasksNotRun));
    let schedules = core.unrun.schedules.lock().clone();
    found.extend(schedules.into_iter().map(|(of, reason)| HealthWarning::ScheduleNotRun {
        schedule: of.schedule,
        kind: of.kind,
        queue: of.queue,
        reason,
    }));
    found
}

/// Handlers whose tasks go to a queue that this node does not have.
fn of_handlers(core: &Core) -> Vec<HealthWarning> {
    let known = |queue: &str| core.config.queues.iter().any(|(name, _)| name == queue);
    let mut found = Vec::new();
    let mut types = Vec::new();
    for (kind, queue) in core.registry.queues() {
        match queue {
            Some(queue) if !known(queue) => {
                found.push(HealthWarning::QueueNotRun { kind: kind.clone(), queue: Name::from(queue) });
            }
            None if !known(DEFAULT_QUEUE) => types.push(kind.clone()),
            _ => {}
        }
    }
    if !types.is_empty() {
        found.push(HealthWarning::DefaultQueueNotRun { types });
    }
    found
}
