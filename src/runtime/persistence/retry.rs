//! Storage requests on behalf of a caller: transient errors are retried until the push deadline.

use std::time::Duration;

use super::Request;
use crate::backend::BackendError;
use crate::error::BoardError;
use crate::runtime::core::{Core, Stage};

impl Core {
    /// Returns an error once the board has stopped. Every call then returns it, even if storage could still answer.
    pub(crate) fn open(&self) -> Result<(), BoardError> {
        if self.queue.is_closed() { Err(BoardError::Closed) } else { Ok(()) }
    }

    /// Sends a request to storage for a caller of the board.
    pub(crate) async fn ask_open<R: Request>(&self, request: R) -> Result<R::Reply, BoardError> {
        self.open()?;
        self.ask_to_the_end(request).await
    }

    /// The same for a call that was in flight when the board stopped: it returns the answer that storage still gives.
    pub(crate) async fn ask_to_the_end<R: Request>(&self, request: R) -> Result<R::Reply, BoardError> {
        self.ask(request).await.map_err(|error| match error {
            // The board stopped meanwhile, and storage has not carried out the request.
            BackendError::Transient { .. } if self.queue.is_closed() => BoardError::Closed,
            error => BoardError::Storage(error),
        })
    }

    /// Sends a request to storage for a user. A transient error is retried for as long as a push would be.
    ///
    /// A request that storage may have carried out is not repeated, because the answer to the second try would not tell
    /// the result of the first.
    pub(crate) async fn ask<R: Request>(&self, request: R) -> Result<R::Reply, BackendError> {
        let deadline = self.clock.after(self.config.push_deadline);
        let mut pause = Duration::from_millis(10);
        loop {
            let outcome = self.persistence.ask(request.clone()).await;
            let again = matches!(outcome, Err(BackendError::Transient { .. }))
                && self.stage() < Stage::Stopped
                && self.clock.after(pause) < deadline;
            if !again {
                return outcome;
            }
            self.timeout(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}
