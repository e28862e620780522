//! Stops from unexpected places, and the time limit of a stop.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context as TaskContext, Waker};
use std::time::{Duration, Instant};

use callboard::backend::memory::Memory;
use callboard::testing::Faulty;
use callboard::{Board, BoardBuilder, Config, NewTask, Outcome, TaskState};
use serde_json::json;
use tokio::sync::Notify;

use crate::waiting::soon;

/// The shared slot of a board that its own handlers stop.
type Own = Arc<OnceLock<Board>>;

fn quick() -> BoardBuilder {
    Board::builder().drain(Duration::from_millis(50)).cancel_grace(Duration::from_millis(50))
}

#[actix_rt::test]
async fn a_handler_may_stop_its_board() {
    let own = Own::default();
    let handlers = Arc::clone(&own);
    let board = quick().handler("stop", move |_, _| {
        let board = handlers.get().unwrap().clone();
        async move {
            board.stop().await;
            Ok(Outcome::done())
        }
    });
    let board = own.get_or_init(|| futures_now(board)).clone();
    let pushed = board.push(json!({"type": "stop"})).await.unwrap();
    assert!(!soon("the end", board.ended()).await);
    soon("the stop", board.stop()).await;
    let task = board.get(pushed.task_id).await;
    // The stop treated this task normally: it waited for the task and then gave it back.
    if let Ok(Some(task)) = task {
        assert_eq!((task.state, task.attempt), (TaskState::Pending, 0));
    }
}

#[actix_rt::test]
async fn a_handler_may_block_on_the_stop_of_its_board() {
    let own = Own::default();
    let handlers = Arc::clone(&own);
    let board = quick().handler("stop", move |_, _| {
        handlers.get().unwrap().blocking_stop();
        async { Ok(Outcome::done()) }
    });
    let board = own.get_or_init(|| futures_now(board)).clone();
    board.push(json!({"type": "stop"})).await.unwrap();
    assert!(!soon("the end", board.ended()).await);
    soon("the stop", board.stop()).await;
}

#[actix_rt::test]
async fn a_callback_may_stop_its_board() {
    let own = Own::default();
    let callback = Arc::clone(&own);
    let board = quick()
        .handler("plain", |_, _| async { Ok(Outcome::done()) })
        .on_completed("plain", move |_| callback.get().unwrap().blocking_stop());
    let board = own.get_or_init(|| futures_now(board)).clone();
    board.push(json!({"type": "plain"})).await.unwrap();
    assert!(!soon("the end", board.ended()).await);
    soon("the stop", board.stop()).await;
}

#[actix_rt::test]
async fn a_destructor_of_a_run_may_stop_its_board() {
    struct StopsAtItsEnd(Board);
    impl Drop for StopsAtItsEnd {
        fn drop(&mut self) {
            self.0.blocking_stop();
        }
    }
    let own = Own::default();
    let handlers = Arc::clone(&own);
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let board = quick().handler("long", move |_, _| {
        let stops = StopsAtItsEnd(handlers.get().unwrap().clone());
        tell.notify_one();
        async move {
            std::future::pending::<()>().await;
            drop(stops);
            Ok(Outcome::done())
        }
    });
    let board = own.get_or_init(|| futures_now(board)).clone();
    board.push(json!({"type": "long"})).await.unwrap();
    soon("the run", begun.notified()).await;
    // The run is dropped at the end of the grace, and then stops the board that waits for it.
    soon("the stop", board.stop()).await;
}

/// Starts a board on a separate thread, because its slot is filled by a plain function.
fn futures_now(builder: BoardBuilder) -> Board {
    let start = move || actix_rt::System::new().block_on(builder.start()).unwrap();
    std::thread::spawn(start).join().unwrap()
}

#[actix_rt::test]
async fn a_stop_whose_future_is_dropped_goes_on_to_its_end() {
    let board = Board::builder().start().await.unwrap();
    let mut stop = Box::pin(board.stop());
    let asked = stop.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    assert!(asked.is_pending(), "it takes longer than one look");
    drop(stop);
    assert!(!soon("the end", board.ended()).await);
}

#[actix_rt::test]
async fn a_run_hears_of_the_stop_at_its_beginning() {
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let board = Board::builder()
        // Far longer than the test may take. So the run ends because it learns of the stop, not because the drain is
        // over.
        .drain(Duration::from_secs(3_600))
        .handler("long", move |_, cx| {
            let tell = Arc::clone(&tell);
            async move {
                assert!(!cx.is_stopping());
                tell.notify_one();
                cx.stopping().await;
                assert!(cx.is_stopping() && !cx.is_cancelled());
                cx.push(NewTask::new("rest", &7)).await?;
                Ok(Outcome::from(json!("made a checkpoint")))
            }
        })
        .start()
        .await
        .unwrap();
    let pushed = board.push(json!({"type": "long"})).await.unwrap();
    let ends = Arc::new(Mutex::new(None));
    let waiting = actix_rt::spawn({
        let (board, ends) = (board.clone(), Arc::clone(&ends));
        async move {
            board.stopping().await;
            *ends.lock().unwrap() = Some(());
        }
    });
    soon("the run", begun.notified()).await;
    let (task, ()) = soon("the stop", async { tokio::join!(board.wait(pushed.task_id), board.stop()) }).await;
    assert_eq!(task.unwrap().result, Some(json!("made a checkpoint")));
    soon("the news", waiting).await.unwrap();
    assert!(ends.lock().unwrap().is_some());
}

#[test]
fn by_default_a_stop_ends_before_kubernetes_kills() {
    let config = Config::default();
    let bound = config.drain + config.cancel_grace + Duration::from_secs(2);
    assert_eq!(bound, Duration::from_secs(25), "5 s are left of 30 for the `preStop` hook");
}

/// The documented time limit, in real time: with a handler that blocks its thread, with storage that takes an hour for
/// each commit, and with a callback that never returns.
#[actix_rt::test]
async fn a_stop_keeps_to_its_bound_whatever_blocks() {
    let (go, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let begun = Arc::new(Notify::new());
    let blocks = move |what: &'static str| {
        let (tell, gate) = (Arc::clone(&begun), Arc::clone(&gate));
        (Arc::clone(&tell), move || {
            tell.notify_one();
            // After the test `recv` returns an error, which also ends the wait.
            gate.lock().unwrap().recv().ok();
            what
        })
    };
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let ((run, block_run), (told, block_callback)) = (blocks("run"), blocks("callback"));
    let _ = told;
    let board = quick()
        .backend(storage.clone())
        .handler("blocks", move |_, _| {
            block_run();
            async { Ok(Outcome::done()) }
        })
        .on_running("blocks", move |_| {
            block_callback();
        })
        .start()
        .await
        .unwrap();
    board.push(json!({"type": "blocks"})).await.unwrap();
    soon("the run", run.notified()).await;
    storage.slow_down(Duration::from_secs(3_600));
    let start = Instant::now();
    soon("the stop", board.stop()).await;
    // The promise is 2.1 s. The rest is tolerance for a machine that gives this process no time.
    assert!(start.elapsed() < Duration::from_millis(3_600), "{:?}", start.elapsed());
    drop(go);
}
