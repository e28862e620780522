//! Subscriptions to events.

use std::time::Duration;

use actix::prelude::*;
use callboard::{Board, Event, TaskState};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Forwards the task state of each event to a channel. The channel closes when the actor ends.
struct Listener(UnboundedSender<TaskState>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Event> for Listener {
    type Result = ();
    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        if let Some(fact) = event.task() {
            self.0.send(fact.state).ok();
        }
    }
}

#[actix_rt::test]
async fn a_subscriber_hears_of_each_state_and_is_let_go_at_the_end() {
    let board = Board::builder().handler("n", |_, _| async { Ok(()) }).start().await.unwrap();
    let (hear, mut heard) = unbounded_channel();
    let subscription = board.subscribe(Listener(hear).start().recipient());
    let task = board.push(json!({"type": "n"})).await.unwrap().task_id;
    board.wait(task).await.unwrap();
    let mut states = vec![heard.recv().await.unwrap(), heard.recv().await.unwrap()];
    // A task that starts at once is never pending. A task that arrives while the board is still busy with its start is
    // pending first.
    if states[0] == TaskState::Pending {
        states = vec![states[1], heard.recv().await.unwrap()];
    }
    assert_eq!(states, [TaskState::Running, TaskState::Completed]);

    assert!(board.unsubscribe(subscription));
    assert!(!board.unsubscribe(subscription));
    // The board held the last address of the listener. Without an address the actor ends, and the channel closes.
    assert_eq!(heard.recv().await, None);
    board.stop().await;
}

/// An actor that stops at its first event.
struct Leaver;

impl Actor for Leaver {
    type Context = Context<Self>;
}

impl Handler<Event> for Leaver {
    type Result = ();
    fn handle(&mut self, _: Event, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[actix_rt::test]
async fn a_subscriber_that_has_ended_is_forgotten() {
    let builder = Board::builder().configure(|c| c.event_buffer = 1).handler("n", |_, _| async { Ok(()) });
    let board = builder.start().await.unwrap();
    let subscription = board.subscribe(Leaver.start().recipient());
    let forgotten = async {
        while board.missed(subscription).is_some() {
            let task = board.push(json!({"type": "n"})).await.unwrap().task_id;
            board.wait(task).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("it is kept for ever");
    assert!(!board.unsubscribe(subscription));
    assert_eq!(board.health().await.missed_events, 0, "nobody misses anything");
    board.stop().await;
}
