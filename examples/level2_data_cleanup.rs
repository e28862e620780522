//! Lesson: schedules with rules: an hourly cleanup of tokens that never overlaps and has a misfire grace of five
//! minutes, and an archive at 02:00 with retries. They are kept on disk, and a restart neither forgets nor repeats a
//! time.
//!
//! Command: `cargo run --example level2_data_cleanup [FILE]`
//!
//! `FILE` is the SQLite file of the schedules; by default it is in a new temporary directory.
//!
//! Expected output:
//! ```text
//! archive_logs: every day at 02:00, UTC
//! cleanup_tokens: every hour, in minute 0, UTC
//! -- run both now --
//! cleanup_tokens: 2 expired tokens removed
//! archive_logs: the disk is busy
//! archive_logs: compressed and uploaded
//! -- restart --
//! archive_logs: active, last run completed
//! cleanup_tokens: active, last run completed
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::time::Duration;

use callboard::{Board, Context, Language, NewTask, Overlap, Schedule, ScheduleFilter, TaskResult, Trigger, Zone};
use serde_json::{Value, json};

const MINUTE: u64 = 60;

async fn cleanup_tokens(params: Value, cx: Context) -> TaskResult<usize> {
    // In an application: DELETE FROM token WHERE expires_at < now().
    let tokens = [("a", "2020-01-01"), ("b", "2021-06-30"), ("c", "9999-12-31")];
    let now = params["now"].as_str().unwrap_or_default();
    let expired = tokens.iter().filter(|(_, expires)| *expires < now).count();
    slog::info!(cx.log(), "cleaned up"; "tokens" => expired);
    println!("cleanup_tokens: {expired} expired tokens removed");
    Ok(expired)
}

async fn archive_logs(_params: Value, cx: Context) -> TaskResult<()> {
    if cx.attempt() == 1 {
        println!("archive_logs: the disk is busy");
        // The error goes to the task's log, and the retry policy decides the time of the next attempt.
        return Err("the disk is busy".into());
    }
    println!("archive_logs: compressed and uploaded");
    Ok(())
}

fn tokens() -> Result<Schedule, callboard::TriggerError> {
    let task = NewTask::new("cleanup_tokens", &json!({"now": "{{nominal_time}}"}));
    Ok(Schedule::new("cleanup_tokens", Trigger::cron("@hourly", Zone::UTC)?, task)
        .misfire_grace(Duration::from_secs(5 * MINUTE))
        .max_instances(1)
        .overlap(Overlap::Skip))
}

fn logs() -> Result<Schedule, callboard::TriggerError> {
    // In production `.retry_count(3, 300)`: three retries, five minutes apart.
    let task = NewTask::new("archive_logs", &json!({"day": "{{local_date}}"})).retry_count(3, 0);
    Ok(Schedule::new("archive_logs", Trigger::cron("0 2 * * *", Zone::UTC)?, task).max_instances(1).pause_after(5))
}

async fn start(file: &str) -> Result<Board, Box<dyn std::error::Error>> {
    let board = Board::builder()
        .url(format!("sqlite:{file}"))
        .handler("cleanup_tokens", cleanup_tokens)
        .handler("archive_logs", archive_logs)
        .schedule(tokens()?)
        .schedule(logs()?);
    Ok(board.start().await?)
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let own = directory.path().join("schedules.db").display().to_string();
    let file = std::env::args().nth(1).unwrap_or(own);

    let board = start(&file).await?;
    for schedule in board.schedules().list(ScheduleFilter::default(), None, 10).await? {
        println!("{}: {}", schedule.name, schedule.read_trigger()?.describe(Language::English));
    }
    println!("-- run both now --");
    for name in ["cleanup_tokens", "archive_logs"] {
        let task_id = board.schedules().trigger(name).await?;
        board.wait(task_id).await?;
    }
    board.stop().await;

    println!("-- restart --");
    let board = start(&file).await?;
    for schedule in board.schedules().list(ScheduleFilter::default(), None, 10).await? {
        let details = board.schedules().get(&schedule.name).await?;
        let last = details.firings.first().and_then(|firing| firing.state);
        println!(
            "{}: {}, last run {}",
            schedule.name,
            schedule.status,
            last.map_or("unknown", |state| state.as_str())
        );
    }
    board.stop().await;
    Ok(())
}
