//! What schedules cost, and how late they fire.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::backend::{OpenOptions, open};
use callboard::{Board, NewTask, Outcome, Schedule, Timestamp, Trigger};
use serde_json::{Value, json};

use super::machine;
use super::options::Options;
use super::scenarios::Result;

/// Each fires once in this time, all of them evenly spread over it.
const PERIOD: Duration = Duration::from_secs(60);

/// Stores `--tasks` schedules, starts a fresh board on them, and lets it fire for `--seconds`. Lateness is from the nominal
/// time to the first line of the handler.
pub(crate) async fn run(options: &Options) -> Result<Value> {
    let begin = Instant::now();
    let maker = Board::builder().url(&options.url).start().await?;
    for number in 0..options.tasks {
        let offset = PERIOD.mul_f64(number as f64 / options.tasks as f64);
        let anchor = Timestamp::from_micros(i64::try_from(offset.as_micros())?);
        let task = NewTask::new("noop", &json!({"at": "{{nominal_time}}"}));
        let trigger = Trigger::every(PERIOD)?.anchored_at(anchor)?;
        // Paused: to make many takes a while.
        maker.schedules().create(Schedule::new(format!("schedule {number}"), trigger, task).paused()).await?;
    }
    let made_s = begin.elapsed().as_secs_f64();
    let (before, begin) = (machine::rss_mb(), Instant::now());
    for number in 0..options.tasks {
        maker.schedules().resume(format!("schedule {number}"), callboard::Resume::FromNow).await?;
    }
    let (resumed_s, rss_mb) = (begin.elapsed().as_secs_f64(), machine::rss_mb());
    maker.stop().await;
    let backend = open(&options.url, &OpenOptions::default())?;
    let begin = Instant::now();
    let loaded = backend.schedule_changes(0)?.due.len();
    let load_s = begin.elapsed().as_secs_f64();
    drop(backend);
    Ok(json!({
        "made_s": made_s, "resumed_s": resumed_s, "rss_mb": rss_mb, "rss_before_mb": before, "loaded": loaded,
        "load_s": load_s, "fired": fire(options).await?,
    }))
}

async fn fire(options: &Options) -> Result<Value> {
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
    let board = Board::builder().url(&options.url).queue("default", options.concurrency).handler("noop", noop);
    let board = board.start().await?;
    // What fell into the time without a board is made up first.
    tokio::time::sleep(Duration::from_secs(10)).await;
    if let Ok(mut late) = late.lock() {
        late.clear();
    }
    let cpu = machine::cpu_time();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let cpu = (machine::cpu_time() - cpu).as_secs_f64() / options.seconds.max(1) as f64;
    board.stop().await;
    let mut late = late.lock().map(|late| late.clone()).unwrap_or_default();
    late.sort_unstable();
    let at = |share: f64| {
        let place = (late.len() as f64 * share) as usize;
        late.get(place.min(late.len().saturating_sub(1))).map(|us| *us as f64 / 1_000.0)
    };
    Ok(
        json!({"firings": late.len(), "late_ms_p50": at(0.5), "late_ms_p99": at(0.99), "late_ms_max": at(1.0), "cpu": cpu}),
    )
}
