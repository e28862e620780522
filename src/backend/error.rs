//! What can go wrong in storage.

/// Why storage did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// It may work when tried again: busy, out of reach, disk full, deadlock.
    #[error("{operation}: {message}")]
    Transient {
        /// What was being done.
        operation: &'static str,
        /// What the storage said, without secrets.
        message: String,
    },
    /// The connection failed after the commit was sent: it may have happened.
    #[error("{operation}: {message} (it may have happened)")]
    Unknown {
        /// What was being done.
        operation: &'static str,
        /// What the storage said, without secrets.
        message: String,
    },
    /// Trying again cannot help.
    #[error("{operation}: {message}")]
    Permanent {
        /// What was being done.
        operation: &'static str,
        /// What the storage said, without secrets.
        message: String,
    },
    /// The stored schema is newer than this program.
    #[error("the schema {found} is newer than this program, which knows {known}; install a newer callboard")]
    SchemaTooNew {
        /// The newest migration in storage.
        found: String,
        /// The newest migration of this program.
        known: String,
    },
    /// This backend has no such feature.
    #[error("this backend cannot {0}; see its capabilities, and choose another backend")]
    Unsupported(&'static str),
    /// A connection of the application cannot be used for tasks.
    #[error("this connection cannot be used: {0}")]
    Connection(String),
    /// The code that talks to storage panicked; its connection is thrown away and made anew.
    #[error("{operation}: the storage thread panicked and is started anew")]
    Panicked {
        /// What was being done.
        operation: &'static str,
    },
    /// The URL names no backend that this program has.
    #[error("cannot open {url}: {reason}")]
    BadUrl {
        /// The URL without its password.
        url: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
}

impl BackendError {
    /// True when trying again may help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::Unknown { .. } | Self::Panicked { .. })
    }
}
