//! A schedule never has more runs side by side than it allows, however slow storage is between a decision and its
//! write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::backend::Backend;
use callboard::backend::memory::Memory;
#[cfg(feature = "sqlite")]
use callboard::backend::{OpenOptions, open};
use callboard::testing::{Faulty, at};
use callboard::{Board, BoardBuilder, Clock, NewTask, Outcome, Overlap, Schedule};

use crate::support::{DAY, every};

/// The number of runs that each schedule must reach.
const RUNS: usize = 60;
/// The number of schedules that race at the same time.
const SCHEDULES: usize = 6;

/// Counters of the runs of a schedule.
#[derive(Default)]
struct Seen {
    now: AtomicUsize,
    most: AtomicUsize,
    begun: AtomicUsize,
}

/// A run in progress, until this value is dropped.
struct Under<'a>(&'a Seen);

impl<'a> Under<'a> {
    fn way(seen: &'a Seen) -> Self {
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        seen.begun.fetch_add(1, Ordering::SeqCst);
        Self(seen)
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A board whose runs last for about as long as their storage takes, and end a little after they are cancelled.
fn racing(places: u32, seen: &Arc<Vec<Seen>>) -> BoardBuilder {
    let seen = Arc::clone(seen);
    let mut builder = Board::builder().queue("default", 4 * SCHEDULES).handler("work", move |params, cx| {
        let seen = Arc::clone(&seen);
        async move {
            let place = usize::try_from(params.as_u64().unwrap()).unwrap();
            let _under = Under::way(&seen[place]);
            // The length differs each time, so that runs end before, between and after a decision and its write.
            let step = u64::try_from(seen[place].begun.load(Ordering::SeqCst) * 7 % 40).unwrap();
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(step)) => {}
                () = cx.cancelled() => tokio::time::sleep(Duration::from_millis(step % 11)).await,
            }
            Ok(Outcome::done())
        }
    });
    for place in 0..SCHEDULES {
        let schedule =
            Schedule::new(format!("s{place}"), every(Duration::from_secs(1)), NewTask::new("work", &place));
        builder = builder.schedule(schedule.overlap(Overlap::CancelOther).max_instances(places));
    }
    builder
}

async fn never_more_than(storage: Arc<dyn Backend>, places: u32) {
    let storage = Faulty::new(storage, true);
    let seen: Arc<Vec<Seen>> = Arc::new((0..SCHEDULES).map(|_| Seen::default()).collect());
    let clock = Clock::manual(at(0));
    let builder = racing(places, &seen).backend(storage.clone()).clock(clock.clone()).lease(DAY);
    let board = builder.start().await.unwrap();
    storage.slow_down(Duration::from_millis(4));
    let begun = Instant::now();
    while seen.iter().any(|seen| seen.begun.load(Ordering::SeqCst) < RUNS) {
        assert!(begun.elapsed().as_secs() < 120, "they do not run");
        clock.advance(Duration::from_millis(250));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let most: Vec<usize> = seen.iter().map(|seen| seen.most.load(Ordering::SeqCst)).collect();
    println!("{places} places, most side by side: {most:?}, after {:?}", begun.elapsed());
    board.stop().await;
    assert!(most.iter().all(|most| *most <= places as usize), "{most:?} side by side");
}

#[actix_rt::test]
async fn one_at_a_time_when_each_calls_off_the_one_before() {
    never_more_than(Arc::new(Memory::new()), 1).await;
}

#[actix_rt::test]
async fn two_at_a_time_when_each_calls_off_the_oldest() {
    never_more_than(Arc::new(Memory::new()), 2).await;
}

#[cfg(feature = "sqlite")]
#[actix_rt::test]
async fn the_same_in_a_file() {
    let file = crate::storage::File::new();
    let clock = Clock::manual(at(0));
    let options = OpenOptions { clock, ..OpenOptions::default() };
    never_more_than(open(&format!("sqlite:{}", file.path()), &options).unwrap(), 1).await;
}
