//! Unique keys that many producers push at the same time.

use std::time::{Duration, Instant};

use callboard::{Board, NewTask, Outcome, PushError, Unique};
use serde_json::{Value, json};

use super::options::Options;
use super::scenarios::{Result, builder, rate, spread};

/// The results of a producer.
#[derive(Default)]
struct Seen {
    answers: Vec<Duration>,
    new: usize,
    failed: usize,
}

/// Nodes on the same database whose producers push the same few keys, `return_existing`, for some seconds. A handler
/// takes 0 to 3 ms, so that the holders of the keys change often.
pub(crate) async fn run(options: &Options) -> Result<Value> {
    let mut boards = Vec::new();
    for _ in 0..options.nodes {
        let handler = |_: Value, _| async {
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..3_000))).await;
            Ok(Outcome::done())
        };
        boards.push(builder(options).handler("noop", handler).start().await?);
    }
    let begin = Instant::now();
    let until = begin + Duration::from_secs(options.seconds);
    let producers = boards.iter().flat_map(|board| std::iter::repeat_n(board, options.producers));
    let producers = producers.map(|board| tokio::task::spawn_local(push(board.clone(), options.keys, until)));
    let mut seen = Seen::default();
    for producer in producers.collect::<Vec<_>>() {
        let one = producer.await?;
        seen.answers.extend(one.answers);
        seen.new += one.new;
        seen.failed += one.failed;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let mut conflicts = 0;
    for board in boards {
        conflicts += board.health().await.storage_conflicts;
        board.stop().await;
    }
    let pushes = seen.answers.len() as u64;
    Ok(json!({
        "pushes_per_s": rate(pushes, seconds), "new": seen.new, "failed": seen.failed, "conflicts": conflicts,
        "answer": spread(seen.answers), "seconds": seconds,
    }))
}

async fn push(board: Board, keys: u64, until: Instant) -> Seen {
    let mut seen = Seen::default();
    while Instant::now() < until {
        let key = Unique::key(format!("key {}", rand::random_range(0..keys.max(1))));
        let sent = Instant::now();
        let answer: std::result::Result<_, PushError> = board.push(NewTask::new("noop", &()).unique(key)).await;
        seen.answers.push(sent.elapsed());
        match answer {
            Ok(pushed) => seen.new += usize::from(!pushed.duplicate),
            Err(_) => seen.failed += 1,
        }
    }
    seen
}
