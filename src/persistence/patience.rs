//! Asking for somebody who has nobody else to ask again for them.

use std::time::Duration;

use super::Request;
use crate::backend::BackendError;
use crate::core::{Core, Stage};

impl Core {
    /// Asks storage for a user: what may work when it is tried again is tried again, for as long as a push would be.
    ///
    /// What may have happened is not repeated: the answer to a second try would not tell of the first.
    pub(crate) async fn ask<R: Request>(&self, request: R) -> Result<R::Reply, BackendError> {
        let deadline = self.clock.elapsed() + self.config.push_deadline;
        let mut pause = Duration::from_millis(10);
        loop {
            let outcome = self.persistence.ask(request.clone()).await;
            let again = matches!(outcome, Err(BackendError::Transient { .. }))
                && self.stage() < Stage::Stopped
                && self.clock.elapsed() + pause < deadline;
            if !again {
                return outcome;
            }
            self.timeout(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}
