//! Lets processes that share a file take turns.
//!
//! SQLite's write lock goes to whoever asks at the right moment, and whoever has just given it back asks first: a process
//! with much to write can keep all others out for seconds. So a process that has waited for long says so by a lock on a
//! file beside the database, and the others pause between two transactions while somebody does.

use std::fs::{File, TryLockError};
use std::time::Duration;

use crate::files::{PRIVATE, with_mode};

/// A process that has waited so long says so.
const LONG: Duration = Duration::from_millis(30);
/// Longer than the pause between two tries of a process that waits.
const PAUSE: Duration = Duration::from_millis(4);

/// The file beside the database; nothing where it cannot be made: then luck decides.
#[derive(Debug)]
pub(super) struct Turn(Option<File>);

impl Turn {
    pub(super) fn new(path: &str) -> Self {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        Self(with_mode(&mut options, PRIVATE).open(format!("{path}-turn")).ok())
    }

    /// Before a transaction: whoever has waited for long goes first.
    pub(super) fn let_others(&self) {
        let Some(file) = &self.0 else { return };
        match file.try_lock() {
            // Nobody waits.
            Ok(()) => drop(file.unlock()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(_)) => {}
        }
    }

    /// Says that this process has waited for `waited`, when that is long; until the result is dropped.
    pub(super) fn say(&self, waited: Duration) -> Option<Waiting<'_>> {
        let file = self.0.as_ref().filter(|_| waited >= LONG)?;
        file.try_lock_shared().is_ok().then_some(Waiting(file))
    }
}

/// While it lives, others let this process go first.
pub(super) struct Waiting<'a>(&'a File);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // It goes with the file at the latest.
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
