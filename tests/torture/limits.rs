//! Limits over all processes, and a thread that checks them.
//!
//! Each check is a single statement, which sees a committed state of the database. So its counts are exact, whatever
//! the clocks and the processes do.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use callboard::{Board, Limit};

use crate::storage::Rows;

/// The most tasks with the key `narrow` that may run at the same time.
pub(crate) const RUNNING: usize = 2;
/// The most starts per period for each key that begins with `paced:`.
const STARTS: usize = 4;
const PERIOD: Duration = Duration::from_millis(500);
/// The time between two checks; starts are remembered for longer.
const BETWEEN: Duration = Duration::from_millis(50);

/// Sets the limits.
pub(crate) async fn set(board: &Board) {
    board.set_limit(Limit::of_key("narrow").running(u32::try_from(RUNNING).unwrap())).await.unwrap();
    board.set_limit(Limit::of_key("paced").rate(u32::try_from(STARTS).unwrap(), PERIOD)).await.unwrap();
}

/// The observations of all checks.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    looks: usize,
    most_running: usize,
    most_started: usize,
}

impl Seen {
    /// The limits that were exceeded, or that never met any load.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, text: &str| faults.extend(wrong.then(|| format!("{text}: {self:?}")));
        fault(self.most_running > RUNNING, "more run than the limit allows");
        fault(self.most_started > STARTS, "more started in a period than the rate allows");
        fault(self.looks < 100 || self.most_running == 0 || self.most_started == 0, "the limits met no load");
        faults
    }
}

/// A thread that checks the limits until it is told to end.
pub(crate) struct Limits {
    end: mpsc::Sender<()>,
    looks: JoinHandle<Seen>,
}

impl Limits {
    /// Starts the checks. `rows` queries the storage, whose table names begin with `prefix`.
    pub(crate) fn watch(mut rows: Rows, prefix: String) -> Self {
        let (end, ended) = mpsc::channel();
        let looks = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while ended.recv_timeout(BETWEEN) == Err(mpsc::RecvTimeoutError::Timeout) {
                // The storage may be down or full; such a check observes nothing.
                look(&mut rows, &prefix, &mut seen);
            }
            seen
        });
        Self { end, looks }
    }

    pub(crate) fn end(self) -> Seen {
        drop(self.end);
        self.looks.join().unwrap()
    }
}

/// Makes a check. Returns `None` while storage is unavailable.
fn look(rows: &mut Rows, prefix: &str, seen: &mut Seen) -> Option<()> {
    let running = format!(
        "SELECT concat(count(*), '') AS text FROM {prefix}task_queue WHERE state = 'running' AND limit_key = 'narrow'"
    );
    let running = rows(&running)?.first()?.parse().unwrap();
    let starts = format!(
        "SELECT concat(subject, ' ', started_at, ' ', tasks) AS text FROM {prefix}task_start WHERE name = 'paced'"
    );
    let starts = rows(&starts)?;
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
