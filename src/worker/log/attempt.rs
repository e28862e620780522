//! The log of one attempt.

use std::panic::RefUnwindSafe;
use std::sync::Arc;

use parking_lot::Mutex;
use slog::{Drain, Level, Logger, Never, OwnedKV, OwnedKVList, Record, SendSyncRefUnwindSafeKV};

use super::file::CappedFile;
use super::line::Line;
use super::{LogForm, TaskLogs};
use crate::task::TaskId;

/// The log of one attempt: a drain that writes each record to a readable file and to one of JSON lines.
///
/// It never fails: what cannot be written is counted by its [`TaskLogs`].
#[derive(Clone)]
pub(crate) struct AttemptLog(Arc<Shared>);

struct Shared {
    logs: TaskLogs,
    files: Mutex<[CappedFile; 2]>,
}

// A panic while a record is read finds no lock held; one while a line is written leaves at worst half a line, which
// is mended when the file is next opened.
impl RefUnwindSafe for Shared {}

impl AttemptLog {
    pub(super) fn new(logs: TaskLogs, task_id: TaskId, attempt: u32) -> Self {
        let file = |form| CappedFile::new(logs.path(task_id, attempt, form), form, logs.options().max_bytes);
        let files = Mutex::new([file(LogForm::Readable), file(LogForm::Json)]);
        Self(Arc::new(Shared { logs, files }))
    }

    /// A logger for the attempt: every record goes to its files and to the program's logger too, with `values` and
    /// with the values of the program's logger.
    pub(crate) fn logger<T>(&self, program: &Logger, values: OwnedKV<T>) -> Logger
    where
        T: SendSyncRefUnwindSafeKV + 'static,
    {
        Logger::root(Both { program: program.clone(), attempt: self.clone() }, values)
    }

    /// Closes the files; all that was logged has been written already. A record that comes later opens them again.
    pub(crate) fn close(&self) {
        for file in &mut *self.0.files.lock() {
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
        // Read before the lock is taken: a value may itself log when it is shown.
        let line = Line::read(now, record, loggers);
        let texts = [line.readable(), line.json()];
        let mut failure = None;
        for (file, text) in self.0.files.lock().iter_mut().zip(&texts) {
            failure = file.append(text, now).err().or(failure);
        }
        if let Some(error) = failure {
            logs.failed(&error);
        }
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
    program: Logger,
    attempt: AttemptLog,
}

impl Drain for Both {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        self.attempt.write(record, &[values, self.program.list()]);
        Drain::log(&self.program, record, values)
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.attempt.is_enabled(level) || Drain::is_enabled(&self.program, level)
    }
}
