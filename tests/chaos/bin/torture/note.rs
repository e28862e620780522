//! The ledger: a file per process, outside the database. Lines written before a `kill -9` are not lost, because the
//! kernel already has them.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use callboard::{NodeId, TaskId};
use serde::{Deserialize, Serialize};

/// A line of a ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Microseconds by the clock of the machine. All processes share this clock, and no test sets it.
    pub(crate) at: i64,
    #[serde(flatten)]
    pub(crate) note: Note,
}

/// A run of a task on the node of the ledger. `started` distinguishes it from all further runs; it is also stored in
/// the run's execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct RunId {
    pub(crate) task: TaskId,
    pub(crate) started: i64,
}

/// A task that is about to be pushed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) id: TaskId,
    /// Its unique key.
    pub(crate) key: Option<String>,
    pub(crate) tagged: bool,
}

/// A change to tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Edit {
    Cancel,
    Retry,
    Reprioritise,
}

/// An entry of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Note {
    /// The board of this ledger runs.
    Node {
        node: NodeId,
    },
    Stopped {},
    /// Noted before a push. Either all of its tasks are stored or none.
    Pushing {
        tasks: Vec<Wanted>,
    },
    /// The answer to a push: `got` is in the order of `ids`.
    Pushed {
        ids: Vec<TaskId>,
        got: Vec<TaskId>,
    },
    /// The push failed because its unique key is held.
    Refused {
        id: TaskId,
    },
    /// It is unknown whether the tasks are stored.
    Open {
        ids: Vec<TaskId>,
    },
    /// Pushed in a transaction that was rolled back.
    RolledBack {
        id: TaskId,
    },
    Begin {
        run: RunId,
    },
    End {
        run: RunId,
        how: How,
    },
    /// Noted before an edit of a single task.
    Editing {
        edit: Edit,
        task: TaskId,
    },
    /// Noted before an edit of all tagged tasks.
    EditingAll {
        edit: Edit,
    },
    /// This node was told that the queue is paused.
    Paused {
        queue: String,
    },
    /// The queue is paused, and this node was told that none of its tasks run here.
    Drained {
        queue: String,
    },
    /// Noted before the queue is resumed.
    Resuming {
        queue: String,
    },
    Rescued {
        task: TaskId,
    },
    Fenced {
        task: TaskId,
    },
    /// This process was not scheduled for `late_ms`, or its lease has ended.
    Unwell {
        late_ms: u64,
        lease: bool,
    },
    /// A forbidden event.
    Error {
        text: String,
    },
}

/// The end of a run as its handler saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Done,
    Failed,
    Fatal,
    Snoozed,
    /// The run was asked to end, and ended.
    Heard,
    /// The run's future was dropped.
    Dropped,
}

/// The ledger's file.
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(Self)
    }

    /// Notes an entry as a single line, written by a single call.
    pub(crate) fn note(&self, note: Note) {
        let line = Line { at: now(), note };
        let text = serde_json::to_string(&line).map(|text| text + "\n").unwrap_or_default();
        let written = (&self.0).write(text.as_bytes());
        // Abort, because a ledger with gaps would prove nothing.
        if text.is_empty() || !written.is_ok_and(|written| written == text.len()) {
            eprintln!("the ledger cannot be written");
            std::process::abort();
        }
    }

    /// Notes a forbidden event.
    pub(crate) fn error(&self, what: &str, error: &dyn std::fmt::Display) {
        self.note(Note::Error { text: format!("{what}: {error}") });
    }
}

/// The machine's time in microseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
