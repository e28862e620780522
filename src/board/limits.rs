//! Limits over all nodes.

use super::Board;
use super::names::named;
use crate::backend::{Limit, LimitScope};
use crate::error::BoardError;
use crate::name::Name;
use crate::runtime::persistence::{ListLimits, RemoveLimit, SaveLimit};

impl Board {
    /// Limits how many tasks of a queue, a type or a key run at a time, or start in a period, over all nodes that share
    /// the storage. It replaces a limit of the same scope and name. It is kept in storage until it is
    /// [removed](Board::remove_limit).
    ///
    /// It applies on this node at once, and on all other nodes within 1 s. Tasks that already run continue, and count.
    ///
    /// ```
    /// use callboard::{Board, Limit, NewTask, Outcome};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix_rt::System::new().block_on(async {
    /// let board = Board::builder().handler("mail", |_, _| async { Ok(Outcome::done()) }).start().await?;
    /// board.set_limit(Limit::of_type("mail").running(2)).await?;
    /// board.set_limit(Limit::of_key("provider").rate(100, Duration::from_secs(60))).await?;
    /// let mail = board.push(NewTask::new("mail", &()).limit_key("provider:example.org")).await?;
    /// board.wait(mail.task_id).await?;
    /// assert_eq!(board.limits().await?.len(), 2);
    /// # board.stop().await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BoardError::Invalid`] when its name is empty, longer than 200 bytes or has control characters, when it limits
    /// nothing or lets nothing through, or when its period is shorter than 1 ms or longer than 366 days;
    /// [`BoardError::Storage`].
    pub async fn set_limit(&self, limit: Limit) -> Result<(), BoardError> {
        if let Some(fault) = limit.fault() {
            return Err(BoardError::Invalid(fault));
        }
        self.core.ask_open(SaveLimit { limit }).await?;
        self.configure().await
    }

    /// Removes a limit; false when there was none. Tasks that it throttled start at once on this node, and within 1 s
    /// on the other nodes.
    ///
    /// # Errors
    /// [`BoardError::Storage`]; [`BoardError::Invalid`] when it is no valid name.
    pub async fn remove_limit(&self, scope: LimitScope, name: impl Into<Name>) -> Result<bool, BoardError> {
        let name = named(&format!("the name of a {scope} limit"), name)?;
        let removed = self.core.ask_open(RemoveLimit { scope, name }).await?;
        self.configure().await?;
        Ok(removed)
    }

    /// All limits that are set, by scope and name.
    ///
    /// # Errors
    /// [`BoardError::Storage`].
    pub async fn limits(&self) -> Result<Vec<Limit>, BoardError> {
        self.core.ask_open(ListLimits {}).await
    }
}
