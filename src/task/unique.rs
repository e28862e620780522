//! Unique keys: when a second push is the same as the first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{TaskState, spelled};
use crate::clock::Timestamp;

spelled! {
    /// How long a task holds its unique key.
    UniqueScope ("unique scope") {
        /// Until it is completed, dead or cancelled.
        UntilDone = "until_done",
        /// Until it starts to run.
        UntilStarted = "until_started",
        /// For the period alone, whatever becomes of the task; with [`UniqueMode::KeepLatest`] at least until it is completed,
        /// dead or cancelled, for that mode lets no two run side by side.
        Period = "period",
    }
}

spelled! {
    /// What happens to a push whose unique key is held.
    UniqueMode ("unique mode") {
        /// The existing task is returned, marked as a duplicate.
        ReturnExisting = "return_existing",
        /// The push fails.
        Reject = "reject",
        /// The params, priority and run_at of the existing task are replaced, unless it is running: then the
        /// existing one is returned.
        Replace = "replace",
        /// While one runs, only the latest push is kept and runs once after it.
        KeepLatest = "keep_latest",
    }
}

/// A unique key with its reach.
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
    /// The key; one holder at a time over all queues and types.
    pub key: String,
    /// How long it is held.
    #[serde(default = "until_done")]
    pub scope: UniqueScope,
    /// Microseconds from the push for which the key is held at least, whatever the scope says.
    pub period_us: Option<u64>,
    /// What a second push gets.
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
    /// A key that is held until the task is done, and returns the existing task to a second push.
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

    /// Changes what a second push gets.
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

/// True when a task in `state`, pushed with this scope and mode, still holds its key at `now`. Backends ask this at a conflict and take the key
/// away from a holder that has lost it, so that no write is spent on keys when tasks end.
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
