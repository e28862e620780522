//! The handlers of the node's tasks. Each notes the start of its run in the ledger.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use callboard::{BoardBuilder, Context, Outcome, TaskError, TaskResult};
use serde_json::Value;

use crate::ledger::Ledger;

fn number(params: &Value, name: &str) -> u64 {
    params[name].as_u64().unwrap_or(0)
}

/// Registers all types on the board.
pub(crate) fn register(builder: BoardBuilder, ledger: &Arc<Ledger>) -> BoardBuilder {
    builder
        .handler("plain", noted(ledger, plain))
        .handler("flaky", noted(ledger, flaky))
        .handler("snooze", noted(ledger, snooze))
        .handler("fatal", noted(ledger, |_, _| async { Err(TaskError::fatal("never again").into()) }))
        .handler("gate", noted(ledger, gate))
        .handler("abort", noted(ledger, |_, _| async { std::process::abort() }))
}

fn noted<F, Fut>(ledger: &Arc<Ledger>, run: F) -> impl Fn(Value, Context) -> Fut + Send + Sync + 'static + use<F, Fut>
where
    F: Fn(Value, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = TaskResult> + 'static,
{
    let ledger = Arc::clone(ledger);
    move |params, cx| {
        ledger.note("run", &[cx.task_id()]);
        run(params, cx)
    }
}

/// Takes `ms` milliseconds.
async fn plain(params: Value, _cx: Context) -> TaskResult {
    let ms = number(&params, "ms");
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    Ok(Outcome::done())
}

/// Fails the first `fail` attempts.
async fn flaky(params: Value, cx: Context) -> TaskResult {
    let fail = number(&params, "fail");
    if u64::from(cx.attempt()) <= fail {
        return Err(TaskError::new("not yet").into());
    }
    Ok(Outcome::done())
}

/// Snoozes until the task is `ms` milliseconds old.
async fn snooze(params: Value, cx: Context) -> TaskResult {
    let age = cx.clock().now().since(cx.task().created_at);
    let until = Duration::from_millis(number(&params, "ms"));
    Ok(if age < until { Outcome::Snooze(Duration::from_millis(25)) } else { Outcome::done() })
}

/// Waits until the file `path` exists, or until it is asked to end. A `stubborn` task ignores that request.
async fn gate(params: Value, cx: Context) -> TaskResult {
    let path = params["path"].as_str().unwrap_or_default();
    let opened = async {
        while !std::path::Path::new(path).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let stubborn = params["stubborn"].as_bool().unwrap_or(false);
    tokio::select! {
        () = opened => Ok(Outcome::done()),
        () = cx.cancelled(), if !stubborn => Err(TaskError::new("asked to end").into()),
    }
}
