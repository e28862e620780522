//! Task states, execution states, and the allowed moves between them.

/// Makes an enum whose variants have a single spelling in Rust, SQL, CLI, HTTP and logs.
macro_rules! spelled {
    ($(#[$doc:meta])* $name:ident ($what:literal) { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// All variants, in the order in which a task meets them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The spelling used in SQL, CLI, HTTP and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::task::UnknownSpelling;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(crate::task::UnknownSpelling::new($what, text, &[$($text),+])),
                }
            }
        }
    };
}
pub(crate) use spelled;

/// The error of a word that is no variant of the enum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no {what}; allowed are {}", allowed.join(", "))]
pub struct UnknownSpelling {
    what: &'static str,
    given: String,
    allowed: &'static [&'static str],
}

impl UnknownSpelling {
    pub(crate) fn new(what: &'static str, given: &str, allowed: &'static [&'static str]) -> Self {
        Self { what, given: given.chars().take(64).collect(), allowed }
    }
}

spelled! {
    /// The state of a task.
    ///
    /// ```
    /// use callboard::TaskState;
    /// assert!(TaskState::Running.may_become(TaskState::Completed));
    /// assert!(!TaskState::Completed.may_become(TaskState::Running));
    /// assert_eq!("dead".parse(), Ok(TaskState::Dead));
    /// ```
    TaskState ("task state") {
        /// Waits until a parent task has ended.
        Waiting = "waiting",
        /// Its `run_at` is in the future.
        Scheduled = "scheduled",
        /// May run now.
        Pending = "pending",
        /// Claimed by a node.
        Running = "running",
        /// Failed, and runs again at `run_at`.
        Retrying = "retrying",
        /// Completed successfully.
        Completed = "completed",
        /// Dead letter: its attempts are used up, its error was fatal, it cannot be decoded, or it crash-loops.
        Dead = "dead",
        /// Cancelled before it was completed.
        Cancelled = "cancelled",
    }
}

impl TaskState {
    /// True for the states that end a task: completed, dead and cancelled.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Dead | Self::Cancelled)
    }

    /// True if a task may move from this state to `next`. This is the only table of allowed moves.
    pub const fn may_become(self, next: Self) -> bool {
        use TaskState::{Cancelled, Completed, Dead, Pending, Retrying, Running, Scheduled, Waiting};
        match self {
            Waiting => matches!(next, Pending | Scheduled | Cancelled),
            // A claim moves a due task straight to running, without a stop at pending.
            Scheduled | Retrying => matches!(next, Pending | Scheduled | Running | Cancelled),
            Pending => matches!(next, Running | Scheduled | Cancelled),
            // Back to pending or scheduled: the task was released, snoozed or rescued.
            Running => matches!(next, Completed | Dead | Cancelled | Retrying | Pending | Scheduled),
            // Only an explicit retry leaves a terminal state.
            Completed | Dead | Cancelled => matches!(next, Pending),
        }
    }
}

spelled! {
    /// How a run of a task ended, or `Running` before its end.
    ExecutionStatus ("execution status") {
        /// The run has not ended.
        Running = "running",
        /// The handler returned without an error.
        Success = "success",
        /// The handler returned an error or panicked.
        Failed = "failed",
        /// The run took longer than the task's timeout.
        Timeout = "timeout",
        /// The run was cancelled.
        Cancelled = "cancelled",
        /// The node of the run died or lost its lease.
        Lost = "lost",
        /// The handler asked for a later run.
        Snoozed = "snoozed",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states() -> impl Strategy<Value = TaskState> {
        prop::sample::select(TaskState::ALL)
    }

    #[test]
    fn a_terminal_state_is_left_for_pending_alone() {
        for state in TaskState::ALL.iter().filter(|state| state.is_terminal()) {
            let next: Vec<_> = TaskState::ALL.iter().filter(|next| state.may_become(**next)).collect();
            assert_eq!(next, [&TaskState::Pending], "{state}");
        }
    }

    #[test]
    fn nothing_begins_to_wait() {
        assert!(TaskState::ALL.iter().all(|state| !state.may_become(TaskState::Waiting)));
    }

    #[test]
    fn only_a_run_completes_fails_or_dies() {
        for end in [TaskState::Completed, TaskState::Dead, TaskState::Retrying] {
            let from: Vec<_> = TaskState::ALL.iter().filter(|state| state.may_become(end)).collect();
            assert!(from.iter().all(|state| matches!(state, TaskState::Running | TaskState::Retrying)), "{from:?}");
        }
    }

    #[test]
    fn every_live_state_can_be_cancelled() {
        for state in TaskState::ALL.iter().filter(|state| !state.is_terminal()) {
            assert!(state.may_become(TaskState::Cancelled), "{state}");
        }
    }

    #[test]
    fn every_state_leads_to_completed() {
        for start in TaskState::ALL {
            let mut reached = vec![*start];
            for _ in TaskState::ALL {
                let next = TaskState::ALL.iter().filter(|next| reached.iter().any(|state| state.may_become(**next)));
                let next: Vec<_> = next.copied().collect();
                reached.extend(next);
            }
            assert!(reached.contains(&TaskState::Completed), "{start}");
        }
    }

    #[test]
    fn spelling_is_refused_with_what_is_allowed() {
        let error = "Done".parse::<TaskState>().unwrap_err().to_string();
        assert!(error.contains("Done") && error.contains("completed"), "{error}");
    }

    proptest! {
        #[test]
        fn spelling_and_json_agree(state in states()) {
            prop_assert_eq!(state.as_str().parse::<TaskState>(), Ok(state));
            prop_assert_eq!(serde_json::to_value(state).unwrap(), serde_json::json!(state.as_str()));
        }

        #[test]
        fn a_random_walk_comes_back_from_an_end_only_through_pending(
            steps in prop::collection::vec(states(), 0..50),
        ) {
            let mut state = TaskState::Pending;
            for next in steps {
                if state.may_become(next) {
                    prop_assert!(!state.is_terminal() || next == TaskState::Pending);
                    state = next;
                }
            }
        }
    }
}
