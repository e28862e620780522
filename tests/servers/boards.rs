//! Two boards on the same database notice each other's pushes, cancels and pauses.

use std::time::{Duration, Instant};

use callboard::{Board, Context, NewTask, Outcome, TaskError, TaskState};
use serde_json::json;
use tokio::sync::mpsc;

use crate::place::{Place, on_both};
use crate::waiting::{eventually, soon};

on_both!(a_push_is_run_by_the_other, a_cancel_reaches_the_other, a_pause_reaches_the_other);

/// Far longer than any test, so that no result comes from a periodic look.
const NEVER: Duration = Duration::from_secs(600);
/// Promised time of cancels and pauses, whether the database sends notifications or a board has to poll.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// A board without handlers.
async fn pusher(url: &str) -> Board {
    Board::builder().url(url).configure(|c| c.check_interval = NEVER).start().await.unwrap()
}

/// A board that runs `work` and reports the start of each run.
async fn worker(url: &str) -> (Board, mpsc::UnboundedReceiver<Instant>) {
    let (tell, told) = mpsc::unbounded_channel();
    let board = Board::builder()
        .url(url)
        .configure(|c| c.check_interval = NEVER)
        .handler("work", move |params: serde_json::Value, cx: Context| {
            // Sending fails if the test is already over.
            tell.send(Instant::now()).ok();
            async move {
                if params["waits"] == true {
                    cx.cancelled().await;
                    return Err(TaskError::new("asked to end").into());
                }
                Ok(Outcome::done())
            }
        })
        .start()
        .await
        .unwrap();
    (board, told)
}

/// The median of nine tries, because a machine with other work is slow at some moments.
async fn median(mut one: impl AsyncFnMut() -> Duration) -> Duration {
    let mut spans = Vec::new();
    for _ in 0..9 {
        spans.push(one().await);
    }
    spans.sort_unstable();
    println!("{:?} to {:?}, median {:?}", spans[0], spans[8], spans[4]);
    spans[4]
}

async fn a_push_is_run_by_the_other<P: Place>() {
    let place = P::new();
    pushes_within(&place.url(), Duration::from_millis(if P::IS_POSTGRES { 250 } else { 1_000 })).await;
}

/// Pushes tasks on the first board and runs them on the second.
pub(crate) async fn pushes_within(url: &str, limit: Duration) {
    pushes_within_after(url, limit, async || ()).await;
}

/// Like `pushes_within`, after `happens` has disturbed both boards.
pub(crate) async fn pushes_within_after(url: &str, limit: Duration, happens: impl AsyncFnOnce()) {
    let (one, (other, mut begun)) = (pusher(url).await, worker(url).await);
    happens().await;
    let median = median(async || {
        let pushed = Instant::now();
        let task_id = one.push(NewTask::new("work", &json!({}))).await.unwrap().task_id;
        let span = soon("its begin", begun.recv()).await.unwrap().duration_since(pushed);
        assert_eq!(soon("its end", other.wait(task_id)).await.unwrap().state, TaskState::Completed);
        span
    });
    assert!(median.await < limit);
    for board in [one, other] {
        soon("the stop", board.stop()).await;
    }
}

async fn a_cancel_reaches_the_other<P: Place>() {
    let place = P::new();
    cancels_within(&place.url(), AT_ONCE).await;
}

/// Cancels on the first board a task that the second board runs.
pub(crate) async fn cancels_within(url: &str, limit: Duration) {
    let (one, (other, mut begun)) = (pusher(url).await, worker(url).await);
    let median = median(async || {
        let task_id = one.push(NewTask::new("work", &json!({"waits": true}))).await.unwrap().task_id;
        soon("its begin", begun.recv()).await.unwrap();
        let asked = Instant::now();
        assert!(one.cancel(task_id, "no longer wanted").await.unwrap());
        assert_eq!(soon("its end", other.wait(task_id)).await.unwrap().state, TaskState::Cancelled);
        asked.elapsed()
    });
    assert!(median.await < limit);
    for board in [one, other] {
        soon("the stop", board.stop()).await;
    }
}

async fn a_pause_reaches_the_other<P: Place>() {
    let place = P::new();
    pauses_within(&place.url(), AT_ONCE).await;
}

/// Pauses on the first board a queue that the second board runs.
pub(crate) async fn pauses_within(url: &str, limit: Duration) {
    let (one, (other, _begun)) = (pusher(url).await, worker(url).await);
    // The board that is to notice the pause pushes the probe itself. A push on the first board would wake it with the
    // same wake-up that tells of the pause.
    let is_taken = async || {
        let task_id = other.push(NewTask::new("work", &json!({}))).await.unwrap().task_id;
        let state = other.get(task_id).await.unwrap().unwrap().state;
        one.delete(task_id).await.unwrap();
        state != TaskState::Pending
    };
    let median = median(async || {
        let asked = Instant::now();
        one.pause("default").await.unwrap();
        eventually("the pause arrives", async || (!is_taken().await).then_some(())).await;
        let span = asked.elapsed();
        one.resume("default").await.unwrap();
        eventually("its end arrives", async || is_taken().await.then_some(())).await;
        span
    });
    assert!(median.await < limit);
    for board in [one, other] {
        soon("the stop", board.stop()).await;
    }
}
