//! The trait of typed tasks, and how one becomes a task to push.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Context;
use crate::name::Name;
use crate::task::{
    DEFAULT_QUEUE, IntoNewTask, IntoOutcome, InvalidTask, NewTask, Retry, TaskError, TaskResult, Unique,
};

/// A task type of your own: a serde struct, its name, its options, and what it does.
///
/// [`TYPE`](Task::TYPE) and [`Output`](Task::Output) must be given. Give [`run`](Task::run) too, and register it with
/// [`BoardBuilder::task`](crate::BoardBuilder::task); or leave it out and register the type with a blocking function
/// or an actor instead.
///
/// ```
/// use callboard::{Context, Task, TaskResult, slog};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet { name: String }
///
/// impl Task for Greet {
///     const TYPE: &'static str = "greet";
///     const MAX_ATTEMPTS: u32 = 3;
///     type Output = usize;
///     async fn run(self, cx: &Context) -> TaskResult<usize> {
///         slog::info!(cx.log(), "hello"; "name" => &self.name);
///         Ok(self.name.len())
///     }
/// }
/// ```
pub trait Task: Serialize + DeserializeOwned + 'static {
    /// The name that picks the handler; written to storage, so it should not change.
    const TYPE: &'static str;
    /// The queue, unless the push names another.
    const QUEUE: &'static str = DEFAULT_QUEUE;
    /// Smaller runs first.
    const PRIORITY: i32 = 0;
    /// Attempts before it is dead, the first included.
    const MAX_ATTEMPTS: u32 = 5;
    /// How long one attempt may take; nothing for as long as it likes.
    const TIMEOUT: Option<Duration> = None;

    /// What [`run`](Task::run) returns when all went well, kept as the task's result: `()` for nothing, a value of your
    /// own, or [`Outcome`](crate::Outcome) where a run may also snooze, cancel or give back its task.
    type Output: IntoOutcome + 'static;

    /// The wait between attempts.
    fn retry() -> Retry {
        Retry::default()
    }

    /// A wait of your own after the `failures`-th failure, in place of [`retry`](Task::retry); nothing to leave it
    /// to the policy.
    fn retry_delay(failures: u32, error: &TaskError) -> Option<Duration> {
        let _ = (failures, error);
        None
    }

    /// The unique key of this task, if it has one.
    fn unique(&self) -> Option<Unique> {
        None
    }

    /// The key by which [limits of keys](crate::LimitScope::Key) hold for this task, if it has one.
    fn limit_key(&self) -> Option<String> {
        None
    }

    /// Does the work. The future may hold what is not `Send`: it stays on its worker's thread.
    ///
    /// # Errors
    /// Whatever goes wrong; the retry policy decides what then happens.
    fn run(self, cx: &Context) -> impl Future<Output = TaskResult<Self::Output>>
    where
        Self: Sized,
    {
        let _ = cx;
        async {
            Err(TaskError::fatal(format!(
                "type {:?} has no run() of its own; give it one, or register it with .blocking() or .actor()",
                Self::TYPE
            ))
            .into())
        }
    }
}

impl NewTask {
    /// A typed task with the options of its type.
    pub fn of<T: Task>(task: &T) -> Self {
        let mut new = Self::new(Name::of(T::TYPE), task)
            .queue(Name::of(T::QUEUE))
            .priority(T::PRIORITY)
            .max_attempts(T::MAX_ATTEMPTS)
            .retry(T::retry());
        if let Some(timeout) = T::TIMEOUT {
            new = new.timeout(timeout);
        }
        if let Some(unique) = task.unique() {
            new = new.unique(unique);
        }
        match task.limit_key() {
            Some(key) => new.limit_key(key),
            None => new,
        }
    }
}

impl<T: Task> IntoNewTask for T {
    fn into_new_task(self) -> Result<NewTask, InvalidTask> {
        Ok(NewTask::of(&self))
    }
}
