//! Lesson: a failing task is retried, then becomes a dead letter. It is kept on disk with its reason until an operator
//! retries it, here after a restart of the board.
//!
//! Command: `cargo run --example level2_retries_and_dead_letters [FILE]`
//!
//! `FILE` is the SQLite file of the tasks; by default it is in a new temporary directory.
//!
//! Expected output:
//! ```text
//! attempt 1: the mail server is down
//! attempt 2: the mail server is down
//! attempt 3: the mail server is down
//! dead after 3 attempts: connection refused
//! -- restart, with a mail server --
//! one dead letter of type send_mail is still there
//! attempt 1: mail sent
//! completed; runs in its history: failed, failed, failed, success
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callboard::{Board, Context, Retry, Task, TaskError, TaskFilter, TaskOrder, TaskResult, TaskState};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct SendMail {
    to: String,
}

/// Shared with the handlers through [`Context::data`].
struct MailServer {
    up: AtomicBool,
}

impl Task for SendMail {
    const TYPE: &'static str = "send_mail";
    type Output = ();
    const MAX_ATTEMPTS: u32 = 3;

    fn retry() -> Retry {
        Retry::exponential(Duration::from_millis(20))
    }

    async fn run(self, cx: &Context) -> TaskResult<()> {
        let server = cx.data::<MailServer>().ok_or_else(|| TaskError::fatal("no mail server was configured"))?;
        if !self.to.contains('@') {
            // A retry cannot help: dead at once.
            return Err(TaskError::fatal(format!("{:?} is no address", self.to)).into());
        }
        if !server.up.load(Ordering::Relaxed) {
            println!("attempt {}: the mail server is down", cx.attempt());
            return Err("connection refused".into());
        }
        println!("attempt {}: mail sent", cx.attempt());
        Ok(())
    }
}

async fn start(file: &str, up: bool) -> Result<Board, callboard::StartError> {
    let server = MailServer { up: AtomicBool::new(up) };
    Board::builder().url(format!("sqlite:{file}")).task::<SendMail>().data(server).start().await
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let own = directory.path().join("tasks.db").display().to_string();
    let file = std::env::args().nth(1).unwrap_or(own);

    let board = start(&file, false).await?;
    let pushed = board.push(SendMail { to: "ada@example.org".into() }).await?;
    let task = board.wait(pushed.task_id).await?;
    println!("{} after {} attempts: {}", task.state, task.attempt, task.last_error.unwrap_or_default());
    board.stop().await;

    println!("-- restart, with a mail server --");
    let board = start(&file, true).await?;
    let dead = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
    let page = board.list(dead, TaskOrder::NewestFirst, None, 10).await?;
    for task in page.tasks.iter().filter(|task| task.task_id == pushed.task_id) {
        println!("one dead letter of type {} is still there", task.kind);
        board.retry(task.task_id).await?;
    }
    let task = board.wait(pushed.task_id).await?;
    let runs = board.executions(task.task_id).await?;
    let runs: Vec<_> = runs.iter().map(|run| run.status.as_str()).collect();
    println!("{}; runs in its history: {}", task.state, runs.join(", "));
    board.stop().await;
    Ok(())
}
