//! Settings of a board: plain values, checked all at once.

use std::path::PathBuf;
use std::time::Duration;

use crate::backend::{MOST_CONNECTIONS, Synchronous};
use crate::clock::Clock;
use crate::name::{Name, name_fault};
use crate::schedule::trigger::Zone;
use crate::store::StoreLimits;
use crate::task::{Bounds, DEFAULT_QUEUE, TaskState};

/// Every setting of a board, with its default.
///
/// ```
/// let config = callboard::Config::default();
/// assert_eq!(config.faults(), Vec::<String>::new());
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where tasks are kept: `memory:`, `sqlite:PATH`, `postgres://...` or `mysql://...`. `memory:` by default.
    pub url: String,
    /// The node's name in lists; the machine's host name does not matter. `node` by default.
    pub node_name: String,
    /// Queues with their concurrency on this node. `default` with 10 by default.
    pub queues: Vec<(Name, usize)>,
    /// Threads that run async handlers. The number of cores by default, 1,024 at most.
    pub worker_threads: usize,
    /// Threads that run blocking handlers, made when needed. 32 by default.
    pub blocking_threads: usize,
    /// How long after its last sign of life a node is believed alive. 15 s by default, 1,000 years at most; heartbeats come three times
    /// as often.
    pub lease: Duration,
    /// How often storage is looked at without a wake-up. 1 s by default, 1,000 years at most.
    pub check_interval: Duration,
    /// How long a push waits for storage that is away before it fails. 10 s by default.
    pub push_deadline: Duration,
    /// Pushes that may wait for storage at a time; further ones await their turn. 10,000 by default.
    pub max_waiting_pushes: usize,
    /// The largest params of a task, in bytes of JSON. 1 MiB by default.
    pub max_params_bytes: usize,
    /// The largest [`meta`](crate::NewTask::meta) of a task, in bytes of JSON. 64 KiB by default.
    pub max_meta_bytes: usize,
    /// The largest result of a run, in bytes of JSON. 1 MiB by default. A run that returns more fails for good, with the
    /// number in its error.
    pub max_result_bytes: usize,
    /// Bytes up to which `memory:` takes new tasks, finished ones that are kept included; a task takes about 480 and those of
    /// its texts. 2 GiB by default. Above that a push fails with [`PushError::NoRoom`](crate::PushError::NoRoom), and what is
    /// under way comes to its end. A database takes what its disk does.
    pub max_memory_bytes: usize,
    /// How long a stop lets running tasks go on before it cancels them. 20 s by default: a stop takes `drain` +
    /// `cancel_grace` + 2 s at most, and Kubernetes kills a process 30 s after it has asked it to end.
    pub drain: Duration,
    /// How long a cancelled run may go on before it is dropped. 3 s by default.
    pub cancel_grace: Duration,
    /// Node deaths in a row during a task's runs after which it is dead. 3 by default, at least 1.
    ///
    /// A task whose node died under it may be the culprit, or its neighbour. After two such deaths it is on its last
    /// chance: on each node one such task runs at a time. That number is fixed, whatever stands here, so:
    /// - 1: the first death makes every task dead that was running there, the innocent ones too.
    /// - 2: those tasks run again side by side, and the second death makes all dead that were in both. No task ever
    ///   runs alone.
    /// - 3: after two deaths they run one by one, so the third finds the culprit alone.
    /// - more: as 3, and the culprit may kill its process as often again before it is dead. For nodes that die for
    ///   reasons of their own.
    pub crash_limit: u32,
    /// How long finished tasks are kept.
    pub retention: Vec<Keep>,
    /// How long a schedule is kept that has finished, with its history; nothing for ever. 30 days by default. One that code
    /// defines stays, or it would begin anew with the next start.
    pub keep_finished_schedules: Option<Duration>,
    /// The zone of triggers that are given without one. UTC by default.
    pub default_zone: Zone,
    /// Where the tasks' own logs go; nothing for none, which is the default.
    pub task_logs: Option<PathBuf>,
    /// The largest log file of one attempt, in bytes. 1 MiB by default.
    pub task_log_bytes: u64,
    /// Records below this level are left out of the tasks' own logs. `Debug` by default.
    pub task_log_level: slog::Level,
    /// How durable a commit is, where the backend lets one choose. Full by default.
    pub synchronous: Synchronous,
    /// Threads that read from storage. 2 by default, 1,000 at most.
    pub readers: usize,
    /// Threads that commit side by side, where the database takes several commits at a time. 2 by default, 1,000 at most: more of
    /// them means smaller commits, which pays when the server is far away or has cores to spare.
    pub writers: usize,
    /// Events that wait for a slow subscriber before further ones are counted as missed. 1,024 by default, 10,000,000 at most.
    pub event_buffer: usize,
    /// What the public store may hold.
    pub store_limits: StoreLimits,
    /// The clock.
    pub clock: Clock,
}

/// How long tasks in a terminal state are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The state.
    pub state: TaskState,
    /// Deleted when older than this.
    pub age: Option<Duration>,
    /// At most so many, the latest.
    pub count: Option<u64>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than any program runs, and short enough to be added to any time.
const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 24 * 3600);

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            url: "memory:".into(),
            node_name: "node".into(),
            queues: vec![(Name::of(DEFAULT_QUEUE), 10)],
            worker_threads: cores,
            blocking_threads: 32,
            lease: Duration::from_secs(15),
            check_interval: Duration::from_secs(1),
            push_deadline: Duration::from_secs(10),
            max_waiting_pushes: 10_000,
            max_params_bytes: 1 << 20,
            max_meta_bytes: 64 << 10,
            max_result_bytes: 1 << 20,
            max_memory_bytes: crate::backend::memory::MOST_BYTES,
            drain: Duration::from_secs(20),
            cancel_grace: Duration::from_secs(3),
            crash_limit: 3,
            retention: vec![
                Keep { state: TaskState::Completed, age: Some(7 * DAY), count: Some(1_000_000) },
                Keep { state: TaskState::Cancelled, age: Some(7 * DAY), count: Some(1_000_000) },
                Keep { state: TaskState::Dead, age: Some(90 * DAY), count: None },
            ],
            keep_finished_schedules: Some(30 * DAY),
            default_zone: Zone::UTC,
            task_logs: None,
            task_log_bytes: 1 << 20,
            task_log_level: slog::Level::Debug,
            synchronous: Synchronous::Full,
            readers: 2,
            writers: 2,
            event_buffer: 1_024,
            store_limits: StoreLimits::default(),
            clock: Clock::system(),
        }
    }
}

/// The URL without its password.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Each of these fields by its name; one that is missing does not compile.
        macro_rules! show {
            ($($field:ident)+) => {{
                let Self { url, $($field),+ } = self;
                let mut shown = f.debug_struct("Config");
                shown.field("url", &crate::backend::redact(url));
                $(shown.field(stringify!($field), $field);)+
                shown.finish()
            }};
        }
        show!(node_name queues worker_threads blocking_threads lease check_interval push_deadline max_waiting_pushes
            max_params_bytes max_meta_bytes max_result_bytes max_memory_bytes drain cancel_grace crash_limit retention keep_finished_schedules default_zone task_logs
            task_log_bytes task_log_level
            synchronous readers writers event_buffer store_limits clock)
    }
}

impl Config {
    /// How large the fields of a task may be.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds::new(self.max_params_bytes, self.max_meta_bytes, self.max_result_bytes)
    }

    /// Everything that is wrong with it, one sentence each; empty when nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, text: &str| {
            if wrong {
                faults.push(text.to_owned());
            }
        };
        fault(self.worker_threads == 0, "worker_threads is 0; at least 1 is needed");
        fault(self.blocking_threads == 0, "blocking_threads is 0; at least 1 is needed");
        fault(self.readers == 0, "readers is 0; at least 1 is needed");
        fault(self.writers == 0, "writers is 0; at least 1 is needed");
        fault(self.worker_threads > 1_024, "worker_threads is over 1,024; each of them is started at once");
        fault(self.readers > MOST_CONNECTIONS, "readers is over 1,000; each has a connection of its own");
        fault(self.writers > MOST_CONNECTIONS, "writers is over 1,000; each has a connection of its own");
        fault(self.lease < Duration::from_millis(100), "lease is under 100 ms; heartbeats could not keep it");
        fault(self.lease > LONGEST, "lease is over 1,000 years; tasks of a dead node would wait that long");
        fault(
            self.check_interval > LONGEST,
            "check_interval is over 1,000 years; dead nodes would not be noticed for that long",
        );
        fault(self.check_interval.is_zero(), "check_interval is 0; storage would be asked without a pause");
        fault(self.max_waiting_pushes == 0, "max_waiting_pushes is 0; nothing could be pushed");
        fault(
            self.max_waiting_pushes > 10_000_000,
            "max_waiting_pushes is over 10,000,000; memory would not bound it",
        );
        fault(self.crash_limit == 0, "crash_limit is 0; every task would be dead before its first run");
        fault(self.event_buffer == 0, "event_buffer is 0; no subscriber would hear anything");
        fault(self.event_buffer > 10_000_000, "event_buffer is over 10,000,000; memory would not bound it");
        faults.extend(name_fault("node_name", &self.node_name));
        for (queue, concurrency) in &self.queues {
            faults.extend(name_fault("queue name", queue));
            if *concurrency > 100_000 {
                faults.push(format!("queue {queue:?} has a concurrency of {concurrency}; at most 100000 is allowed"));
            }
            if self.queues.iter().filter(|(other, _)| other == queue).count() > 1 {
                let text = format!("queue {queue:?} is given twice; give it once");
                if !faults.contains(&text) {
                    faults.push(text);
                }
            }
        }
        for keep in &self.retention {
            if !keep.state.is_terminal() {
                faults.push(format!("retention names the state {}; only finished tasks are pruned", keep.state));
            }
        }
        faults
    }

    /// The time between two heartbeats.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.lease / 3
    }
}

#[cfg(test)]
mod tests;
