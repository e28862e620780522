//! Lists, counts, edits and settings of queues.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{TaskId, TaskRecord, TaskState};

/// How a queue is to be run, on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// Its name.
    pub queue: Name,
    /// Nothing is claimed from it.
    pub paused: bool,
    /// Concurrency on each node, in place of the configured one.
    pub concurrency: Option<usize>,
}

/// A change to how a queue is to be run; what it does not name stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueChange {
    /// The queue.
    pub queue: Name,
    /// Whether nothing is claimed from it from now on.
    pub paused: Option<bool>,
    /// Concurrency on each node from now on; `Some(None)` goes back to the configured one.
    pub concurrency: Option<Option<usize>>,
}

impl QueueChange {
    /// A change of nothing yet.
    pub fn of(queue: impl Into<Name>) -> Self {
        Self { queue: queue.into(), paused: None, concurrency: None }
    }
}

/// Which tasks. Every field narrows it; the default matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskFilter {
    /// In one of these states; any when empty.
    pub states: Vec<TaskState>,
    /// In one of these queues; any when empty.
    pub queues: Vec<String>,
    /// Of one of these types; any when empty.
    pub types: Vec<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Pushed at or after this time.
    pub created_from: Option<Timestamp>,
    /// Pushed before this time.
    pub created_until: Option<Timestamp>,
    /// With this text in params or last error; upper and lower case of ASCII letters are the same, those of others are
    /// not. All texts of a filter together have at most 10,000 bytes.
    pub text: Option<String>,
}

impl TaskFilter {
    /// The tasks of this filter that `action` may change; nothing when there can be none.
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

    /// True when it matches every task.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it, if anything is: not every database can be asked for every text.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_texts("filter", self.queues.iter().chain(&self.types).chain(&self.tag).chain(&self.text))
    }
}

/// The most that databases take in a search, in bytes, with room to spare: SQLite's limit for patterns is 50,000.
const MOST_FILTER_BYTES: usize = 10_000;

/// What is wrong with the texts of a filter together, if anything is.
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

/// Which end of the list comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOrder {
    /// The latest push first.
    #[default]
    NewestFirst,
    /// The earliest push first.
    OldestFirst,
}

/// Where the next page begins; opaque to callers, and stable while tasks come and go.
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

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// Where the next page begins; nothing on the last.
    pub next: Option<Cursor>,
}

/// How many tasks of a queue are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateCount {
    /// The queue.
    pub queue: Name,
    /// The state.
    pub state: TaskState,
    /// How many.
    pub tasks: u64,
}

/// A change to stored tasks.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Which tasks.
    pub selection: Selection,
    /// What to do with them.
    pub action: EditAction,
    /// The time.
    pub now: Timestamp,
    /// At most so many tasks of a filter; [`EditReport::next`] tells where the others begin.
    pub limit: usize,
    /// Of a filter only the tasks behind this place: where the edit before this one ended.
    pub after: Option<Cursor>,
}

/// Which tasks an [`Edit`] is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<TaskId>),
    /// Those that match and that the action can change.
    Filter(TaskFilter),
}

/// What an [`Edit`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditAction {
    /// Call off; the text is the reason.
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
    /// The states of tasks that it may change, when these are all states before the end; nothing when tasks that have ended
    /// may be among them.
    pub(crate) fn live_only(&self) -> Option<&'static [TaskState]> {
        use TaskState::{Pending, Retrying, Running, Scheduled, Waiting};
        match self {
            Self::Cancel(_) => Some(&[Waiting, Scheduled, Pending, Running, Retrying]),
            Self::Reprioritise(_) | Self::Reschedule(_) => Some(&[Waiting, Scheduled, Pending, Retrying]),
            Self::Retry | Self::Delete => None,
        }
    }
}

/// Tasks that one edit by a filter looks at, at most: its transaction ends soon also when there is nothing to change among
/// many.
pub(crate) const MOST_LOOKED_AT: usize = 5_000;

/// What an [`Edit`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditReport {
    /// Tasks that were changed.
    pub changed: Vec<TaskId>,
    /// Running tasks that got a cancel request.
    pub cancelling: Vec<TaskId>,
    /// Queues in which tasks came to `pending`.
    pub queues: Vec<Name>,
    /// The filter may match more tasks than this edit has looked at: an edit [`after`](Edit::after) this place does the
    /// others. What it has changed it does not meet again, whatever becomes of that meanwhile. An edit that changed
    /// nothing may have a next place, too.
    pub next: Option<Cursor>,
}
