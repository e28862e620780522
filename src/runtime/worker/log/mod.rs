//! Logs of tasks: what a handler logs, in files of their own, one pair for each attempt.
//!
//! `{directory}/{task_id}/attempt-1.log` holds lines for people, `attempt-1.jsonl` the same as JSON lines. A task that
//! logs nothing has no files. A run that has the number of an earlier one, as after a snooze, is appended to its files, or
//! begins `attempt-1.2.log` when the earlier ones have left it too little room. Lines are written at once, each with one write, so that the death of the process loses
//! none; and no fault of the disk is ever the task's fault.

mod attempt;
mod file;
mod line;
mod show;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use attempt::AttemptLog;
pub use show::LogSlice;
use slog::{Level, Logger, error, warn};

use crate::clock::{Clock, Timestamp};
use crate::logging::guarded::Guarded;
use crate::logging::keys;
use crate::task::{TaskId, spelled};

spelled! {
    /// The two forms in which an attempt's log is kept.
    LogForm ("log form") {
        /// One line of text for each record, with control characters escaped.
        Readable = "readable",
        /// One JSON object for each record: `ts`, `level`, `msg`, and the keys of the record and of its logger.
        Json = "json",
    }
}

/// How logs of tasks are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskLogOptions {
    /// Bytes of one file of the few that an attempt may have, with the line that says where it was cut; 1 MiB by default, at least 1 KiB.
    pub max_bytes: u64,
    /// Records below this level are left out; `Debug` by default.
    pub level: Level,
}

impl Default for TaskLogOptions {
    fn default() -> Self {
        Self { max_bytes: 1 << 20, level: Level::Debug }
    }
}

/// The files of one form that an attempt may have. A task that is snoozed for ever must not fill the disk.
const MOST_FILES: u32 = 5;

/// The logs of all tasks. Cloning is cheap.
#[derive(Clone)]
pub struct TaskLogs(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    options: TaskLogOptions,
    clock: Clock,
    program: Guarded,
    failures: AtomicU64,
}

impl TaskLogs {
    /// Logs under `directory`, which is made when the first line is logged. That a log cannot be written is told to
    /// `program`, once.
    pub fn new(directory: impl Into<PathBuf>, options: TaskLogOptions, clock: Clock, program: Logger) -> Self {
        Self::guarded(directory, options, clock, Guarded::new(program))
    }

    pub(crate) fn guarded(
        directory: impl Into<PathBuf>,
        options: TaskLogOptions,
        clock: Clock,
        program: Guarded,
    ) -> Self {
        let options = TaskLogOptions { max_bytes: options.max_bytes.max(1 << 10), ..options };
        Self(Arc::new(Inner { directory: directory.into(), options, clock, program, failures: AtomicU64::new(0) }))
    }

    /// The log of one run of an attempt. Opens no file; what runs of the same number have logged before stays in front.
    pub(crate) fn attempt(&self, task_id: TaskId, attempt: u32) -> AttemptLog {
        AttemptLog::new(self.clone(), task_id, attempt)
    }

    /// Removes all logs of these tasks and says of how many there were any. Blocks on the file system. A symbolic
    /// link is removed, never followed. What cannot be removed is logged and left.
    pub fn remove(&self, task_ids: &[TaskId]) -> usize {
        let mut removed = 0;
        let mut faults: Vec<(TaskId, io::Error)> = Vec::new();
        for &task_id in task_ids {
            match remove_tree(&self.directory(task_id)) {
                Ok(there) => removed += usize::from(there),
                Err(fault) => faults.push((task_id, fault)),
            }
        }
        if let Some((task_id, fault)) = faults.first() {
            warn!(self.0.program.logger(), "logs of tasks could not be removed; check who owns them";
                keys::COUNT => faults.len(), keys::TASK_ID => %task_id, keys::ERROR => %fault);
        }
        removed
    }

    /// Records that could not be written since the start.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    fn failed(&self, fault: &io::Error) {
        if self.0.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            error!(self.0.program.logger(), "a task's log cannot be written; tasks go on, this is said once";
                keys::PATH => %self.0.directory.display(), keys::ERROR => %fault);
        }
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn options(&self) -> &TaskLogOptions {
        &self.0.options
    }

    fn directory(&self, task_id: TaskId) -> PathBuf {
        self.0.directory.join(task_id.to_string())
    }

    fn path(&self, task_id: TaskId, attempt: u32, place: u32, form: LogForm) -> PathBuf {
        let ending = match form {
            LogForm::Readable => "log",
            LogForm::Json => "jsonl",
        };
        let name = match place {
            1 => format!("attempt-{attempt}.{ending}"),
            _ => format!("attempt-{attempt}.{place}.{ending}"),
        };
        self.directory(task_id).join(name)
    }
}

/// Removes a directory with all that is in it; false when it is not there.
fn remove_tree(path: &Path) -> io::Result<bool> {
    let what = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        what => what?,
    };
    // `remove_dir_all` follows no link that it meets inside.
    if what.is_dir() {
        fs::remove_dir_all(path)?
    } else {
        fs::remove_file(path)?
    }
    Ok(true)
}
