//! Lesson: any number of instances on the same database: each time of a schedule makes a single task, and a
//! single instance runs it.
//!
//! Command: `cargo run --example level3_distributed_coordinator -- --instance-id node1`
//!
//! To see two at work, start a second terminal with `--instance-id node2`, and give both the same `--database FILE`.
//! Each runs until the monthly report was made three times (here every 2 s; in production `0 8 1 * *`).
//!
//! Expected output of a single instance:
//! ```text
//! node1: running the monthly report
//! node1: running the monthly report
//! node1: running the monthly report
//! ```
//! With two instances, each report is run by `node1` or `node2`, and the instance that does not run it prints
//! `node2: another instance is running the monthly report`, with its own name.

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use callboard::{Board, Clock, NewTask, Outcome, Schedule, TaskState, Trigger};
use serde_json::json;

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

    let name = Arc::clone(&instance);
    let board = Board::builder()
        .url(url)
        .node_name(instance.to_string())
        .handler("monthly_report", move |_, _| {
            println!("{name}: running the monthly report");
            async {
                // The duration of a report.
                tokio::time::sleep(Duration::from_millis(600)).await;
                Ok(Outcome::done())
            }
        })
        .schedule(Schedule::new(
            "monthly_report",
            Trigger::every(Duration::from_secs(2))?,
            NewTask::new("monthly_report", &json!({"month": "{{local_date}}"})),
        ))
        .start()
        .await?;

    let begun = Clock::system().now();
    let (mut told, mut ended) = (HashSet::new(), 0);
    while ended < REPORTS {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut firings = board.schedules().firings("monthly_report", None, 100).await?;
        firings.retain(|firing| firing.at >= begun);
        ended = firings.iter().filter(|firing| firing.finished_at.is_some()).count();
        for task_id in firings.iter().rev().filter_map(|firing| firing.task_id) {
            let running = board.get(task_id).await?.filter(|task| task.state == TaskState::Running);
            if running.is_some_and(|task| task.node != Some(board.node())) && told.insert(task_id) {
                println!("{instance}: another instance is running the monthly report");
            }
        }
    }
    board.stop().await;
    Ok(())
}
