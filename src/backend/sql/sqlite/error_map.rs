//! Converts SQLite's errors.

use diesel::result::Error;

use crate::backend::BackendError;
use crate::backend::sql::errors::message;

/// The texts of SQLITE_BUSY, _LOCKED, _FULL, _IOERR and _CANTOPEN; Diesel keeps the text and not the code.
const TRANSIENT: [&str; 5] =
    ["database is locked", "is locked", "database or disk is full", "disk I/O error", "unable to open database file"];

pub(super) fn backend_error(operation: &'static str, error: &Error) -> BackendError {
    let message = message(error);
    let transient = TRANSIENT.iter().any(|text| message.contains(text))
        // The connection is dropped, and the next connection works.
        || matches!(error, Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. });
    if transient {
        return BackendError::Transient { operation, message };
    }
    BackendError::Permanent { operation, message }
}

/// Converts a database error. `sent` means that the work succeeded and its commit failed.
pub(super) fn meaning(operation: &'static str, error: &Error, sent: bool) -> BackendError {
    let message = message(error);
    // The records may be on the disk although the sync failed. Every other failed commit is rolled back.
    if sent && message.contains("disk I/O error") {
        return BackendError::Unknown { operation, message };
    }
    backend_error(operation, error)
}

pub(super) fn is_busy(error: &BackendError) -> bool {
    matches!(error, BackendError::Transient { message, .. } if message.contains("is locked"))
}
