//! Why a transaction was aborted, and how the error texts of a server are classified.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use diesel::result::DatabaseErrorKind;
use diesel::result::Error;

use super::conn::Conn;
use crate::backend::BackendError;

/// Why a transaction was aborted.
#[derive(Debug)]
pub(super) enum Abort {
    /// The database returned an error.
    Sql(Error),
    /// An error that names the operation.
    Failed(BackendError),
    /// The batch met a case that only the row-by-row form can handle. Nothing was written.
    Surprise,
    /// An open transaction has locked rows that this transaction would change. Nothing was written.
    Busy,
    /// The same as [`Busy`](Abort::Busy), for this group of pushed tasks: repeat the commit without the group.
    Aside(usize),
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
    /// Adds the operation to an SQL error. `sent` means that the work succeeded and its commit failed.
    pub(super) fn at<C: Conn>(self, operation: &'static str, sent: bool) -> Self {
        match self {
            Self::Sql(error) => Self::Failed(C::meaning(operation, &error, sent)),
            other => other,
        }
    }

    pub(super) fn into_error(self, operation: &'static str) -> BackendError {
        match self {
            Self::Failed(error) => error,
            Self::Sql(error) => BackendError::Permanent { operation, message: error.to_string() },
            Self::Busy | Self::Aside(_) => BackendError::Transient {
                operation,
                message: "another transaction has locked what is to be changed, and has not ended; try again".into(),
            },
            Self::Surprise => BackendError::Permanent {
                operation,
                message: "the row by row form met a case for itself; please report this".into(),
            },
        }
    }
}

/// The error texts of a server, by which callboard classifies its errors. Diesel keeps the texts but not the codes.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) struct Messages {
    /// The connection can no longer be used.
    pub(super) broken: &'static [&'static str],
    /// The transaction conflicted with a different transaction.
    pub(super) conflict: &'static [&'static str],
    /// A lock did not become free in time.
    pub(super) waited: &'static [&'static str],
    /// Further transient failures.
    pub(super) passing: &'static [&'static str],
    /// Advice for permanent failures: error texts, and the advice that is added to a message with any of these texts.
    pub(super) advice: &'static [(&'static [&'static str], &'static str)],
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl Messages {
    /// True if the connection broke. It may have broken between a commit and its answer, so that the outcome of the
    /// commit is unknown.
    pub(super) fn is_broken(&self, error: &Error) -> bool {
        use diesel::result::DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
        matches!(error, Error::DatabaseError(ClosedConnection | UnableToSendCommand, _))
            || has(&message(error), self.broken)
    }

    /// True if two transactions conflicted. A retry of the same work then sees the result of the transaction that was
    /// first.
    pub(super) fn is_conflict(&self, error: &Error) -> bool {
        use diesel::result::DatabaseErrorKind::{SerializationFailure, UniqueViolation};
        match error {
            Error::DatabaseError(UniqueViolation | SerializationFailure, _) => true,
            Error::DatabaseError(_, information) => has(information.message(), self.conflict),
            _ => false,
        }
    }

    /// True if a lock did not become free in time.
    pub(super) fn gave_up_waiting(&self, error: &Error) -> bool {
        matches!(error, Error::DatabaseError(..)) && has(&message(error), self.waited)
    }

    /// Converts a database error. `sent` means that the work succeeded and its commit failed.
    pub(super) fn meaning(&self, operation: &'static str, error: &Error, sent: bool) -> BackendError {
        let (message, broken) = (message(error), self.is_broken(error));
        // If even the rollback after a failed commit fails, the connection is gone, no matter which error text it left.
        let lost = matches!(error, Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. });
        if sent && (broken || lost) {
            return BackendError::Unknown { operation, message };
        }
        // A read-only server was the primary until a failover. The next connection leads to the new primary.
        let demoted = matches!(error, Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _));
        let passes = broken || lost || demoted || self.is_conflict(error) || has(&message, self.passing);
        if passes {
            return BackendError::Transient { operation, message };
        }
        BackendError::Permanent { operation, message: self.advised(message) }
    }

    /// The message, followed by the advice for it, if there is any.
    pub(super) fn advised(&self, message: String) -> String {
        match self.advice.iter().find(|(texts, _)| has(&message, texts)) {
            Some((_, advice)) => format!("{message}; {advice}"),
            None => message,
        }
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn has(message: &str, texts: &[&str]) -> bool {
    texts.iter().any(|text| message.contains(text))
}

/// The error text of the database. If the rollback after a failed commit failed too, this is the text of the commit
/// error, because it says more.
pub(super) fn message(error: &Error) -> String {
    match error {
        Error::RollbackErrorOnCommit { commit_error, .. } => commit_error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "mysql")))]
mod tests {
    use super::*;

    const MESSAGES: Messages = Messages {
        broken: &["server closed"],
        conflict: &["deadlock"],
        waited: &[],
        passing: &["full"],
        advice: &[],
    };

    fn said(kind: DatabaseErrorKind, text: &str) -> Error {
        Error::DatabaseError(kind, Box::new(text.to_owned()))
    }

    fn at_commit(text: &str) -> Error {
        let both = || Box::new(said(DatabaseErrorKind::Unknown, text));
        Error::RollbackErrorOnCommit { rollback_error: both(), commit_error: both() }
    }

    #[test]
    fn a_commit_that_left_no_connection_behind_may_have_happened() {
        for text in ["server closed the connection", "server conn crashed?", "Verbindung verloren", "deadlock"] {
            let meaning = MESSAGES.meaning("commit", &at_commit(text), true);
            assert!(matches!(meaning, BackendError::Unknown { .. }), "{text}: {meaning:?}");
            let meaning = MESSAGES.meaning("commit", &at_commit(text), false);
            assert!(matches!(meaning, BackendError::Transient { .. }), "{text}: {meaning:?}");
        }
        let refused = MESSAGES.meaning("commit", &said(DatabaseErrorKind::Unknown, "a trigger said no"), true);
        assert!(matches!(refused, BackendError::Permanent { .. }), "{refused:?}");
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for (kind, text, passes) in [
            (DatabaseErrorKind::ReadOnlyTransaction, "nur lesen", true),
            (DatabaseErrorKind::SerializationFailure, "nicht serialisierbar", true),
            (DatabaseErrorKind::ClosedConnection, "weg", true),
            (DatabaseErrorKind::Unknown, "the disk is full", true),
            (DatabaseErrorKind::Unknown, "no such column", false),
        ] {
            assert_eq!(MESSAGES.meaning("commit", &said(kind, text), false).is_transient(), passes, "{text}");
        }
    }
}
