//! Lesson: a task is a struct with a name and a `run`; the board runs each pushed task.
//!
//! Command: `cargo run --example level1_push_and_handle`
//!
//! Expected output:
//! ```text
//! hello, 世界, this is attempt 1
//! the task is completed, its result: 2
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use callboard::{Board, Context, Task, TaskResult};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Greet {
    name: String,
}

impl Task for Greet {
    const TYPE: &'static str = "greet";
    type Output = usize;

    async fn run(self, cx: &Context) -> TaskResult<usize> {
        println!("hello, {}, this is attempt {}", self.name, cx.attempt());
        Ok(self.name.chars().count())
    }
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let board = Board::builder().task::<Greet>().start().await?;
    let pushed = board.push(Greet { name: "世界".into() }).await?;
    let letters: usize = board.wait_as(pushed.task_id).await?;
    println!("the task is completed, its result: {letters}");
    board.stop().await;
    Ok(())
}
