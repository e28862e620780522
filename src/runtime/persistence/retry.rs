//! Asking for somebody who has nobody else to ask again for them.

use std::time::Duration;

use super::Request;
use crate::backend::BackendError;
use crate::error::BoardError;
use crate::runtime::core::{Core, Stage};

impl Core {
    /// An error once the board has stopped: then every call says so, whatever storage could still answer.
    pub(crate) fn open(&self) -> Result<(), BoardError> {
        if self.queue.is_closed() { Err(BoardError::Closed) } else { Ok(()) }
    }

    /// Asks storage for a caller of the board.
    pub(crate) async fn ask_open<R: Request>(&self, request: R) -> Result<R::Reply, BoardError> {
        self.open()?;
        self.ask_to_the_end(request).await
    }

    /// The same for a call that was under way when the board stopped: it ends with what storage still answers.
    pub(crate) async fn ask_to_the_end<R: Request>(&self, request: R) -> Result<R::Reply, BoardError> {
        self.ask(request).await.map_err(|error| match error {
            // It stopped meanwhile, and has not done it.
            BackendError::Transient { .. } if self.queue.is_closed() => BoardError::Closed,
            error => BoardError::Storage(error),
        })
    }

    /// Asks storage for a user: what may work when it is tried again is tried again, for as long as a push would be.
    ///
    /// What may have happened is not repeated: the answer to a second try would not tell of the first.
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
