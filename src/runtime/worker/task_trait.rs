//! The trait of typed tasks, and the conversion of a typed task into a task to push.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Context;
use crate::name::Name;
use crate::task::{
    DEFAULT_QUEUE, IntoNewTask, IntoOutcome, InvalidTask, NewTask, Retry, TaskError, TaskResult, Unique,
};

/// A task type of your own: a serde struct, its name, its options, and its work.
///
/// [`TYPE`](Task::TYPE) and [`Output`](Task::Output) are required. The work can be given in two ways. Implement
/// [`run`](Task::run) and register the type with [`BoardBuilder::task`](crate::BoardBuilder::task). Or leave `run` out,
/// and register the type with a blocking function or an actor instead.
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
    /// The name that picks the handler. It is written to storage, so it should not change.
    const TYPE: &'static str;
    /// The queue of the task, unless the push names a different queue.
    const QUEUE: &'static str = DEFAULT_QUEUE;
    /// Tasks with a smaller number run first.
    const PRIORITY: i32 = 0;
    /// How many attempts a task has before it is dead, the first included.
    const MAX_ATTEMPTS: u32 = 5;
    /// How long an attempt may take; `None` for no limit.
    const TIMEOUT: Option<Duration> = None;

    /// The return value of a successful [`run`](Task::run), kept as the task's result. Use `()` for no result, or a
    /// value of your own. Use [`Outcome`](crate::Outcome) if a run may also snooze, cancel or give back its task.
    type Output: IntoOutcome + 'static;

    /// The wait between attempts.
    fn retry() -> Retry {
        Retry::default()
    }

    /// A wait of your own after the `failures`-th failure, in place of [`retry`](Task::retry). With `None` the retry
    /// policy decides.
    fn retry_delay(failures: u32, error: &TaskError) -> Option<Duration> {
        let _ = (failures, error);
        None
    }

    /// The unique key of this task, if any.
    fn unique(&self) -> Option<Unique> {
        None
    }

    /// The key by which [limits of keys](crate::LimitScope::Key) hold for this task, if any.
    fn limit_key(&self) -> Option<String> {
        None
    }

    /// Does the work. The future need not be `Send`, because it stays on the thread of its worker.
    ///
    /// # Errors
    /// Any error of the work. The retry policy decides how the task goes on.
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
