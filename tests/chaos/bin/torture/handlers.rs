//! The handlers of the tasks. Each run notes its start and its end; the end is noted before storage learns of it.

use std::sync::Arc;
use std::time::Duration;

use callboard::{BoardBuilder, Context, Outcome, TaskError, TaskResult};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::note::{How, Ledger, Note, RunId};

/// The behaviour of a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Params {
    /// Length of the run, in milliseconds.
    pub(crate) ms: u64,
    /// If set, each run takes a random time up to this instead of `ms`.
    pub(crate) up_to_ms: u64,
    /// The number of attempts that fail first.
    pub(crate) fail: u32,
    /// Snoozes until the task has this age, in milliseconds.
    pub(crate) snooze_ms: u64,
    pub(crate) fatal: bool,
    /// Ignores the request to end.
    pub(crate) deaf: bool,
}

/// Registers the types `work` and `tick` on the board.
pub(crate) fn register(builder: BoardBuilder, ledger: &Arc<Ledger>) -> BoardBuilder {
    ["work", "tick"].into_iter().fold(builder, |builder, kind| {
        let ledger = Arc::clone(ledger);
        builder.handler(kind, move |params, cx| {
            let running = Running::begin(Arc::clone(&ledger), &cx);
            async move {
                let params = serde_json::from_value(params).map_err(|error| TaskError::fatal(error.to_string()))?;
                let (how, result) = work(params, &cx).await;
                running.end(how);
                result
            }
        })
    })
}

/// A run in progress. Its end is noted even when it is dropped.
struct Running {
    ledger: Arc<Ledger>,
    run: RunId,
    ended: bool,
}

impl Running {
    fn begin(ledger: Arc<Ledger>, cx: &Context) -> Self {
        let run = RunId { task: cx.task_id(), started: cx.started_at().as_micros() };
        ledger.note(Note::Begin { run });
        Self { ledger, run, ended: false }
    }

    fn end(mut self, how: How) {
        self.ended = true;
        self.ledger.note(Note::End { run: self.run, how });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.ledger.note(Note::End { run: self.run, how: How::Dropped });
        }
    }
}

async fn work(params: Params, cx: &Context) -> (How, TaskResult) {
    let ms = if params.up_to_ms > 0 { rand::random_range(0..params.up_to_ms) } else { params.ms };
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => {}
        () = cx.cancelled(), if !params.deaf => return (How::Heard, heard()),
    }
    if params.fatal {
        return (How::Fatal, Err(TaskError::fatal("never again").into()));
    }
    if cx.attempt() <= params.fail {
        return (How::Failed, Err(TaskError::new("not yet").into()));
    }
    let age = cx.clock().now().since(cx.task().created_at);
    if age < Duration::from_millis(params.snooze_ms) {
        return (How::Snoozed, Ok(Outcome::Snooze(Duration::from_millis(25))));
    }
    (How::Done, Ok(Outcome::from(json!(cx.started_at().as_micros()))))
}

/// The possible results of a run that is asked to end. At a stop each of them gives the task back; after a cancellation
/// each of them leaves it cancelled.
fn heard() -> TaskResult {
    match rand::random_range(0..3) {
        0 => Err(TaskError::new("asked to end").into()),
        1 => Ok(Outcome::Cancel("asked to end".into())),
        _ => Ok(Outcome::Release),
    }
}
