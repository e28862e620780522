//! The log of a single run of an attempt.

use std::panic::RefUnwindSafe;
use std::sync::Arc;

use parking_lot::Mutex;
use slog::{Drain, Level, Logger, Never, OwnedKV, OwnedKVList, Record, SendSyncRefUnwindSafeKV};

use super::file::CappedFile;
use super::line::RecordLine;
use super::{LogForm, MOST_FILES, TaskLogs};
use crate::logging::guarded::Guarded;
use crate::panics::caught;
use crate::task::TaskId;

/// The log of a single run of an attempt: a drain that writes each record to a readable file and to a file of JSON
/// lines.
///
/// It never fails. A record that cannot be written is counted by its [`TaskLogs`].
#[derive(Clone)]
pub(crate) struct AttemptLog(Arc<Shared>);

struct Shared {
    logs: TaskLogs,
    task_id: TaskId,
    attempt: u32,
    // Chosen at the first line and kept after that: a run that has filled its files does not begin more of them.
    files: Mutex<Option<[CappedFile; 2]>>,
}

// A panic while a record is read finds no lock held. A panic while a line is written leaves at worst half a line, which
// is repaired when the file is next opened.
impl RefUnwindSafe for Shared {}

impl AttemptLog {
    pub(super) fn new(logs: TaskLogs, task_id: TaskId, attempt: u32) -> Self {
        Self(Arc::new(Shared { logs, task_id, attempt, files: Mutex::new(None) }))
    }

    /// A logger for the attempt. Every record goes to the attempt's files and also to the program's logger, with
    /// `values` and with the values of the program's logger.
    pub(crate) fn logger<T>(&self, program: &Guarded, values: OwnedKV<T>) -> Logger
    where
        T: SendSyncRefUnwindSafeKV + 'static,
    {
        Logger::root(Both { program: program.clone(), attempt: self.clone() }, values)
    }

    /// Closes the files. All records so far have been written already. A later record opens the files again.
    pub(crate) fn close(&self) {
        for file in self.0.files.lock().iter_mut().flatten() {
            file.close();
        }
    }

    fn takes(&self, level: Level) -> bool {
        level.is_at_least(self.0.logs.options().level)
    }

    fn write(&self, record: &Record<'_>, loggers: &[&OwnedKVList]) {
        if !self.takes(record.level()) {
            return;
        }
        let logs = &self.0.logs;
        let now = logs.now();
        // Read before the lock is taken, because a value may itself log while it is formatted.
        let line = RecordLine::read(now, record, loggers);
        let texts = [line.readable(), line.json()];
        let mut failure = None;
        let mut files = self.0.files.lock();
        for (file, text) in files.get_or_insert_with(|| self.0.choose()).iter_mut().zip(&texts) {
            failure = file.append(text, now).err().or(failure);
        }
        drop(files);
        if let Some(error) = failure {
            logs.failed(&error);
        }
    }
}

impl Shared {
    /// The first files with room for this run, however much earlier runs of the same number have logged. If no file has
    /// room, the last files are begun anew, because the newest records explain the present state.
    fn choose(&self) -> [CappedFile; 2] {
        let at = |place| {
            [LogForm::Readable, LogForm::Json].map(|form| {
                let path = self.logs.path(self.task_id, self.attempt, place, form);
                CappedFile::new(path, form, self.logs.options().max_bytes)
            })
        };
        // Both forms are chosen together, so that files of the same name hold the same runs.
        let free = (1..=MOST_FILES)
            .map(at)
            .find_map(|mut files| files.iter_mut().all(CappedFile::has_room).then_some(files));
        free.unwrap_or_else(|| at(MOST_FILES).map(CappedFile::anew))
    }
}

impl Drain for AttemptLog {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        self.write(record, &[values]);
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.takes(level)
    }
}

struct Both {
    program: Guarded,
    attempt: AttemptLog,
}

impl Drain for Both {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        // Values of the application are read here, and a panic in them must not end the run.
        if let Err(text) = caught(|| self.attempt.write(record, &[values, self.program.list()])) {
            self.attempt.0.logs.failed(&std::io::Error::other(text));
        }
        Drain::log(&self.program, record, values)
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.attempt.is_enabled(level) || Drain::is_enabled(&self.program, level)
    }
}
