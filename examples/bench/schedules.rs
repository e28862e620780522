//! The cost of schedules, and the delay of their firings.
//!
//! A process of its own creates them, so that the measured memory is that of a board which loads them.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::{Board, NewTask, Outcome, Part, Resume, Schedule, Timestamp, Trigger, Zone};
use serde_json::{Value, json};

use super::machine;
use super::options::Options;
use super::scenarios::Result;

/// Each fires once in this period: evenly spread over it, or all together at its beginning.
const PERIOD: Duration = Duration::from_secs(60);
/// The time to make up the firings that were due before the board started.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Stores `--tasks` schedules; with a `--group` over 1 all fire at the same moment.
pub(crate) async fn make(options: &Options) -> Result<Value> {
    let begin = Instant::now();
    let maker = Board::builder().url(&options.url).start().await?;
    for number in 0..options.tasks {
        let trigger = if options.group > 1 {
            Trigger::cron("* * * * *", Zone::UTC)?
        } else {
            let offset = PERIOD.mul_f64(number as f64 / options.tasks as f64);
            Trigger::every(PERIOD)?.anchored_at(Timestamp::from_micros(i64::try_from(offset.as_micros())?))?
        };
        let task = NewTask::new("noop", &json!({"at": "{{nominal_time}}"}));
        // Paused, because creating many takes a while.
        maker.schedules().create(Schedule::new(format!("schedule {number}"), trigger, task).paused()).await?;
    }
    let made_s = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    for number in 0..options.tasks {
        maker.schedules().resume(format!("schedule {number}"), Resume::FromNow).await?;
    }
    let resumed_s = begin.elapsed().as_secs_f64();
    maker.stop().await;
    Ok(json!({"made_s": made_s, "resumed_s": resumed_s}))
}

/// Lets a process create `--tasks` schedules, starts a board on them, and lets it fire for `--seconds`. The delay is
/// from the nominal time to the first line of the handler.
pub(crate) async fn run(options: &Options) -> Result<Value> {
    let (tasks, group) = (options.tasks.to_string(), options.group.to_string());
    let made = Command::new(std::env::current_exe()?)
        .args(["make-schedules", "--url", &options.url, "--tasks", &tasks, "--group", &group])
        .output()?;
    if !made.status.success() {
        return Err(format!("no schedules were made: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    let made: Value = serde_json::from_slice(&made.stdout)?;
    let late: Arc<Mutex<Vec<i64>>> = Arc::default();
    let sink = Arc::clone(&late);
    let noop = move |_, cx: callboard::Context| {
        let now = cx.clock().now().as_micros();
        let nominal = cx.task().extras().firing.map_or(now, |firing| firing.nominal_at.as_micros());
        if let Ok(mut late) = sink.lock() {
            late.push(now - nominal);
        }
        async { Ok(Outcome::done()) }
    };
    let empty = Board::builder().start().await?;
    // This warms up threads and allocator, so that their memory does not count for the schedules.
    empty.stop().await;
    let (before_mb, begin) = (machine::rss_mb(), Instant::now());
    let board = Board::builder().url(&options.url).queue("default", options.concurrency).handler("noop", noop);
    let board = board.start().await?;
    // The first tick is that of a start, the second that of a round, which begins by loading.
    let first = ticked(&board).await;
    while ticked(&board).await <= first + Duration::from_millis(1) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (load_s, loaded_mb) = (begin.elapsed().as_secs_f64(), machine::rss_mb());
    tokio::time::sleep(CATCH_UP).await;
    if let Ok(mut late) = late.lock() {
        late.clear();
    }
    let cpu = machine::cpu_time();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let cpu_percent = (machine::cpu_time() - cpu).as_secs_f64() / options.seconds.max(1) as f64 * 100.0;
    let peak_rss_mb = machine::peak_rss_mb();
    board.stop().await;
    let mut late = late.lock().map(|late| late.clone()).unwrap_or_default();
    late.sort_unstable();
    let at = |share: f64| {
        let place = (late.len() as f64 * share) as usize;
        late.get(place.min(late.len().saturating_sub(1))).map(|us| *us as f64 / 1_000.0)
    };
    Ok(json!({
        "made": made["measured"], "start_and_load_s": load_s, "rss_before_mb": before_mb, "rss_loaded_mb": loaded_mb,
        "peak_rss_mb": peak_rss_mb, "cpu_percent": cpu_percent, "firings": late.len(), "late_ms_p50": at(0.5),
        "late_ms_p99": at(0.99), "late_ms_max": at(1.0),
    }))
}

/// The time of the scheduler's last tick.
async fn ticked(board: &Board) -> Instant {
    loop {
        let health = board.health().await;
        let scheduler = health.parts.iter().find(|part| part.part == Part::Scheduler);
        if let Some(at) = scheduler.and_then(|part| Instant::now().checked_sub(part.last_tick_age?)) {
            return at;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
