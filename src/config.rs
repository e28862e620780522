//! Settings of a board: plain values, which are all checked at once.

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
    /// The storage of tasks: `memory:`, `sqlite:PATH`, `postgres://...` or `mysql://...`. `memory:` by default.
    pub url: String,
    /// The node's name in lists, which is independent of the machine's host name. `node` by default.
    pub node_name: String,
    /// Queues with their concurrency on this node. By default the queue `default` with 10.
    pub queues: Vec<(Name, usize)>,
    /// Threads that run async handlers. By default the number of cores; at most 1,024.
    pub worker_threads: usize,
    /// Threads that run blocking handlers, started when needed. 32 by default.
    pub blocking_threads: usize,
    /// The time after its last heartbeat for which a node counts as alive. 15 s by default, at most 1,000 years. A node
    /// sends three heartbeats in this time.
    pub lease: Duration,
    /// The interval at which storage is checked without a wake-up. 1 s by default, at most 1,000 years.
    pub check_interval: Duration,
    /// The time that a push waits for unavailable storage before it fails. 10 s by default.
    pub push_deadline: Duration,
    /// Pushes that may wait for storage at once; further pushes wait for a free place. 10,000 by default.
    pub max_waiting_pushes: usize,
    /// The largest params of a task, in bytes of JSON. 1 MiB by default.
    pub max_params_bytes: usize,
    /// The largest [`meta`](crate::NewTask::meta) of a task, in bytes of JSON. 64 KiB by default.
    pub max_meta_bytes: usize,
    /// The largest result of a run, in bytes of JSON. 1 MiB by default. A run with a larger result fails permanently,
    /// and its error states the size.
    pub max_result_bytes: usize,
    /// Bytes up to which `memory:` accepts new tasks; finished tasks that are kept count too. A task takes about 480
    /// bytes and the bytes of its texts. 2 GiB by default.
    ///
    /// Above this bound a push fails with [`PushError::NoRoom`](crate::PushError::NoRoom), while running tasks continue
    /// to their end. For a database the bound is its disk.
    pub max_memory_bytes: usize,
    /// The time that a stop gives to running tasks before it cancels them. 20 s by default, because a stop takes at
    /// most `drain` + `cancel_grace` + 2 s, and Kubernetes kills a process 30 s after it has asked the process to end.
    pub drain: Duration,
    /// The time that a cancelled run may continue before it is dropped. 3 s by default.
    pub cancel_grace: Duration,
    /// The number of node deaths in a row during a task's runs after which the task is dead. 3 by default, at least 1.
    ///
    /// A task whose node died may be the culprit, or a neighbour of the culprit. After two such deaths the task has its
    /// last chance: each node runs one such task at a time. That number is fixed under every `crash_limit`, so:
    /// - 1: the first death makes every task dead that was running on the node, innocent tasks included.
    /// - 2: those tasks run again side by side, and the second death makes every task dead that was running at both
    ///   deaths. No task ever runs alone.
    /// - 3: after two deaths they run one at a time, so that the third death finds the culprit alone.
    /// - more: as with 3, but each step above 3 lets the culprit kill its process once more before it is dead. Suitable
    ///   for nodes that die for reasons unrelated to tasks.
    pub crash_limit: u32,
    /// Rules for how long finished tasks are kept.
    pub retention: Vec<Keep>,
    /// The time for which a finished schedule is kept, with its history; `None` keeps it for ever. 30 days by default.
    /// A schedule defined in code is always kept, because otherwise it would begin again at the next start.
    pub keep_finished_schedules: Option<Duration>,
    /// The time zone of triggers that name no zone. UTC by default.
    pub default_zone: Zone,
    /// The folder for the tasks' own logs; `None`, the default, writes no such logs.
    pub task_logs: Option<PathBuf>,
    /// The largest log file of an attempt, in bytes. 1 MiB by default.
    pub task_log_bytes: u64,
    /// Records below this level are left out of the tasks' own logs. `Debug` by default.
    pub task_log_level: slog::Level,
    /// The durability of a commit, where the backend offers a choice. Full by default.
    pub synchronous: Synchronous,
    /// Threads that read from storage. 2 by default, at most 1,000.
    pub readers: usize,
    /// Threads that commit in parallel, where the database accepts several commits at once. 2 by default, at most
    /// 1,000. More threads mean smaller commits, which pays off when the server is far away or has idle cores.
    pub writers: usize,
    /// Events buffered for a slow subscriber; further events count as missed. 1,024 by default, at most 10,000,000.
    pub event_buffer: usize,
    /// Limits of the public store.
    pub store_limits: StoreLimits,
    /// The clock.
    pub clock: Clock,
}

/// The time for which tasks in a terminal state are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The terminal state.
    pub state: TaskState,
    /// A task older than this is deleted.
    pub age: Option<Duration>,
    /// At most this many tasks are kept: the latest.
    pub count: Option<u64>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than any program runs, and short enough to add to any time without overflow.
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

/// Shows the URL without its password.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Shows each of these fields by its name; a missing field does not compile.
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
    /// The size bounds of a task's fields.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds::new(self.max_params_bytes, self.max_meta_bytes, self.max_result_bytes)
    }

    /// All faults of the settings, one sentence each; empty when the settings are valid.
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
