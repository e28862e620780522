//! The node's notes outside its database, which a test compares with the database.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use callboard::TaskId;

/// A file to which several processes append.
pub(crate) struct Ledger(Option<File>);

impl Ledger {
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        path.map(open).transpose().map(Self)
    }

    /// Notes an event of these tasks. It is a single line, written by a single call, so that neither a kill nor a
    /// second process can split it.
    pub(crate) fn note(&self, what: &str, tasks: &[TaskId]) {
        let mut line = what.to_owned();
        for task in tasks {
            // Writing to a string never fails.
            write!(line, " {task}").ok();
        }
        self.line(line);
    }

    /// Notes a forbidden event.
    pub(crate) fn error(&self, what: &str, error: &dyn std::fmt::Display) {
        self.line(format!("error {what}: {error}"));
    }

    fn line(&self, mut line: String) {
        line.push('\n');
        let written = self.0.as_ref().map_or(Ok(line.len()), |mut file| file.write(line.as_bytes()));
        // Abort, because a ledger with gaps would prove nothing.
        if !written.is_ok_and(|written| written == line.len()) {
            eprintln!("the ledger cannot be written");
            std::process::abort();
        }
    }
}
