//! Lists, counts and edits of tasks, and settings of queues.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{TaskId, TaskRecord, TaskState};

/// Settings of a queue, valid on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// Its name.
    pub queue: Name,
    /// While true, no tasks are claimed from it.
    pub paused: bool,
    /// Concurrency on each node, instead of the configured value.
    pub concurrency: Option<usize>,
}

/// A change to the settings of a queue. Fields that are `None` stay unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueChange {
    /// The queue.
    pub queue: Name,
    /// Whether claims from it stop from now on.
    pub paused: Option<bool>,
    /// Concurrency on each node from now on; `Some(None)` goes back to the configured value.
    pub concurrency: Option<Option<usize>>,
}

impl QueueChange {
    /// A change that changes nothing yet.
    pub fn of(queue: impl Into<Name>) -> Self {
        Self { queue: queue.into(), paused: None, concurrency: None }
    }
}

/// Selects tasks. Every field narrows the selection; the default matches all tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskFilter {
    /// In any of these states; empty matches all states.
    pub states: Vec<TaskState>,
    /// In any of these queues; empty matches all queues.
    pub queues: Vec<String>,
    /// Of any of these types; empty matches all types.
    pub types: Vec<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Pushed at or after this time.
    pub created_from: Option<Timestamp>,
    /// Pushed before this time.
    pub created_until: Option<Timestamp>,
    /// With this text in params or last error. The case of ASCII letters is ignored, that of other letters is not. All
    /// texts of a filter together have at most 10,000 bytes.
    pub text: Option<String>,
}

impl TaskFilter {
    /// Narrows the filter to the tasks that `action` may change; `None` if no task can match.
    pub(crate) fn narrowed(&self, action: &EditAction) -> Option<Self> {
        let mut narrow = self.clone();
        if let Some(states) = action.live_only() {
            let wanted = |state: &&TaskState| self.states.is_empty() || self.states.contains(state);
            narrow.states = states.iter().filter(wanted).copied().collect();
            if narrow.states.is_empty() {
                return None;
            }
        }
        Some(narrow)
    }

    /// True if it matches every task.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the filter, because not every database can search for every text. The error names the fault.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_texts("filter", self.queues.iter().chain(&self.types).chain(&self.tag).chain(&self.text))
    }
}

/// The longest search text that databases accept, in bytes, with a safety margin: SQLite's limit for patterns is
/// 50,000.
const MOST_FILTER_BYTES: usize = 10_000;

/// Checks the texts of a filter together. The error names the fault.
pub(crate) fn check_texts<'a>(what: &str, texts: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut bytes = 0_usize;
    for text in texts {
        if text.contains('\0') {
            let start: String = text.chars().take(100).collect();
            return Err(format!("the {what} contains the character NUL in {start:?}; leave it out"));
        }
        bytes = bytes.saturating_add(text.len());
    }
    if bytes > MOST_FILTER_BYTES {
        return Err(format!(
            "the texts of the {what} have {bytes} bytes, and {MOST_FILTER_BYTES} are allowed; give fewer or shorter ones"
        ));
    }
    Ok(())
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOrder {
    /// The latest push first.
    #[default]
    NewestFirst,
    /// The earliest push first.
    OldestFirst,
}

/// The position where the next page begins. Opaque to callers, and stable while tasks are added and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub(crate) i64);

impl Cursor {
    /// The cursor after the task at `seq`.
    pub const fn after(seq: i64) -> Self {
        Self(seq)
    }

    /// The place in push order after which the next page begins.
    pub const fn seq(self) -> i64 {
        self.0
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// The position where the next page begins; `None` on the last page.
    pub next: Option<Cursor>,
}

/// The number of tasks of a queue in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateCount {
    /// The queue.
    pub queue: Name,
    /// The state.
    pub state: TaskState,
    /// The number of tasks.
    pub tasks: u64,
}

/// A change to stored tasks.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The tasks to change.
    pub selection: Selection,
    /// The change.
    pub action: EditAction,
    /// The present time.
    pub now: Timestamp,
    /// The maximum number of tasks for a filter. [`EditReport::next`] says where the remaining tasks begin.
    pub limit: usize,
    /// For a filter, only the tasks behind this position, where the previous edit ended.
    pub after: Option<Cursor>,
}

/// The tasks of an [`Edit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The tasks with these ids.
    Ids(Vec<TaskId>),
    /// The tasks that match the filter and that the action can change.
    Filter(TaskFilter),
}

/// The action of an [`Edit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditAction {
    /// Cancel; the text is the reason.
    Cancel(String),
    /// Run again, now.
    Retry,
    /// Remove.
    Delete,
    /// Change the priority.
    Reprioritise(i32),
    /// Change `run_at`.
    Reschedule(Timestamp),
}

impl EditAction {
    /// The states of the tasks that it may change, if none of these states is terminal; `None` if it may change
    /// terminal tasks.
    pub(crate) fn live_only(&self) -> Option<&'static [TaskState]> {
        use TaskState::{Pending, Retrying, Running, Scheduled, Waiting};
        match self {
            Self::Cancel(_) => Some(&[Waiting, Scheduled, Pending, Running, Retrying]),
            Self::Reprioritise(_) | Self::Reschedule(_) => Some(&[Waiting, Scheduled, Pending, Retrying]),
            Self::Retry | Self::Delete => None,
        }
    }
}

/// The maximum number of tasks that an edit by a filter looks at. So its transaction stays short, even if there are
/// many tasks and none needs a change.
pub(crate) const MOST_LOOKED_AT: usize = 5_000;

/// The result of an [`Edit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditReport {
    /// Changed tasks.
    pub changed: Vec<TaskId>,
    /// Running tasks that got a cancel request.
    pub cancelling: Vec<TaskId>,
    /// Queues in which tasks became `pending`.
    pub queues: Vec<Name>,
    /// The filter may match more tasks than this edit has looked at. An edit [`after`](Edit::after) this position
    /// continues with the rest. It does not meet the changed tasks again, even if they change again meanwhile. An edit
    /// that changed no task may return a next position too.
    pub next: Option<Cursor>,
}
