//! The names of keys in logs: a single spelling each, so that a search finds every use.
//!
//! ```
//! use callboard::logging::keys;
//! let log = slog::Logger::root(slog::Discard, slog::o!(keys::NODE => "alpha"));
//! slog::info!(log, "task done"; keys::TYPE => "download_audio", keys::DURATION_MS => 12);
//! ```

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $key:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $key;)+

        /// All keys.
        pub const ALL: &[&str] = &[$($key,)+];
    };
}

keys! {
    /// The number of the attempt at a task; 1 is the first.
    ATTEMPT = "attempt";
    /// A count.
    COUNT = "count";
    /// The duration of an operation, in milliseconds.
    DURATION_MS = "duration_ms";
    /// The error.
    ERROR = "error";
    /// The node: a running process.
    NODE = "node";
    /// The time that a schedule's trigger names.
    NOMINAL_AT = "nominal_at";
    /// The operation requested from storage.
    OPERATION = "operation";
    /// The part of the board.
    PART = "part";
    /// A file or directory.
    PATH = "path";
    /// The name of a queue.
    QUEUE = "queue";
    /// The number of queues.
    QUEUES = "queues";
    /// The reason.
    REASON = "reason";
    /// How often a part has been restarted.
    RESTARTS = "restarts";
    /// The earliest time at which a task runs.
    RUN_AT = "run_at";
    /// The name of a schedule.
    SCHEDULE = "schedule";
    /// The state of a task.
    STATE = "state";
    /// The status of a schedule, or the outcome of a firing.
    STATUS = "status";
    /// The task.
    TASK_ID = "task_id";
    /// The name that selects a task's handler.
    TYPE = "type";
    /// The number of types.
    TYPES = "types";
    /// The time at which a state ends, such as a pause.
    UNTIL = "until";
    /// A version of the program or of a schema.
    VERSION = "version";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        assert!(ALL.windows(2).all(|pair| pair[0] < pair[1]), "keep them sorted: {ALL:?}");
    }
}
