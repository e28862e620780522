//! The kinds of handlers behind a common trait: a function from a task to the future of its result.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use actix::{Message, Recipient};
use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use tokio::sync::oneshot;

use super::Context;
use super::Task;
use crate::task::{IntoOutcome, RunResult, TaskError, TaskResult, TaskSpec, returned};

/// Runs the tasks of a type.
pub(crate) trait Handle: Send + Sync {
    fn run(&self, cx: Context) -> LocalBoxFuture<'static, RunResult>;

    /// The queue that tasks of the type go to by default; `None` if each push must name the queue.
    fn queue(&self) -> Option<&'static str> {
        None
    }

    /// The type's own wait after a failure; `None` if the type has no rule for it.
    fn retry_delay(&self, failures: u32, error: &TaskError) -> Option<Duration> {
        let _ = (failures, error);
        None
    }
}

/// A task for an actor of the embedding application: a message that survives restarts.
///
/// The actor implements `Handler<Run<T>>`; its answer settles the task.
///
/// ```
/// use actix::prelude::*;
/// use callboard::{Run, Task, TaskResult};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Count { by: u64 }
/// impl Task for Count {
///     const TYPE: &'static str = "count";
///     type Output = u64;
/// }
///
/// struct Counter { total: u64 }
/// impl Actor for Counter { type Context = actix::Context<Self>; }
/// impl Handler<Run<Count>> for Counter {
///     type Result = TaskResult<u64>;
///     fn handle(&mut self, run: Run<Count>, _: &mut Self::Context) -> TaskResult<u64> {
///         self.total += run.task.by;
///         Ok(self.total)
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Run<T> {
    /// The task.
    pub task: T,
    /// Its context.
    pub cx: Context,
}

impl<T: Task> Message for Run<T> {
    type Result = TaskResult<T::Output>;
}

fn decode<T: Task>(spec: &TaskSpec) -> Result<T, TaskError> {
    serde_json::from_str(&spec.params)
        .map_err(|error| TaskError::fatal(format!("params cannot be decoded as {:?}: {error}", T::TYPE)))
}

fn failed(error: TaskError) -> LocalBoxFuture<'static, RunResult> {
    Box::pin(std::future::ready(Err(error)))
}

/// The handler of a type that has a `run` of its own.
pub(crate) struct Typed<T>(pub(crate) PhantomData<fn() -> T>);

impl<T: Task> Handle for Typed<T> {
    fn run(&self, cx: Context) -> LocalBoxFuture<'static, RunResult> {
        match decode::<T>(cx.task()) {
            Ok(task) => Box::pin(async move { returned(task.run(&cx).await) }),
            Err(error) => failed(error),
        }
    }

    fn queue(&self) -> Option<&'static str> {
        Some(T::QUEUE)
    }

    fn retry_delay(&self, failures: u32, error: &TaskError) -> Option<Duration> {
        T::retry_delay(failures, error)
    }
}

/// A closure that takes the params as JSON.
pub(crate) struct AsyncFn<F>(pub(crate) F);

impl<F, Fut, O> Handle for AsyncFn<F>
where
    F: Fn(Value, Context) -> Fut + Send + Sync,
    Fut: Future<Output = TaskResult<O>> + 'static,
    O: IntoOutcome,
{
    fn run(&self, cx: Context) -> LocalBoxFuture<'static, RunResult> {
        match serde_json::from_str(&cx.task().params) {
            Ok(params) => {
                let work = (self.0)(params, cx);
                Box::pin(async move { returned(work.await) })
            }
            Err(error) => failed(TaskError::fatal(format!("params cannot be decoded as JSON: {error}"))),
        }
    }
}

/// A blocking function.
pub(crate) struct BlockingFn<T, F>(pub(crate) F, pub(crate) PhantomData<fn() -> T>);

impl<T, F> Handle for BlockingFn<T, F>
where
    T: Task + Send,
    F: Fn(T, &Context) -> TaskResult<T::Output> + Clone + Send + Sync + 'static,
{
    fn run(&self, cx: Context) -> LocalBoxFuture<'static, RunResult> {
        let task = match decode::<T>(cx.task()) {
            Ok(task) => task,
            Err(error) => return failed(error),
        };
        let work = self.0.clone();
        let (tell, told) = oneshot::channel();
        let (inner, thread) = (cx.clone(), cx.needs_thread());
        cx.blocking_pool().spawn(Box::new(move || {
            // The run was given up while it waited for a thread. By now its task may be held by a different run, or by
            // none.
            let busy = if tell.is_closed() { None } else { thread.begin() };
            if busy.is_none() {
                return;
            }
            // The run may be given up meanwhile, too. Then the receiver is gone.
            drop(tell.send(super::run::caught(|| returned(work(task, &inner)))));
            drop(busy);
        }));
        Box::pin(async move {
            told.await.unwrap_or_else(|_| Err(TaskError::new("the blocking thread ended without an answer")))
        })
    }

    fn queue(&self) -> Option<&'static str> {
        Some(T::QUEUE)
    }

    fn retry_delay(&self, failures: u32, error: &TaskError) -> Option<Duration> {
        T::retry_delay(failures, error)
    }
}

/// An actor of the embedding application.
pub(crate) struct ActorHandler<T: Task<Output: Send> + Send>(pub(crate) Recipient<Run<T>>);

impl<T: Task<Output: Send> + Send> Handle for ActorHandler<T> {
    fn run(&self, cx: Context) -> LocalBoxFuture<'static, RunResult> {
        let task = match decode::<T>(cx.task()) {
            Ok(task) => task,
            Err(error) => return failed(error),
        };
        let answer = self.0.send(Run { task, cx });
        Box::pin(async move {
            answer.await.map_or_else(
                |error| Err(TaskError::new(format!("the actor that handles {:?} did not answer: {error}", T::TYPE))),
                returned,
            )
        })
    }

    fn queue(&self) -> Option<&'static str> {
        Some(T::QUEUE)
    }

    fn retry_delay(&self, failures: u32, error: &TaskError) -> Option<Duration> {
        T::retry_delay(failures, error)
    }
}
