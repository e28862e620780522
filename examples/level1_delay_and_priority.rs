//! Lesson: a smaller priority runs first, equal priorities in push order; a delayed task waits for its time.
//!
//! Command: `cargo run --example level1_delay_and_priority`
//!
//! Expected output:
//! ```text
//! urgent
//! first
//! second
//! later
//! delayed
//! it waited for half a second: true
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use callboard::{Board, NewTask};

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let say = |text: serde_json::Value, _| async move {
        println!("{}", text.as_str().unwrap_or_default());
        Ok(())
    };
    // A single place, so that the order is visible.
    let board = Board::builder().queue("default", 1).handler("say", say).start().await?;
    let task = |text: &str, priority| NewTask::new("say", &text).priority(priority);
    let tasks = [task("later", 9), task("first", 0), task("second", 0), task("urgent", -5)];
    for pushed in board.push_many(tasks).await? {
        board.wait(pushed.task_id).await?;
    }
    let delay = std::time::Duration::from_millis(500);
    let delayed = board.push(task("delayed", 0).delay(delay)).await?;
    let delayed = board.wait(delayed.task_id).await?;
    println!("it waited for half a second: {}", delayed.started_at >= Some(delayed.created_at + delay));
    board.stop().await;
    Ok(())
}
