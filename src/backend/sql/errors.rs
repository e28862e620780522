//! Why a transaction was given up.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use diesel::result::DatabaseErrorKind;
use diesel::result::Error;

use super::conn::Conn;
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
    /// Another transaction, which has not ended, has locked what is to be changed; nothing was written.
    Busy,
    /// The same for this group of pushed tasks: the rest is to be done without it.
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
    /// Says what was being done. With `sent` the work was done and its commit failed.
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

/// How a server words what callboard has to know; Diesel keeps the texts and not the codes.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) struct Messages {
    /// The connection is of no use any more.
    pub(super) broken: &'static [&'static str],
    /// Another transaction was in the way.
    pub(super) conflict: &'static [&'static str],
    /// A lock was not free in time.
    pub(super) waited: &'static [&'static str],
    /// Other failures that pass.
    pub(super) passing: &'static [&'static str],
    /// What to do about a failure that does not pass: for messages with one of these texts, this advice.
    pub(super) advice: &'static [(&'static [&'static str], &'static str)],
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl Messages {
    /// Nothing that is said after the connection broke is certain; it may have broken between the commit and its answer.
    pub(super) fn is_broken(&self, error: &Error) -> bool {
        use diesel::result::DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
        matches!(error, Error::DatabaseError(ClosedConnection | UnableToSendCommand, _))
            || has(&message(error), self.broken)
    }

    /// True when two transactions were in each other's way: the same work done once more finds out who was first.
    pub(super) fn is_conflict(&self, error: &Error) -> bool {
        use diesel::result::DatabaseErrorKind::{SerializationFailure, UniqueViolation};
        match error {
            Error::DatabaseError(UniqueViolation | SerializationFailure, _) => true,
            Error::DatabaseError(_, information) => has(information.message(), self.conflict),
            _ => false,
        }
    }

    /// True when a lock was not free in time.
    pub(super) fn gave_up_waiting(&self, error: &Error) -> bool {
        matches!(error, Error::DatabaseError(..)) && has(&message(error), self.waited)
    }

    /// With `sent` the work was done and its commit failed.
    pub(super) fn meaning(&self, operation: &'static str, error: &Error, sent: bool) -> BackendError {
        let (message, broken) = (message(error), self.is_broken(error));
        // A connection on which not even a rollback succeeds after the commit is gone, whatever words it left.
        let lost = matches!(error, Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. });
        if sent && (broken || lost) {
            return BackendError::Unknown { operation, message };
        }
        // What reads only was a primary until somebody else became it: the next connection leads to that one.
        let demoted = matches!(error, Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _));
        let passes = broken || lost || demoted || self.is_conflict(error) || has(&message, self.passing);
        if passes {
            return BackendError::Transient { operation, message };
        }
        BackendError::Permanent { operation, message: self.advised(message) }
    }

    /// The message, with what to do about it.
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

/// What the database said. A rollback that failed says less than what made it necessary.
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
