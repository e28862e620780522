//! Unique keys, which decide when a second push is a duplicate of the first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{TaskState, spelled};
use crate::clock::Timestamp;

spelled! {
    /// The time for which a task holds its unique key.
    UniqueScope ("unique scope") {
        /// Until the task is completed, dead or cancelled.
        UntilDone = "until_done",
        /// Until the task starts to run.
        UntilStarted = "until_started",
        /// For the period alone, in every state of the task. With [`UniqueMode::KeepLatest`] the key is also held until
        /// the task is completed, dead or cancelled, because this mode allows no two runs at once.
        Period = "period",
    }
}

spelled! {
    /// The result of a push whose unique key is held by a task.
    UniqueMode ("unique mode") {
        /// The push returns the existing task, marked as a duplicate.
        ReturnExisting = "return_existing",
        /// The push fails.
        Reject = "reject",
        /// The push replaces the params, priority and `run_at` of the existing task. If that task is running, the push
        /// changes nothing and returns it.
        Replace = "replace",
        /// While a task with the key runs, only the latest push is kept. It runs once after the running task.
        KeepLatest = "keep_latest",
    }
}

/// A unique key with its scope, period and mode.
///
/// ```
/// use callboard::{Unique, UniqueMode};
/// use std::time::Duration;
/// let once_an_hour = Unique::key("report:2026-03").period(Duration::from_secs(3600));
/// let newest_wins = Unique::key("index:42").mode(UniqueMode::KeepLatest);
/// # let _ = (once_an_hour, newest_wins);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// The key. At any time at most one task holds it, over all queues and types.
    pub key: String,
    /// How long the key is held.
    #[serde(default = "until_done")]
    pub scope: UniqueScope,
    /// Shortest time for which the key is held, in microseconds from the push. It applies under every scope.
    pub period_us: Option<u64>,
    /// The result of a second push.
    #[serde(default = "return_existing")]
    pub mode: UniqueMode,
}

fn until_done() -> UniqueScope {
    UniqueScope::UntilDone
}

fn return_existing() -> UniqueMode {
    UniqueMode::ReturnExisting
}

impl Unique {
    /// A key that is held until the task is done; a second push returns the existing task.
    pub fn key(key: impl Into<String>) -> Self {
        Self { key: key.into(), scope: UniqueScope::UntilDone, period_us: None, mode: UniqueMode::ReturnExisting }
    }

    /// Changes the scope.
    #[must_use]
    pub fn scope(mut self, scope: UniqueScope) -> Self {
        self.scope = scope;
        self
    }

    /// Holds the key for at least this long after the push.
    #[must_use]
    pub fn period(mut self, period: Duration) -> Self {
        self.period_us = Some(u64::try_from(period.as_micros()).unwrap_or(u64::MAX));
        self
    }

    /// Changes the result of a second push.
    #[must_use]
    pub fn mode(mut self, mode: UniqueMode) -> Self {
        self.mode = mode;
        self
    }

    /// The end of the period for a push at `now`.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.period_us.map(|us| now + Duration::from_micros(us))
    }
}

/// True when a task in `state`, pushed with this scope and mode, still holds its key at `now`.
///
/// Backends ask this only at a conflict, and then take the key from a holder that has lost it. So the end of a task
/// needs no write for its key.
pub fn holds_key(
    (scope, mode): (UniqueScope, UniqueMode),
    until: Option<Timestamp>,
    state: TaskState,
    now: Timestamp,
) -> bool {
    if until.is_some_and(|until| now < until) {
        return true;
    }
    match scope {
        UniqueScope::UntilDone => !state.is_terminal(),
        UniqueScope::UntilStarted => !state.is_terminal() && state != TaskState::Running,
        UniqueScope::Period => mode == UniqueMode::KeepLatest && !state.is_terminal(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    proptest! {
        #[test]
        fn held_through_the_period_and_then_by_scope(
            scope in prop::sample::select(UniqueScope::ALL),
            mode in prop::sample::select(UniqueMode::ALL),
            state in prop::sample::select(TaskState::ALL),
            until in prop::option::of(0..100_i64),
            now in 0..100_i64,
        ) {
            let held = holds_key((scope, mode), until.map(at), state, at(now));
            if until.is_some_and(|until| now < until) {
                prop_assert!(held);
            } else {
                let by_scope = match scope {
                    UniqueScope::UntilDone => !state.is_terminal(),
                    UniqueScope::UntilStarted => !state.is_terminal() && state != TaskState::Running,
                    UniqueScope::Period => mode == UniqueMode::KeepLatest && !state.is_terminal(),
                };
                prop_assert_eq!(held, by_scope);
            }
        }

        #[test]
        fn once_lost_by_time_it_stays_lost(
            scope in prop::sample::select(UniqueScope::ALL),
            mode in prop::sample::select(UniqueMode::ALL),
            state in prop::sample::select(TaskState::ALL),
            until in prop::option::of(any::<i64>()),
            now in any::<i64>(), later in any::<u32>(),
        ) {
            let held = |time| holds_key((scope, mode), until.map(at), state, time);
            let later = at(now) + Duration::from_micros(u64::from(later));
            prop_assert!(held(at(now)) || !held(later));
        }

        #[test]
        fn any_period_has_an_end(period_us in any::<u64>(), now in any::<i64>()) {
            let until = Unique::key("k").period(Duration::from_micros(period_us)).until(at(now));
            prop_assert!(until >= Some(at(now)));
        }
    }
}
