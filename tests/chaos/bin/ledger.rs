//! What a node notes outside of its database, so that a test can hold the two against each other.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use callboard::TaskId;

/// A file that several processes append to.
pub(crate) struct Ledger(Option<File>);

impl Ledger {
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        path.map(open).transpose().map(Self)
    }

    /// Notes that something happened to these tasks: one line, written by one call, so that neither a kill nor another
    /// process can come in between.
    pub(crate) fn note(&self, what: &str, tasks: &[TaskId]) {
        let mut line = what.to_owned();
        for task in tasks {
            // Writing to a string does not fail.
            write!(line, " {task}").ok();
        }
        self.line(line);
    }

    /// Notes what must not happen.
    pub(crate) fn error(&self, what: &str, error: &dyn std::fmt::Display) {
        self.line(format!("error {what}: {error}"));
    }

    fn line(&self, mut line: String) {
        line.push('\n');
        let written = self.0.as_ref().map_or(Ok(line.len()), |mut file| file.write(line.as_bytes()));
        // A ledger with holes would prove nothing.
        if !written.is_ok_and(|written| written == line.len()) {
            eprintln!("the ledger cannot be written");
            std::process::abort();
        }
    }
}
