//! What SQLite's errors mean.

use diesel::result::Error;

use crate::backend::BackendError;

/// Why a transaction was given up.
#[derive(Debug)]
pub(super) enum Abort {
    /// The database said no.
    Sql(Error),
    /// The same, and what was being done.
    Failed(BackendError),
    /// The batch met a case that only the row by row form can treat; nothing was written.
    Surprise,
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<BackendError> for Abort {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

impl Abort {
    /// Says what was being done. With `sent` the work was done and its commit failed.
    pub(super) fn at(self, operation: &'static str, sent: bool) -> Self {
        match self {
            Self::Sql(error) => {
                let message = message(&error);
                // The records may be on the disk although syncing failed; any other failed commit is rolled back.
                if sent && message.contains("disk I/O error") {
                    return Self::Failed(BackendError::Unknown { operation, message });
                }
                Self::Failed(backend_error(operation, &error))
            }
            other => other,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Failed(BackendError::Transient { message, .. }) if message.contains("is locked"))
    }

    pub(super) fn into_error(self) -> BackendError {
        let operation = "write";
        match self {
            Self::Failed(error) => error,
            Self::Sql(error) => backend_error(operation, &error),
            Self::Surprise => BackendError::Permanent {
                operation,
                message: "the row by row form met a case for itself; please report this".into(),
            },
        }
    }
}

/// The texts of SQLITE_BUSY, _LOCKED, _FULL, _IOERR and _CANTOPEN; Diesel keeps the text and not the code.
const TRANSIENT: [&str; 5] =
    ["database is locked", "is locked", "database or disk is full", "disk I/O error", "unable to open database file"];

pub(super) fn backend_error(operation: &'static str, error: &Error) -> BackendError {
    let message = message(error);
    let transient = TRANSIENT.iter().any(|text| message.contains(text))
        // The connection is thrown away, and the next one is fine.
        || matches!(error, Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. });
    if transient {
        return BackendError::Transient { operation, message };
    }
    BackendError::Permanent { operation, message }
}

fn message(error: &Error) -> String {
    match error {
        Error::RollbackErrorOnCommit { commit_error, .. } => commit_error.to_string(),
        other => other.to_string(),
    }
}
