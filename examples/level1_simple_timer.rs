//! Lesson: a schedule creates a task each time its trigger fires: every three seconds, or once at a time.
//!
//! Command: `cargo run --example level1_simple_timer`
//!
//! Expected output:
//! ```text
//! tick
//! once, after 5 s
//! tick
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::time::Duration;

use callboard::{Board, Clock, NewTask, Outcome, Schedule, Trigger};
use tokio::sync::mpsc;

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (tell, mut told) = mpsc::unbounded_channel();
    let say = move |text: serde_json::Value, _| {
        drop(tell.send(text));
        async { Ok(Outcome::done()) }
    };
    let start = Clock::system().now();
    let (often, once) = (Duration::from_secs(3), Trigger::at(start + Duration::from_secs(5))?);
    let often = Trigger::every(often)?.anchored_at(start + often)?;
    let board = Board::builder().handler("say", say);
    let board = board.schedule(Schedule::new("often", often, NewTask::new("say", &"tick")));
    let board = board.schedule(Schedule::new("once", once, NewTask::new("say", &"once, after 5 s")));
    let board = board.start().await?;
    for _ in 0..3 {
        let text = told.recv().await.ok_or("the board keeps its handler")?;
        println!("{}", text.as_str().unwrap_or_default());
    }
    board.stop().await;
    Ok(())
}
