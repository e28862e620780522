//! The names of keys in logs: one spelling each, so that a search finds every place.
//!
//! ```
//! use callboard::logging::keys;
//! let log = slog::Logger::root(slog::Discard, slog::o!(keys::NODE => "alpha"));
//! slog::info!(log, "task done"; keys::TYPE => "download_audio", keys::DURATION_MS => 12);
//! ```

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $key:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $key;)+

        /// All of them.
        pub const ALL: &[&str] = &[$($key,)+];
    };
}

keys! {
    /// Which attempt at a task; 1 is the first.
    ATTEMPT = "attempt";
    /// How many.
    COUNT = "count";
    /// How long something took, in milliseconds.
    DURATION_MS = "duration_ms";
    /// What went wrong.
    ERROR = "error";
    /// The node: one running process.
    NODE = "node";
    /// The time that a schedule's trigger names.
    NOMINAL_AT = "nominal_at";
    /// What storage was asked to do.
    OPERATION = "operation";
    /// The part of the board.
    PART = "part";
    /// A file or directory.
    PATH = "path";
    /// The name of a queue.
    QUEUE = "queue";
    /// How many queues.
    QUEUES = "queues";
    /// Why.
    REASON = "reason";
    /// How often a part has been restarted.
    RESTARTS = "restarts";
    /// When a task runs, at the earliest.
    RUN_AT = "run_at";
    /// The name of a schedule.
    SCHEDULE = "schedule";
    /// Where a task stands.
    STATE = "state";
    /// Where a schedule stands, or what became of one of its times.
    STATUS = "status";
    /// The task.
    TASK_ID = "task_id";
    /// The name that picks a task's handler.
    TYPE = "type";
    /// How many types.
    TYPES = "types";
    /// When something ends.
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
