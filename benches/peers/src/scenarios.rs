//! The scenarios of `examples/bench`, for any queue. Clocks start and stop at the same points as in that program.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::options::Options;
use crate::{Peer, Result, machine, probe};

/// A queue without progress for this time has lost its workers.
const STALLED: Duration = Duration::from_secs(30);

pub(crate) async fn run<P: Peer>(options: &Options) -> Result<Value> {
    let peer = P::create(options).await?;
    match options.scenario.as_str() {
        "push" => push(&peer, options, 1).await,
        "bulk" if !P::HAS_BULK => Err(format!("{} has no call that stores many tasks", options.peer.as_str()).into()),
        "bulk" => push(&peer, options, 1_000).await,
        "drain" => drain(&peer, options).await,
        "latency" => latency(&peer, options).await,
        other => Err(format!("unknown scenario {other}").into()),
    }
}

fn payload(options: &Options) -> String {
    "x".repeat(options.payload)
}

async fn push<P: Peer>(peer: &P, options: &Options, group: u64) -> Result<Value> {
    let begin = Instant::now();
    for _ in 0..options.tasks / group {
        if group == 1 {
            peer.push(payload(options)).await?;
        } else {
            peer.push_many((0..group).map(|_| payload(options)).collect()).await?;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (pushed, stored) = (options.tasks / group * group, peer.unfinished().await?);
    if stored != pushed {
        return Err(format!("{pushed} tasks were pushed, {stored} are stored").into());
    }
    Ok(json!({"pushes_per_s": rate(pushed, seconds), "seconds": seconds, "peak_rss_mb": machine::peak_rss_mb()}))
}

/// A queue full of waiting tasks; workers start and work on them until none is left.
async fn drain<P: Peer>(peer: &P, options: &Options) -> Result<Value> {
    let total = options.tasks / 1_000 * 1_000;
    for _ in 0..total / 1_000 {
        peer.push_many((0..1_000).map(|_| payload(options)).collect()).await?;
    }
    let (begin, cpu) = (Instant::now(), machine::cpu_time());
    let workers = peer.start(options).await?;
    let (mut runs, mut last_run) = (0, Instant::now());
    while probe::runs() < total {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if probe::runs() > runs {
            (runs, last_run) = (probe::runs(), Instant::now());
        } else if last_run.elapsed() > STALLED {
            return Err(format!("stalled after {runs} runs, with {} tasks left", peer.unfinished().await?).into());
        }
    }
    // Storage is asked only when all tasks have run: counting is work, too.
    while peer.unfinished().await? > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if last_run.elapsed() > STALLED {
            return Err(format!("all tasks ran, {} never finished", peer.unfinished().await?).into());
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = (machine::cpu_time() - cpu).as_secs_f64();
    drop(workers);
    Ok(json!({
        "tasks_per_s": rate(total, seconds), "seconds": seconds, "cpu_us_per_task": cpu * 1e6 / total as f64,
        // Greater than the number of tasks if a queue runs some of them twice.
        "runs": probe::runs(), "peak_rss_mb": machine::peak_rss_mb(),
    }))
}

/// Time from just before the push to the first line of the handler.
async fn latency<P: Peer>(peer: &P, options: &Options) -> Result<Value> {
    let clock = Instant::now();
    let mut told = probe::listen(clock);
    let workers = peer.start(options).await?;
    // Workers with notifications are listening by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut samples = Vec::new();
    for _ in 0..options.tasks {
        let sent = clock.elapsed().as_nanos();
        peer.push(sent.to_string()).await?;
        let told = tokio::time::timeout(STALLED, told.recv()).await.map_err(|_| "stalled")?;
        samples.push(told.ok_or("the handler is gone")?);
        tokio::time::sleep(Duration::from_micros(options.pause_us)).await;
    }
    drop(workers);
    Ok(spread(samples))
}

fn spread(mut samples: Vec<Duration>) -> Value {
    samples.sort_unstable();
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    json!({"p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "max_us": at(1.0), "samples": samples.len()})
}

fn rate(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds) as u64
}
