//! Guards the application's logger: its panics do not reach the board.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slog::{Drain, FlushError, Level, Logger, Never, OwnedKVList, Record, o};

use crate::panics::caught;

/// A logger whose panics end here. A logger that `fuse`s a drain panics when its disk is full, in any part of the board
/// that logs at that moment.
#[derive(Clone)]
pub(crate) struct Guarded {
    log: Logger,
    lost: Arc<AtomicU64>,
}

impl Guarded {
    pub(crate) fn new(log: Logger) -> Self {
        Self { log, lost: Arc::default() }
    }

    /// A logger that logs to the guarded logger. It has no values of its own.
    pub(crate) fn logger(&self) -> Logger {
        Logger::root(self.clone(), o!())
    }

    /// The values that every record gets here.
    pub(crate) fn list(&self) -> &OwnedKVList {
        self.log.list()
    }

    /// The number of records at which it panicked.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drain for Guarded {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        // The program's panic hook has already reported the panic; there is no logger left to report it to.
        if caught(|| Drain::log(&self.log, record, values)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        // If the check panics, the level counts as enabled: the logger then decides with the record.
        caught(|| Drain::is_enabled(&self.log, level)).unwrap_or(true)
    }

    fn flush(&self) -> Result<(), FlushError> {
        caught(|| Drain::flush(&self.log)).unwrap_or(Ok(()))
    }
}
