//! The facts that are published.

use actix::Message;
use serde::Serialize;

use crate::actor::Part;
use crate::backend::{Claimed, Rescued, Settlement};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::runtime::core::UnrunTasks;
use crate::schedule::{FiringCause, FiringStatus, ScheduleStatus};
use crate::task::{NodeId, Progress, TaskId, TaskRecord, TaskSpec, TaskState};

/// An event. Task events have the names of the task states.
#[derive(Clone, Debug, Serialize, Message)]
#[serde(tag = "event", rename_all = "snake_case")]
#[rtype(result = "()")]
#[non_exhaustive]
pub enum Event {
    /// Pushed, and waits for the end of the task that has its unique key; or a different time was requested meanwhile.
    Waiting(TaskFact),
    /// Pushed, to run later; or a different time was requested.
    Scheduled(TaskFact),
    /// Pushed, and may run, but not at once; or given back by its consumer. For a task that starts at once the first
    /// event is `Running`.
    Pending(TaskFact),
    /// A worker began to run it.
    Running(TaskFact),
    /// It failed and runs again.
    Retrying(TaskFact),
    /// It is done.
    Completed(TaskFact),
    /// It is a dead letter.
    Dead(TaskFact),
    /// It was cancelled.
    Cancelled(TaskFact),
    /// It reported its progress.
    Progress(TaskFact),
    /// Its outcome was rejected, because the claim no longer held.
    Fenced(TaskFact),
    /// It was taken from a node that died.
    Rescued(TaskFact),
    /// The node has started.
    NodeStarted {
        /// Its incarnation.
        node: NodeId,
        /// When it happened.
        at: Timestamp,
    },
    /// The node is stopping.
    NodeStopping {
        /// Its incarnation.
        node: NodeId,
        /// When it happened.
        at: Timestamp,
    },
    /// A queue was paused.
    QueuePaused {
        /// Its name.
        queue: Name,
    },
    /// A queue goes on.
    QueueResumed {
        /// Its name.
        queue: Name,
    },
    /// A schedule made a task.
    ScheduleFired {
        /// Its name.
        schedule: Name,
        /// The nominal time.
        nominal_at: Timestamp,
        /// The task.
        task_id: TaskId,
        /// The cause of the firing.
        cause: FiringCause,
    },
    /// A nominal time made no task: it was missed, skipped or coalesced.
    SchedulePassed {
        /// Its name.
        schedule: Name,
        /// The nominal time.
        nominal_at: Timestamp,
        /// The outcome of the nominal time.
        status: FiringStatus,
        /// How many nominal times this event stands for, at least.
        times: u64,
        /// The reason.
        reason: String,
    },
    /// A schedule does not go on by itself: it failed too often, has no time left, or its row makes no sense.
    ScheduleStopped {
        /// Its name.
        schedule: Name,
        /// Its status now.
        status: ScheduleStatus,
        /// The reason.
        reason: String,
    },
    /// Pending tasks were found that no live node runs. Published once for each queue and type, by every node that
    /// looks.
    TasksUnrun(UnrunTasks),
    /// A part of the board died and was started anew.
    PartRestarted {
        /// The part.
        part: Part,
        /// How often it was restarted so far.
        restarts: u32,
    },
}

impl Event {
    /// The task that the event is about, if there is a task.
    pub fn task(&self) -> Option<&TaskFact> {
        match self {
            Self::Waiting(fact)
            | Self::Scheduled(fact)
            | Self::Pending(fact)
            | Self::Running(fact)
            | Self::Retrying(fact)
            | Self::Completed(fact)
            | Self::Dead(fact)
            | Self::Cancelled(fact)
            | Self::Progress(fact)
            | Self::Fenced(fact)
            | Self::Rescued(fact) => Some(fact),
            _ => None,
        }
    }
}

/// The data of a task in an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskFact {
    /// The task.
    pub task_id: TaskId,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Name,
    /// Its queue.
    pub queue: Name,
    /// Its state now.
    pub state: TaskState,
    /// Attempts used up; for a running task, the number of this attempt.
    pub attempt: u32,
    /// When it happened.
    pub at: Timestamp,
    /// When it runs again, for a scheduled or retrying task.
    pub run_at: Option<Timestamp>,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// Its result: JSON text.
    pub result: Option<String>,
    /// How far it has come.
    pub progress: Option<Progress>,
}

/// Makes events.
pub(crate) struct Fact;

impl Fact {
    fn of(spec: &TaskSpec, state: TaskState, attempt: u32, at: Timestamp) -> TaskFact {
        TaskFact {
            task_id: spec.task_id,
            kind: spec.kind.clone(),
            queue: spec.queue.clone(),
            state,
            attempt,
            at,
            run_at: None,
            error: None,
            result: None,
            progress: None,
        }
    }

    pub(crate) fn in_state(fact: TaskFact) -> Event {
        match fact.state {
            TaskState::Waiting => Event::Waiting(fact),
            TaskState::Pending => Event::Pending(fact),
            TaskState::Scheduled => Event::Scheduled(fact),
            TaskState::Running => Event::Running(fact),
            TaskState::Retrying => Event::Retrying(fact),
            TaskState::Completed => Event::Completed(fact),
            TaskState::Dead => Event::Dead(fact),
            TaskState::Cancelled => Event::Cancelled(fact),
        }
    }

    pub(crate) fn pushed(state: TaskState, spec: &TaskSpec, at: Timestamp) -> Event {
        let run_at = (state == TaskState::Scheduled).then_some(spec.run_at);
        Self::in_state(TaskFact { run_at, ..Self::of(spec, state, 0, at) })
    }

    pub(crate) fn started(claimed: &Claimed, at: Timestamp) -> Event {
        Event::Running(Self::of(&claimed.spec, TaskState::Running, claimed.attempt + 1, at))
    }

    pub(crate) fn progress(claimed: &Claimed, at: Timestamp, progress: Progress) -> Event {
        let fact = Self::of(&claimed.spec, TaskState::Running, claimed.attempt + 1, at);
        Event::Progress(TaskFact { progress: Some(progress), ..fact })
    }

    pub(crate) fn settled(settlement: &Settlement, spec: &TaskSpec) -> Event {
        let end = settlement.execution.as_ref();
        let at = end.map_or(settlement.run_at, |end| end.finished_at);
        let fact = Self::of(spec, settlement.state, settlement.attempt, at);
        Self::in_state(TaskFact {
            run_at: (!settlement.state.is_terminal()).then_some(settlement.run_at),
            error: end.and_then(|end| end.error.as_deref().map(String::from)),
            result: end.and_then(|end| end.result.as_deref().map(String::from)),
            ..fact
        })
    }

    pub(crate) fn fenced(settlement: &Settlement, spec: &TaskSpec) -> Event {
        let at = settlement.execution.as_ref().map_or(settlement.run_at, |end| end.finished_at);
        Event::Fenced(Self::of(spec, settlement.state, settlement.attempt, at))
    }

    /// The state of a stored task, after a change that no run made.
    pub(crate) fn stored(record: &TaskRecord) -> Event {
        let fact = Self::bare(record.task_id, &record.kind, &record.queue, record.state, record.updated_at);
        Self::in_state(TaskFact {
            attempt: record.attempt,
            run_at: (!record.state.is_terminal()).then_some(record.run_at),
            error: record.last_error.clone(),
            ..fact
        })
    }

    pub(crate) fn rescued(rescued: &Rescued, at: Timestamp) -> Event {
        Event::Rescued(Self::bare(rescued.task_id, &rescued.kind, &rescued.queue, rescued.state, at))
    }

    pub(crate) fn bare(task_id: TaskId, kind: &Name, queue: &Name, state: TaskState, at: Timestamp) -> TaskFact {
        TaskFact {
            task_id,
            kind: kind.clone(),
            queue: queue.clone(),
            state,
            attempt: 0,
            at,
            run_at: None,
            error: None,
            result: None,
            progress: None,
        }
    }
}
