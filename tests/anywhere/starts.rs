//! Starts that are abandoned, and boards whose threads are taken away.

use std::sync::mpsc::channel;
use std::task::{Context as TaskContext, Poll, Waker};

use actix::{Arbiter, System};
use callboard::{Board, BoardError, Event, Outcome, PushError};
use serde_json::json;

use crate::waiting::{PATIENCE, soon};

#[test]
fn a_start_that_is_given_up_leaves_nothing_running() {
    let (tell, told) = channel();
    let builder = Board::builder().on_event(move |event| {
        let name = match event {
            Event::NodeStarted { .. } => "started",
            Event::NodeStopping { .. } => "stopping",
            _ => return,
        };
        tell.send(name).ok();
    });
    let mut start = Box::pin(builder.start());
    let first = start.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    // On a very busy machine the first poll might already return the board. Then it is stopped, like a board whose
    // start was abandoned.
    if let Poll::Ready(board) = first {
        board.unwrap().blocking_stop();
    }
    drop(start);
    assert_eq!(told.recv_timeout(PATIENCE), Ok("started"));
    assert_eq!(told.recv_timeout(PATIENCE), Ok("stopping"));
    // The callback is dropped with the board.
    assert!(told.recv_timeout(PATIENCE).is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected));
}

#[actix_rt::test]
async fn a_board_whose_system_a_handler_stops_says_so_and_its_stop_ends() {
    for storage in [false, true] {
        let folder = tempfile::TempDir::new().unwrap();
        let file = format!("sqlite:{}", folder.path().join("tasks.db").display());
        let board = Board::builder()
            .url(if storage { file } else { "memory:".into() })
            .handler("end", |_, _| async {
                System::current().stop();
                std::future::pending::<()>().await;
                Ok(Outcome::done())
            })
            .start()
            .await
            .unwrap();
        let caller = System::current();
        board.push(json!({"type": "end"})).await.unwrap();
        assert!(soon("the board's end", board.ended()).await, "it says that it has failed");
        assert!(matches!(board.push(json!({"type": "end"})).await, Err(PushError::Closed)));
        assert!(matches!(soon("an answer", board.pop("default", None)).await, Err(BoardError::Closed)));
        soon("the stop", board.stop()).await;
        assert!(caller.arbiter().spawn_fn(|| ()), "the caller's own system goes on");
    }
}

#[actix_rt::test]
async fn workers_whose_arbiter_a_handler_stops_get_another() {
    let board = Board::builder()
        .configure(|c| c.worker_threads = 1)
        .handler("end", |_, _| async {
            Arbiter::current().stop();
            Ok(Outcome::done())
        })
        .handler("plain", |_, _| async { Ok(Outcome::done()) })
        .start()
        .await
        .unwrap();
    board.push(json!({"type": "end"})).await.unwrap();
    for _ in 0..20 {
        let pushed = board.push(json!({"type": "plain"})).await.unwrap();
        soon("a run after that", board.wait(pushed.task_id)).await.unwrap();
    }
    board.stop().await;
}
