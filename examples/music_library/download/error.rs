//! Errors of a download, and whether a retry can help.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{error, fmt, io};

use reqwest::StatusCode;

/// The reason for which a download failed.
#[derive(Debug)]
pub(crate) enum DownloadError {
    /// The server wants a session, or no longer accepts the session of the request.
    Refused(StatusCode),
    /// An answer that is not the file.
    Status { status: StatusCode, retry_after: Option<Duration> },
    /// The answer is not an audio file.
    WebPage,
    /// The answer is compressed, although the request did not allow it.
    Compressed(String),
    /// The connection ended too early, or the file is longer than announced.
    Length { have: u64, total: u64 },
    /// No connection, or a broken connection.
    Network(reqwest::Error),
    /// The file could not be written.
    Disk { path: PathBuf, source: io::Error },
    /// Cancelled.
    Cancelled,
}

impl DownloadError {
    pub(crate) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }

    /// True if a retry cannot help.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                // Servers use some of the 4xx for "not now".
                let not_now = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
                status.is_client_error() && !not_now.contains(status)
            }
            Self::Refused(_) | Self::WebPage | Self::Compressed(_) => true,
            Self::Network(error) => error.is_builder(),
            Self::Length { .. } | Self::Disk { .. } | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for DownloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "the server asks for a session and refuses ours ({status})"),
            Self::Status { status, .. } => write!(f, "the server answered {status}"),
            Self::WebPage => f.write_str("the server sent a web page in place of audio; check the URL"),
            Self::Compressed(encoding) => write!(f, "the server insists on sending {}", encoding.escape_debug()),
            Self::Length { have, total } if have < total => write!(f, "cut short: {have} of {total} bytes came"),
            Self::Length { have, total } => write!(f, "{have} bytes came where {total} were announced"),
            Self::Network(error) => {
                // The client's own text only repeats the URL; its sources say what happened.
                let mut cause: &dyn error::Error = error;
                f.write_str("no connection")?;
                while let Some(source) = cause.source() {
                    cause = source;
                    write!(f, ": {cause}")?;
                }
                Ok(())
            }
            Self::Disk { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Cancelled => f.write_str("called off"),
        }
    }
}

/// No `source`: the text already contains the text of the cause.
impl error::Error for DownloadError {}

impl From<reqwest::Error> for DownloadError {
    fn from(error: reqwest::Error) -> Self {
        Self::Network(error)
    }
}
