//! The ledger: one file for each process, outside of the database. What was written before a `kill -9` stays, for the
//! kernel has it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use callboard::{NodeId, TaskId};
use serde::{Deserialize, Serialize};

/// One line of a ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Microseconds by the clock of the machine, which all processes share and nobody sets.
    pub(crate) at: i64,
    #[serde(flatten)]
    pub(crate) note: Note,
}

/// One run of a task on the node of the ledger. `started` tells it from all others, and stands in its execution as well.
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

/// What is noted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Note {
    /// The board of this ledger runs.
    Node {
        node: NodeId,
    },
    Stopped {},
    /// Before a push; all of them are stored or none.
    Pushing {
        tasks: Vec<Wanted>,
    },
    /// Its answer: `got` in the same order.
    Pushed {
        ids: Vec<TaskId>,
        got: Vec<TaskId>,
    },
    /// Its unique key is held.
    Refused {
        id: TaskId,
    },
    /// Nobody knows whether it is stored.
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
    /// Before an edit of one task.
    Editing {
        edit: Edit,
        task: TaskId,
    },
    /// Before an edit of all tagged tasks.
    EditingAll {
        edit: Edit,
    },
    /// The queue is paused, as this node has heard.
    Paused {
        queue: String,
    },
    /// The same, and this node has heard that nothing of it runs here.
    Drained {
        queue: String,
    },
    /// Before the queue goes on.
    Resuming {
        queue: String,
    },
    Rescued {
        task: TaskId,
    },
    Fenced {
        task: TaskId,
    },
    /// This process did not get to run for so long, or its lease has ended.
    Unwell {
        late_ms: u64,
        lease: bool,
    },
    /// What must not happen.
    Error {
        text: String,
    },
}

/// How a run went, as its handler saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Done,
    Failed,
    Fatal,
    Snoozed,
    /// Asked to end, and did.
    Heard,
    /// Its future was dropped.
    Dropped,
}

/// The file.
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(Self)
    }

    /// Notes something: one line, written by one call.
    pub(crate) fn note(&self, note: Note) {
        let line = Line { at: now(), note };
        let text = serde_json::to_string(&line).map(|text| text + "\n").unwrap_or_default();
        let written = (&self.0).write(text.as_bytes());
        // A ledger with holes would prove nothing.
        if text.is_empty() || !written.is_ok_and(|written| written == text.len()) {
            eprintln!("the ledger cannot be written");
            std::process::abort();
        }
    }

    /// Notes what must not happen.
    pub(crate) fn error(&self, what: &str, error: &dyn std::fmt::Display) {
        self.note(Note::Error { text: format!("{what}: {error}") });
    }
}

/// The machine's time in microseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
