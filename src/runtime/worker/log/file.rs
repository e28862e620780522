//! A log file with a limited size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::LogForm;
use super::line::CUT;
use crate::clock::Timestamp;
use crate::files::{FOR_THE_GROUP, with_mode};

/// A log file. It is opened at its first line, appended to by whole lines, and cut at a size limit with a line that
/// says so.
pub(super) struct CappedFile {
    path: PathBuf,
    form: LogForm,
    max_bytes: u64,
    /// The content must be removed before the next line.
    anew: bool,
    open: Option<Open>,
}

struct Open {
    file: File,
    bytes: u64,
    cut: bool,
}

impl CappedFile {
    pub(super) fn new(path: PathBuf, form: LogForm, max_bytes: u64) -> Self {
        Self { path, form, max_bytes, anew: false, open: None }
    }

    /// The same file, to be begun anew.
    pub(super) fn anew(self) -> Self {
        Self { anew: true, ..self }
    }

    /// True when at least half of the file is left for a further run. A file that cannot be opened counts as free,
    /// because its error is reported when a line is to be written.
    pub(super) fn has_room(&mut self) -> bool {
        if fs::symlink_metadata(&self.path).is_err() {
            return true;
        }
        // This also repairs the last line of a file that will not be opened for writing any more.
        self.open = Open::new(&self.path, self.form).ok();
        self.open.as_ref().is_none_or(|open| !open.cut && open.bytes <= self.max_bytes / 2)
    }

    /// Closes the file; the next line opens it again.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Appends a line with a single write, so that logged lines survive the death of the process.
    pub(super) fn append(&mut self, line: &str, now: Timestamp) -> io::Result<()> {
        let room = self.max_bytes.saturating_sub(MARK_ROOM);
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::new(&self.path, self.form)?),
        };
        if self.anew {
            open.empty()?;
            open.write(&head(self.form, now))?;
            self.anew = false;
        }
        if open.cut {
            return Ok(());
        }
        let cut = open.bytes + size(line) > room;
        let written = if cut { open.write(&mark(self.form, self.max_bytes, now)) } else { open.write(line) };
        open.cut = cut && written.is_ok();
        if written.is_err() {
            // Perhaps the file is gone and the disk is not full. Then a new file may work.
            self.open = None;
        }
        written
    }
}

impl Open {
    fn new(path: &Path, form: LogForm) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
            refuse_link(directory)?;
        }
        refuse_special(path)?;
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true);
        let mut file = with_mode(&mut options, FOR_THE_GROUP).open(path)?;
        let bytes = mend(&mut file, form)?;
        let cut = is_cut(&mut file, form, bytes)?;
        Ok(Self { file, bytes, cut })
    }

    fn empty(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.bytes, self.cut) = (0, false);
        Ok(())
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let written = self.file.write_all(line.as_bytes());
        match written {
            Ok(()) => self.bytes += size(line),
            // A full disk may have taken the beginning of the line. Half a line is cut off, because it is no line.
            Err(_) => drop(self.file.set_len(self.bytes)),
        }
        written
    }
}

fn size(line: &str) -> u64 {
    u64::try_from(line.len()).unwrap_or(u64::MAX)
}

/// The line that marks a cut. No line of a record begins or ends like a mark, so a record cannot forge it.
fn mark(form: LogForm, max_bytes: u64, now: Timestamp) -> String {
    let message = format!("the log is cut here: it has reached {max_bytes} bytes, as many as `max_bytes` allows");
    match form {
        LogForm::Readable => format!("{READABLE_MARK}{now} {message} ---\n"),
        LogForm::Json => {
            let message = json!(message);
            format!("{{\"ts\":\"{now}\",\"level\":\"WARNING\",\"msg\":{message},\"{CUT}\":true}}\n")
        }
    }
}

/// The first line of a file that was begun anew. It is no mark, because the file goes on.
fn head(form: LogForm, now: Timestamp) -> String {
    let message = "earlier runs of this attempt have filled its files, and what they had logged here is removed";
    match form {
        LogForm::Readable => format!("=== {now} {message} ===\n"),
        LogForm::Json => {
            format!("{{\"ts\":\"{now}\",\"level\":\"WARNING\",\"msg\":\"{message}\",\"{CUT}\":\"before\"}}\n")
        }
    }
}

const READABLE_MARK: &str = "--- ";
/// Bytes kept free for a mark; marks are shorter.
const MARK_ROOM: u64 = 256;

fn is_cut(file: &mut File, form: LogForm, bytes: u64) -> io::Result<bool> {
    let tail = read_at(file, bytes.saturating_sub(MARK_ROOM), bytes)?;
    let tail = String::from_utf8_lossy(&tail);
    Ok(match form {
        LogForm::Readable => tail.lines().next_back().is_some_and(|line| line.starts_with(READABLE_MARK)),
        LogForm::Json => tail.ends_with(&format!(",\"{CUT}\":true}}\n")),
    })
}

/// Repairs a last line that the death of the process left unfinished, and returns the length of the file.
fn mend(file: &mut File, form: LogForm) -> io::Result<u64> {
    let bytes = file.metadata()?.len();
    if bytes == 0 || read_at(file, bytes - 1, bytes)? == b"\n" {
        return Ok(bytes);
    }
    match form {
        // People can read half a line.
        LogForm::Readable => file.write_all(b"\n").map(|()| bytes + 1),
        LogForm::Json => {
            let whole = whole_lines(file, bytes)?;
            file.set_len(whole).map(|()| whole)
        }
    }
}

/// The length up to the end of the last whole line.
fn whole_lines(file: &mut File, bytes: u64) -> io::Result<u64> {
    let mut end = bytes;
    while end > 0 {
        let start = end.saturating_sub(64 * 1024);
        let chunk = read_at(file, start, end)?;
        if let Some(newline) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

pub(super) fn read_at(file: &mut File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Rejects a path that is no plain file, because it holds no log. Opening a pipe would block until a process opens its
/// other end.
pub(super) fn refuse_special(path: &Path) -> io::Result<()> {
    refuse_link(path)?;
    match fs::symlink_metadata(path) {
        Ok(what) if !what.is_file() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no plain file, and a log is kept in nothing else; remove it", path.display()),
        )),
        _ => Ok(()),
    }
}

/// Rejects a link in the place of a log, because it leads to a file that is not ours to read or write.
pub(super) fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(what) if what.file_type().is_symlink() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} is a symbolic link, and logs are not followed out of their directory; remove it",
                path.display()
            ),
        )),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
