//! Errors of storage.

/// The reason why a storage operation failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A retry may succeed: busy, unreachable, disk full, deadlock.
    #[error("{operation}: {message}")]
    Transient {
        /// The operation that failed.
        operation: &'static str,
        /// The message of storage, without secrets.
        message: String,
    },
    /// The connection failed after the commit was sent: the commit may have happened.
    #[error("{operation}: {message} (it may have happened)")]
    Unknown {
        /// The operation that failed.
        operation: &'static str,
        /// The message of storage, without secrets.
        message: String,
    },
    /// A retry cannot succeed.
    #[error("{operation}: {message}")]
    Permanent {
        /// The operation that failed.
        operation: &'static str,
        /// The message of storage, without secrets.
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
    /// This backend does not support the feature.
    #[error("this backend cannot {0}; see its capabilities, and choose another backend")]
    Unsupported(&'static str),
    /// A connection of the application is not usable for tasks.
    #[error("this connection cannot be used: {0}")]
    Connection(String),
    /// The code that talks to storage panicked. Its connection is dropped and opened again.
    #[error("{operation}: the storage thread panicked and is started anew")]
    Panicked {
        /// The operation that failed.
        operation: &'static str,
    },
    /// The URL names no backend of this program.
    #[error("cannot open {url}: {reason}")]
    BadUrl {
        /// The URL without its password.
        url: String,
        /// The fault, and the allowed forms.
        reason: String,
    },
}

impl BackendError {
    /// True if a retry may succeed.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::Unknown { .. } | Self::Panicked { .. })
    }
}
