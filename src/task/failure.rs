//! The error of a failed run.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Any error, in the form in which [`TaskResult`](crate::TaskResult) carries it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The reason why a run failed, and whether the task is tried again.
///
/// A handler needs this type only to control the next attempt. Any other error is a failed attempt, and the task is
/// tried again by its retry policy. The verdict survives `anyhow` and `Box<dyn Error>`, also when context is added
/// around the error.
///
/// ```
/// use callboard::{TaskError, TaskResult};
/// use std::time::Duration;
///
/// fn fetch(status: u16) -> TaskResult<()> {
///     match status {
///         200 => Ok(()),
///         404 => Err(TaskError::fatal("it does not exist").into()),
///         429 => Err(TaskError::new("too many requests").retry_after(Duration::from_secs(60)).into()),
///         _ => Err(format!("status {status}").into()),
///     }
/// }
/// assert!(TaskError::from(fetch(404).unwrap_err()).is_fatal());
/// ```
pub struct TaskError {
    verdict: Verdict,
    /// The error and its sources in one line.
    message: String,
}

/// The error, and whether the task is tried again. If this differs from the default, the verdict is the source of its
/// [`TaskError`]. Then it is found inside any wrapper, because `anyhow` hides the outermost error but not its source.
struct Verdict {
    error: BoxError,
    fatal: bool,
    retry_after: Option<Duration>,
}

impl Verdict {
    /// True if this verdict differs from the default: a retryable error whose wait the retry policy sets.
    const fn speaks(&self) -> bool {
        self.fatal || self.retry_after.is_some()
    }
}

impl TaskError {
    /// An error after which the task is tried again by its retry policy. Takes a text, or an error; the sources of an
    /// error are kept.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self::of(error.into(), false)
    }

    /// An error that moves the task to `dead` at once. Takes a text, or an error; the sources of an error are kept.
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self::of(error.into(), true)
    }

    fn of(error: BoxError, fatal: bool) -> Self {
        // Unwrap a nested `TaskError`; otherwise its text would appear twice.
        let error = error.downcast::<Self>().map_or_else(|error| error, |own| own.verdict.error);
        let message = chain(&*error);
        Self { verdict: Verdict { error, fatal, retry_after: None }, message }
    }

    /// Sets the wait before the next attempt, in place of the retry policy's wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.verdict.retry_after = Some(wait);
        self
    }

    /// True if a further attempt cannot succeed.
    pub const fn is_fatal(&self) -> bool {
        self.verdict.fatal
    }

    /// The wait that this error sets for the next attempt, if any.
    pub const fn wait(&self) -> Option<Duration> {
        self.verdict.retry_after
    }

    /// The error with all its sources. The task keeps this text as its `last_error`.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Finds a [`Verdict`] among the sources of an error.
fn said<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Verdict> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(verdict) = error.downcast_ref() {
            return Some(verdict);
        }
        source = error.source();
    }
    None
}

/// An error and its sources in one line. A source whose text already appears in the error before it is left out.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let (mut last, mut source) = (text.clone(), error.source());
    while let Some(cause) = source {
        source = cause.source();
        if cause.is::<Verdict>() {
            continue;
        }
        let words = cause.to_string();
        if !last.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        last = words;
    }
    text
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdict.error.fmt(f)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_fatal() { "fatal" } else { "retryable" };
        write!(f, "TaskError({kind}: {})", self.message)
    }
}

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if self.verdict.speaks() { Some(&self.verdict) } else { self.verdict.error.source() }
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.retry_after {
            _ if self.fatal => f.write_str("the task is not tried again"),
            Some(wait) => write!(f, "the task is tried again after {wait:?}"),
            None => f.write_str("the task is tried again"),
        }
    }
}

impl Error for Verdict {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl From<BoxError> for TaskError {
    fn from(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return *own,
            Err(error) => error,
        };
        let verdict = said(&*error);
        let (fatal, retry_after) = verdict.map_or((false, None), |verdict| (verdict.fatal, verdict.retry_after));
        let mut own = Self::of(error, fatal);
        own.verdict.retry_after = retry_after;
        own
    }
}

impl From<String> for TaskError {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for TaskError {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the page is not stored")]
    struct NotStored(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("the page is not stored: {0}")]
    struct Twice(#[source] std::io::Error);

    fn full() -> std::io::Error {
        std::io::Error::other("the disk is full")
    }

    fn handler<E>(error: E) -> TaskError
    where
        BoxError: From<E>,
    {
        let run = || -> crate::TaskResult<()> { Err(error)? };
        TaskError::from(run().unwrap_err())
    }

    #[test]
    fn any_error_becomes_a_retryable_one_with_its_whole_chain_once() {
        let shown = "the page is not stored: the disk is full";
        for error in [
            handler(NotStored(full())),
            handler(Twice(full())),
            handler(BoxError::from(NotStored(full()))),
            handler(anyhow::Error::new(NotStored(full()))),
            handler(anyhow::Error::new(full()).context("the page is not stored")),
            handler(TaskError::new(NotStored(full()))),
            handler(shown),
            handler(shown.to_owned()),
            TaskError::from(shown),
            TaskError::new(TaskError::fatal(NotStored(full()))),
        ] {
            assert_eq!((error.message(), error.is_fatal(), error.wait()), (shown, false, None));
        }
    }

    #[test]
    fn what_an_error_says_of_the_next_attempt_survives_what_is_put_around_it() {
        let wait = Duration::from_secs(60);
        let errors = || [TaskError::fatal(NotStored(full())), TaskError::new("busy").retry_after(wait)];
        for (at, error) in errors().into_iter().enumerate() {
            let expected = (error.is_fatal(), error.wait());
            let again = || errors().into_iter().nth(at).unwrap();
            let got = [
                handler(error),
                handler(BoxError::from(again())),
                handler(anyhow::Error::new(again())),
                handler(anyhow::Error::new(again()).context("around")),
                handler(anyhow::Error::from_boxed(again().into())),
            ];
            for error in got {
                assert_eq!((error.is_fatal(), error.wait()), expected, "{error:?}");
                assert!(!error.message().contains("tried again"), "{error:?}");
            }
        }
    }

    #[test]
    fn a_task_error_is_an_error_whose_sources_are_shown_once() {
        let error = anyhow::Error::new(TaskError::new(NotStored(full())));
        assert_eq!(format!("{error:#}"), "the page is not stored: the disk is full");
        let error = anyhow::Error::new(TaskError::fatal(NotStored(full())));
        let text = "the page is not stored: the task is not tried again: the disk is full";
        assert_eq!(format!("{error:#}"), text);
        assert!(error.chain().any(|error| error.is::<std::io::Error>()));
    }
}
