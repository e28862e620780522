//! Makes the processes that share a file take turns.
//!
//! SQLite's write lock is not fair: it goes to the process that happens to ask at the right moment. A process that has
//! just released the lock is the first to ask again. So a process with many writes can starve all other processes for
//! seconds. Therefore a process that has waited for long locks a file beside the database. While that file is locked,
//! the other processes pause between two transactions.

use std::fs::{File, TryLockError};
use std::time::Duration;

use crate::files::{PRIVATE, with_mode};

/// A process that has waited this long locks the file.
const LONG: Duration = Duration::from_millis(30);
/// The pause of the other processes. It is longer than the interval between two tries of a waiting process.
const PAUSE: Duration = Duration::from_millis(4);

/// The file beside the database. `None` if it cannot be created; then the order of the processes is left to chance.
#[derive(Debug)]
pub(super) struct Turn(Option<File>);

impl Turn {
    pub(super) fn new(path: &str) -> Self {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        Self(with_mode(&mut options, PRIVATE).open(format!("{path}-turn")).ok())
    }

    /// Called before a transaction: pauses if a different process has waited for long, so that it goes first.
    pub(super) fn let_others(&self) {
        let Some(file) = &self.0 else { return };
        match file.try_lock() {
            // No process waits.
            Ok(()) => drop(file.unlock()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(_)) => {}
        }
    }

    /// Locks the file if `waited`, the time that this process has waited, is long. The lock is held until the result is
    /// dropped.
    pub(super) fn say(&self, waited: Duration) -> Option<Waiting<'_>> {
        let file = self.0.as_ref().filter(|_| waited >= LONG)?;
        file.try_lock_shared().is_ok().then_some(Waiting(file))
    }
}

/// While this value exists, other processes let this process go first.
pub(super) struct Waiting<'a>(&'a File);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // An error is ignored: the lock is released when the file is closed, at the latest.
        drop(self.0.unlock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_seen_by_others_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tasks.db").display().to_string();
        let (waiting, busy) = (Turn::new(&path), Turn::new(&path));
        let somebody_waits = || busy.0.as_ref().unwrap().try_lock().is_err();
        assert!(waiting.say(Duration::from_millis(1)).is_none(), "that is not long");
        let said = waiting.say(LONG);
        assert!(said.is_some() && somebody_waits());
        drop(said);
        assert!(!somebody_waits());
    }
}
