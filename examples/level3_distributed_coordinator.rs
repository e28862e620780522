//! Lesson: any number of instances on one database: each time of a schedule makes one task, and one instance runs it.
//!
//! Command: `cargo run --example level3_distributed_coordinator -- --instance-id node1`
//!
//! To see two at work, give both `--database FILE`, and the other one `--instance-id node2`, in another terminal.
//! Each runs until the monthly report was made three times (here every 2 s; in production `0 8 1 * *`).
//!
//! Expected output of one instance alone:
//! ```text
//! node1: running the monthly report
//! node1: running the monthly report
//! node1: running the monthly report
//! ```
//! Of two instances one says this, and the other `node2: another instance is running the monthly report`.

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use callboard::{Board, Clock, Event, FiringCause, NewTask, Outcome, Schedule, Trigger};
use serde_json::json;
use tokio::sync::mpsc;

const REPORTS: usize = 3;

struct Args {
    instance: String,
    database: Option<String>,
}

fn arguments() -> Result<Args, lexopt::Error> {
    use lexopt::{Arg, ValueExt};
    let mut args = Args { instance: "node1".into(), database: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("instance-id") => args.instance = parser.value()?.string()?,
            Arg::Long("database") => args.database = Some(parser.value()?.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(args)
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = arguments()?;
    let directory = tempfile::tempdir()?;
    let own = directory.path().join("coordinator.db").display().to_string();
    let url = format!("sqlite:{}", args.database.unwrap_or(own));
    let instance: Arc<str> = args.instance.into();

    let (tell, mut mine) = mpsc::unbounded_channel();
    let name = Arc::clone(&instance);
    let board = Board::builder()
        .url(url)
        .node_name(instance.to_string())
        .handler("monthly_report", move |_, _| {
            println!("{name}: running the monthly report");
            async { Ok(Outcome::done()) }
        })
        .on_event(move |event| {
            if let Event::Running(task) = event {
                tell.send(task.task_id).ok();
            }
        })
        .schedule(Schedule::new(
            "monthly_report",
            Trigger::every(Duration::from_secs(2))?,
            NewTask::new("monthly_report", &json!({"month": "{{local_date}}"})),
        ))
        .start()
        .await?;

    let mut ours = Vec::new();
    let begun = Clock::system().now();
    let mut seen = 0;
    while seen < REPORTS {
        tokio::time::sleep(Duration::from_millis(100)).await;
        while let Ok(task_id) = mine.try_recv() {
            ours.push(task_id);
        }
        let mut firings = board.schedules().firings("monthly_report", None, 100).await?;
        firings.retain(|firing| firing.cause == FiringCause::Schedule && firing.at >= begun);
        let ended = firings.iter().rev().filter(|firing| firing.finished_at.is_some());
        for firing in ended.skip(seen) {
            if firing.task_id.is_some_and(|task_id| !ours.contains(&task_id)) {
                println!("{instance}: another instance is running the monthly report");
            }
            seen += 1;
        }
    }
    board.stop().await;
    Ok(())
}
