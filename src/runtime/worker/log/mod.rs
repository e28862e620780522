//! Logs of tasks: the records of a handler in separate files, a pair of files for each attempt.
//!
//! `{directory}/{task_id}/attempt-1.log` holds readable lines, and `attempt-1.jsonl` holds the same records as JSON
//! lines. A task that logs nothing has no files. A run can have the number of an earlier run, for example after a
//! snooze. Its records are appended to the files of that run. When earlier runs have left too little room, it begins
//! `attempt-1.2.log`. Each line is written at once with a single write, so that the death of the process loses no line.
//! A fault of the disk never makes a task fail.

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
    /// The two forms in which the log of an attempt is kept.
    LogForm ("log form") {
        /// A line of text for each record, with control characters escaped.
        Readable = "readable",
        /// A JSON object for each record: `ts`, `level`, `msg`, and the keys of the record and of its logger.
        Json = "json",
    }
}

/// Options for the logs of tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskLogOptions {
    /// The largest size of a file in bytes, including the line that marks a cut. An attempt may have a few such files.
    /// 1 MiB by default, at least 1 KiB.
    pub max_bytes: u64,
    /// Records below this level are left out; `Debug` by default.
    pub level: Level,
}

impl Default for TaskLogOptions {
    fn default() -> Self {
        Self { max_bytes: 1 << 20, level: Level::Debug }
    }
}

/// The most files of each form for an attempt. A task that is snoozed for ever must not fill the disk.
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
    /// Logs under `directory`, which is made when the first line is logged. If a log cannot be written, this is
    /// reported to `program`, once.
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

    /// The log of a single run of an attempt. Opens no file. Records of earlier runs of the same number stay in front.
    pub(crate) fn attempt(&self, task_id: TaskId, attempt: u32) -> AttemptLog {
        AttemptLog::new(self.clone(), task_id, attempt)
    }

    /// Removes all logs of these tasks, and returns how many of the tasks had logs. Blocks on the file system. A
    /// symbolic link is removed, never followed. A file that cannot be removed is logged and left.
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

/// Removes a directory with all its content; false when it is not there.
fn remove_tree(path: &Path) -> io::Result<bool> {
    let what = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        what => what?,
    };
    // `remove_dir_all` follows no link inside the directory.
    if what.is_dir() {
        fs::remove_dir_all(path)?
    } else {
        fs::remove_file(path)?
    }
    Ok(true)
}
