//! Limits over all processes, and somebody who looks whether they are kept.
//!
//! Each look is one statement, which sees a state of the database as some commit has left it: what it counts is exact,
//! whatever the clocks and the processes do.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use callboard::{Board, Limit};
use diesel::Connection;

use super::crowd::Crowd;
use crate::place::Place;
use crate::waiting::soon;

/// Tasks of the key `narrow` that run at a time.
const RUNNING: usize = 2;
/// Starts of each key that begins with `paced:` in a period.
const STARTS: usize = 4;
const PERIOD: Duration = Duration::from_millis(500);
/// Between two looks; starts are remembered for longer.
const BETWEEN: Duration = Duration::from_millis(50);

/// Sets the limits.
pub(super) async fn set(url: &str) {
    let board = Board::builder().url(url).start().await.unwrap();
    board.set_limit(Limit::of_key("narrow").running(RUNNING as u32)).await.unwrap();
    board.set_limit(Limit::of_key("paced").rate(STARTS as u32, PERIOD)).await.unwrap();
    soon("the stop", board.stop()).await;
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    looks: usize,
    most_running: usize,
    most_started: usize,
}

impl Seen {
    pub(super) fn check(&self) {
        assert!(self.most_running <= RUNNING, "{self:?}");
        assert!(self.most_started <= STARTS, "{self:?}");
        assert!(self.looks > 100 && self.most_running > 0 && self.most_started > 0, "{self:?}");
    }
}

/// Looks until it is told to end.
pub(super) struct Limits {
    end: mpsc::Sender<()>,
    looks: JoinHandle<Seen>,
}

impl Limits {
    pub(super) fn watch<P: Place>(crowd: &Crowd<P>) -> Self {
        let (url, place) = (crowd.server.url(), crowd.place.name().to_owned());
        let (end, ended) = mpsc::channel();
        let looks = std::thread::spawn(move || {
            let (mut seen, mut conn) = (Seen::default(), None);
            while ended.recv_timeout(BETWEEN) == Err(mpsc::RecvTimeoutError::Timeout) {
                // The server may be down, or full.
                conn = conn.or_else(|| P::Conn::establish(&url).ok());
                conn = conn.and_then(|mut conn| look::<P>(&mut conn, &place, &mut seen).map(|()| conn));
            }
            seen
        });
        Self { end, looks }
    }

    pub(super) fn end(self) -> Seen {
        drop(self.end);
        self.looks.join().unwrap()
    }
}

/// Nothing when the connection is gone.
fn look<P: Place>(conn: &mut P::Conn, place: &str, seen: &mut Seen) -> Option<()> {
    let running = format!(
        "SELECT concat(count(*), '') AS text FROM {place}.task_queue WHERE state = 'running' AND limit_key = 'narrow'"
    );
    let running = P::rows(conn, &running).ok()?.remove(0).parse().unwrap();
    let starts = format!(
        "SELECT concat(subject, ' ', started_at, ' ', tasks) AS text FROM {place}.task_start WHERE name = 'paced'"
    );
    let starts = P::rows(conn, &starts).ok()?;
    let mut subjects: HashMap<&str, Vec<(i64, usize)>> = HashMap::new();
    for start in &starts {
        let [subject, at, tasks] = start.split(' ').collect::<Vec<_>>()[..] else { panic!("{start}") };
        subjects.entry(subject).or_default().push((at.parse().unwrap(), tasks.parse().unwrap()));
    }
    seen.looks += 1;
    seen.most_running = seen.most_running.max(running);
    seen.most_started = seen.most_started.max(subjects.values().map(|starts| in_a_period(starts)).max().unwrap_or(0));
    Some(())
}

/// The most starts in any period.
fn in_a_period(starts: &[(i64, usize)]) -> usize {
    let period = i64::try_from(PERIOD.as_micros()).unwrap();
    let until = |last: i64| starts.iter().filter(move |(at, _)| *at > last - period && *at <= last);
    starts.iter().map(|(last, _)| until(*last).map(|(_, tasks)| tasks).sum()).max().unwrap_or(0)
}
