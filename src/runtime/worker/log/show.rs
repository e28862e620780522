//! Reading logs back.

use std::fs::{self, File};
use std::io;
use std::ops::Range;

use super::file::{read_at, refuse_link, refuse_special};
use super::{LogForm, MOST_FILES, TaskLogs};
use crate::task::TaskId;

/// The most bytes of a single read: 4 MiB.
const MAX_READ: u64 = 4 << 20;

/// A piece of a log. It holds whole lines, unless a single line is longer than the requested range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSlice {
    /// The lines.
    pub text: String,
    /// The place of the lines in the log; the next piece begins at its end.
    pub range: Range<u64>,
    /// The length of the log.
    pub total: u64,
}

impl TaskLogs {
    /// The attempts at a task that have logged anything, in order. Blocks on the file system.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn attempts(&self, task_id: TaskId) -> io::Result<Vec<u32>> {
        let directory = self.directory(task_id);
        refuse_link(&directory)?;
        let files = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files?,
        };
        let mut attempts = Vec::new();
        for file in files {
            let name = file?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("attempt-")?.strip_suffix(".log"));
            attempts.extend(number.and_then(|number| number.parse::<u32>().ok()));
        }
        attempts.sort_unstable();
        Ok(attempts)
    }

    /// The whole lines of a log within a range of bytes, at most 4 MiB; `None` when the attempt has logged nothing.
    /// Several files of runs with the same number are read as a single log. Blocks on the file system.
    ///
    /// # Errors
    /// When a file cannot be read, or is no plain file.
    pub fn read(
        &self,
        task_id: TaskId,
        attempt: u32,
        form: LogForm,
        range: Range<u64>,
    ) -> io::Result<Option<LogSlice>> {
        refuse_link(&self.directory(task_id))?;
        let mut files = Vec::new();
        for place in 1..=MOST_FILES {
            let path = self.path(task_id, attempt, place, form);
            refuse_special(&path)?;
            match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => files.push(file.and_then(|file| Ok((file.metadata()?.len(), file)))?),
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        let total = files.iter().map(|(bytes, _)| bytes).sum::<u64>();
        let start = range.start.min(total);
        let end = range.end.clamp(start, total).min(start + MAX_READ);
        // The byte before the range tells whether the range starts with a line.
        let lead = start.saturating_sub(1);
        let bytes = read_through(&mut files, lead, end)?;
        Ok(Some(whole(&bytes, lead, start, total)))
    }
}

/// Reads a range across consecutive files. Each file is given with its length.
fn read_through(files: &mut [(u64, File)], start: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut before = 0;
    for (len, file) in files {
        let within = |at: u64| at.saturating_sub(before).min(*len);
        bytes.append(&mut read_at(file, within(start), within(end))?);
        before += *len;
    }
    Ok(bytes)
}

/// Cuts a piece of a log down to whole lines. `bytes` stand at `lead`, and the requested range starts at `start`.
fn whole(bytes: &[u8], lead: u64, start: u64, total: u64) -> LogSlice {
    let newline_at = |byte: &u8| *byte == b'\n';
    let first = if start == 0 { Some(0) } else { bytes.iter().position(newline_at).map(|at| at + 1) };
    let last = bytes.iter().rposition(newline_at).map(|at| at + 1);
    let (from, to) = match (first, last) {
        (Some(from), Some(to)) if from < to => (from, to),
        // The range is a part of a long line. A piece of the line is returned, otherwise a reader would never get past
        // it.
        _ => (usize::from(lead < start).min(bytes.len()), bytes.len()),
    };
    let offset = |index: usize| lead + index as u64;
    LogSlice { text: String::from_utf8_lossy(&bytes[from..to]).into_owned(), range: offset(from)..offset(to), total }
}
