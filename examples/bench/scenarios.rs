//! The scenarios.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use callboard::backend::{self, ClaimRequest, Commit, OpenOptions, Sweep};
use callboard::{
    Board, BoardBuilder, ClaimToken, Clock, Name, NewTask, NodeId, Outcome, Schedule, TaskFilter, TaskOrder,
    TaskState, Trigger, Zone,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::machine;
use super::options::Options;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) async fn run(options: &Options) -> Result<Value> {
    match options.scenario.as_str() {
        "push" => push(options, 1).await,
        "bulk" => push(options, 1_000).await,
        "flow" => flow(options).await,
        "drain" => drain(options).await,
        "latency" => latency(options, 0.0).await,
        "load" => latency(options, 0.5).await,
        "claim" => claim(options).await,
        "look" => look(options).await,
        "idle" => idle(options).await,
        "disk" => disk(options),
        "hops" => hops(options),
        "hotkeys" => super::keys::run(options).await,
        "schedules" => super::schedules::run(options).await,
        "make-schedules" => super::schedules::make(options).await,
        other => Err(format!("unknown scenario {other}").into()),
    }
}

pub(crate) fn builder(options: &Options) -> BoardBuilder {
    Board::builder().url(&options.url).writers(options.writers).queue("default", options.concurrency)
}

/// With a handler that only counts.
fn counting(options: &Options, done: &Arc<AtomicU64>) -> BoardBuilder {
    let done = Arc::clone(done);
    builder(options).handler("noop", move |_, _| {
        done.fetch_add(1, Ordering::Relaxed);
        async { Ok(Outcome::done()) }
    })
}

fn task(options: &Options) -> NewTask {
    NewTask::new(Name::of("noop"), &"x".repeat(options.payload))
}

/// Fills storage with waiting tasks, tasks for next year and schedules, according to the options.
async fn prepare(board: &Board, options: &Options) -> Result<()> {
    for (count, later) in [(options.waiting, false), (options.scheduled, true)] {
        for _ in 0..count / 1_000 {
            let one = || {
                // In a queue that no board runs, so that they wait permanently.
                let task = task(options).queue("elsewhere");
                if later { task.delay(Duration::from_secs(365 * 24 * 3600)) } else { task }
            };
            board.push_many((0..1_000).map(|_| one())).await?;
        }
    }
    for number in 0..options.schedules {
        let new_year = Trigger::cron("0 0 1 1 *", Zone::UTC)?;
        board.schedules().create(Schedule::new(format!("schedule {number}"), new_year, task(options))).await?;
    }
    Ok(())
}

async fn push(options: &Options, group: u64) -> Result<Value> {
    let board = builder(options).start().await?;
    prepare(&board, options).await?;
    let begin = Instant::now();
    let total = produce(&board, options, group).await?;
    let seconds = begin.elapsed().as_secs_f64();
    board.stop().await;
    Ok(json!({"pushes_per_s": rate(total, seconds), "seconds": seconds, "peak_rss_mb": machine::peak_rss_mb()}))
}

/// Pushes the tasks, `group` at a time; each producer awaits every push. Returns the number of tasks.
async fn produce(board: &Board, options: &Options, group: u64) -> Result<u64> {
    let pushes = options.tasks / options.producers as u64 / group;
    let producers = (0..options.producers).map(|_| {
        let (board, make) = (board.clone(), task(options));
        tokio::task::spawn_local(async move {
            for _ in 0..pushes {
                if group == 1 {
                    board.push(make.clone()).await?;
                } else {
                    board.push_many((0..group).map(|_| make.clone())).await?;
                }
            }
            Ok::<_, callboard::PushError>(())
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await??;
    }
    Ok(pushes * group * options.producers as u64)
}

async fn flow(options: &Options) -> Result<Value> {
    let done = Arc::default();
    let board = counting(options, &done).start().await?;
    prepare(&board, options).await?;
    let (begin, cpu) = (Instant::now(), machine::cpu_time());
    let total = produce(&board, options, options.group as u64).await?;
    let pushed = begin.elapsed().as_secs_f64();
    all_ended(&board, &done, total).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = (machine::cpu_time() - cpu).as_secs_f64();
    check_completed(&board, total).await?;
    board.stop().await;
    Ok(json!({
        "tasks_per_s": rate(total, seconds), "pushes_per_s": rate(total, pushed), "seconds": seconds,
        "cpu_us_per_task": cpu * 1e6 / total as f64, "peak_rss_mb": machine::peak_rss_mb(),
    }))
}

/// Waits until `total` tasks have run and their ends are stored. It asks storage only when all have run, and only
/// whether a task still runs, not for a number of tasks: counting is work, too.
async fn all_ended(board: &Board, ran: &AtomicU64, total: u64) -> Result<()> {
    while ran.load(Ordering::Relaxed) < total {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let running = || TaskFilter { states: vec![TaskState::Running], ..TaskFilter::default() };
    while !board.list(running(), TaskOrder::NewestFirst, None, 1).await?.tasks.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// The measurement is valid only if all tasks are stored as completed.
async fn check_completed(board: &Board, total: u64) -> Result<()> {
    let counts = board.counts().await?;
    let completed: u64 = counts.iter().filter(|c| c.state == TaskState::Completed).map(|c| c.tasks).sum();
    if completed == total {
        Ok(())
    } else {
        Err(format!("{total} tasks were pushed, {completed} are completed").into())
    }
}

/// A queue full of waiting tasks; a board starts and works on them until none is left.
async fn drain(options: &Options) -> Result<Value> {
    let filler = builder(options).start().await?;
    for _ in 0..options.tasks / 1_000 {
        filler.push_many((0..1_000).map(|_| task(options))).await?;
    }
    filler.stop().await;
    let total = options.tasks / 1_000 * 1_000;
    let done = Arc::default();
    let (begin, cpu) = (Instant::now(), machine::cpu_time());
    let board = counting(options, &done).start().await?;
    all_ended(&board, &done, total).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = (machine::cpu_time() - cpu).as_secs_f64();
    check_completed(&board, total).await?;
    board.stop().await;
    Ok(json!({
        "tasks_per_s": rate(total, seconds), "seconds": seconds, "cpu_us_per_task": cpu * 1e6 / total as f64,
        "peak_rss_mb": machine::peak_rss_mb(),
    }))
}

/// Time from just before the push to the first line of the handler.
async fn latency(options: &Options, load: f64) -> Result<Value> {
    let clock = Instant::now();
    let (tell, mut told) = mpsc::unbounded_channel();
    let board = builder(options)
        .handler("probe", move |params, _| {
            let sent = Duration::from_nanos(params.as_u64().unwrap_or(0));
            tell.send(clock.elapsed().saturating_sub(sent)).ok();
            async { Ok(Outcome::done()) }
        })
        .handler("noop", |_, _| async { Ok(Outcome::done()) })
        .start()
        .await?;
    prepare(&board, options).await?;
    let background = (load > 0.0).then(|| tokio::task::spawn_local(keep_busy(board.clone(), task(options), load)));
    let mut samples = Vec::new();
    for _ in 0..options.tasks {
        let sent = u64::try_from(clock.elapsed().as_nanos())?;
        board.push(NewTask::new("probe", &sent)).await?;
        samples.push(told.recv().await.ok_or("the handler is gone")?);
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    if let Some(background) = background {
        background.abort();
    }
    board.stop().await;
    Ok(spread(samples))
}

/// The time in which the machine wakes two threads in a chain, each at rest. It is the floor under push to start, which
/// goes from the caller to the queue and from the queue to a worker.
fn hops(options: &Options) -> Result<Value> {
    let (send, first) = std::sync::mpsc::channel::<Instant>();
    let (pass_on, second) = std::sync::mpsc::channel::<Instant>();
    let (tell, told) = std::sync::mpsc::channel::<Duration>();
    std::thread::spawn(move || first.into_iter().try_for_each(|sent| pass_on.send(sent)));
    std::thread::spawn(move || second.into_iter().try_for_each(|sent| tell.send(sent.elapsed())));
    let mut samples = Vec::new();
    for _ in 0..options.tasks {
        send.send(Instant::now())?;
        samples.push(told.recv()?);
        std::thread::sleep(Duration::from_micros(1_500));
    }
    Ok(spread(samples))
}

pub(crate) fn spread(mut samples: Vec<Duration>) -> Value {
    samples.sort_unstable();
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    json!({"p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "max_us": at(1.0), "samples": samples.len()})
}

/// Pushes in bursts so that the board is busy for about `load` of the time.
async fn keep_busy(board: Board, task: NewTask, load: f64) {
    loop {
        let begin = Instant::now();
        if board.push_many((0..20).map(|_| task.clone())).await.is_err() {
            return;
        }
        let busy = begin.elapsed();
        tokio::time::sleep(busy.mul_f64((1.0 - load) / load)).await;
    }
}

/// Claims of ten tasks each, directly from the backend, beside many waiting tasks.
async fn claim(options: &Options) -> Result<Value> {
    let board = Board::builder().url(&options.url).start().await?;
    for _ in 0..options.waiting / 1_000 {
        board.push_many((0..1_000).map(|_| task(options))).await?;
    }
    let rss = machine::rss_mb();
    board.stop().await;
    let storage = backend::open(&options.url, &OpenOptions::default())?;
    let clock = Clock::system();
    let node = NodeId::new(clock.now());
    let mut samples = Vec::new();
    let types: Arc<[Name]> = vec![Name::from("noop")].into();
    for _ in 0..options.tasks {
        let mut commit = Commit::new(node, clock.now());
        commit.token = ClaimToken::random();
        commit.claim.push(ClaimRequest { queue: Name::from("default"), types: Some(Arc::clone(&types)), limit: 10 });
        let begin = Instant::now();
        let receipt = storage.commit(&commit)?;
        samples.push(begin.elapsed());
        if receipt.claimed[0].len() < 10 {
            return Err("too few tasks wait; raise --waiting".into());
        }
    }
    samples.sort_unstable();
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    Ok(json!({"p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "rss_mb_with_waiting": rss}))
}

/// The periodic checks of storage that each node makes, directly from the backend: no task is due, and no node is dead.
async fn look(options: &Options) -> Result<Value> {
    let board = Board::builder().url(&options.url).start().await?;
    prepare(&board, options).await?;
    board.stop().await;
    let storage = backend::open(&options.url, &OpenOptions::default())?;
    let clock = Clock::system();
    let node = NodeId::new(clock.now());
    let mut samples = Vec::new();
    for _ in 0..options.tasks {
        let sweep = Sweep { now: clock.now(), node, rescue: true, crash_limit: 3, limit: 1_000, awaited: Vec::new() };
        let begin = Instant::now();
        let report = storage.sweep(&sweep)?;
        samples.push(begin.elapsed());
        if options.scheduled > 0 && report.next_due.is_none() {
            return Err("the look has not found what is scheduled".into());
        }
    }
    Ok(spread(samples))
}

async fn idle(options: &Options) -> Result<Value> {
    let board = builder(options).handler("noop", |_, _| async { Ok(Outcome::done()) }).start().await?;
    prepare(&board, options).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, begin) = (machine::cpu_time(), Instant::now());
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let used = (machine::cpu_time() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    let rss = machine::rss_mb();
    board.stop().await;
    Ok(json!({"cpu_percent": used * 100.0, "rss_mb": rss, "peak_rss_mb": machine::peak_rss_mb()}))
}

/// The speed of the disk under the database: 4 KiB written and forced out, repeatedly over the same 4 MiB, like a
/// write-ahead log.
fn disk(options: &Options) -> Result<Value> {
    use std::os::unix::fs::FileExt;
    let database = options.url.strip_prefix("sqlite:").ok_or("the disk of what? give --url sqlite:PATH")?;
    let path = format!("{database}.disk");
    let file = std::fs::File::create(&path)?;
    file.write_all_at(&vec![0; 4 << 20], 0)?;
    file.sync_all()?;
    let begin = Instant::now();
    for place in 0..options.tasks {
        file.write_all_at(&[1; 4096], place % 1_024 * 4_096)?;
        file.sync_data()?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(json!({"forced_writes_per_s": rate(options.tasks, seconds)}))
}

pub(crate) fn rate(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds) as u64
}
