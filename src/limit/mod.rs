//! Limits that hold over all nodes: on running tasks, and on task starts in a period.

mod gate;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::gate::{Gate, LOOK_AHEAD, Start};
use crate::clock::{Timestamp, micros};
use crate::name::{Name, name_fault};
use crate::task::{TaskSpec, spelled};

/// The shortest and longest allowed period of a [`Rate`].
const PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 60 * 60);

spelled! {
    /// The subject that the name of a [`Limit`] refers to.
    LimitScope ("limit scope") {
        /// A queue: all its tasks share the limit.
        Queue = "queue",
        /// A type: all tasks of the type share the limit, in every queue.
        Type = "type",
        /// Limit keys: all tasks with the same key share the limit, in every queue and of every type. A limit named
        /// `api` applies to the key `api`. It also applies to each key that begins with `api:`, separately for each
        /// key.
        Key = "key",
    }
}

/// A rate: a maximum number of starts in any time span of the given length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Starts, at least 1.
    pub tasks: u32,
    /// The span, from 1 ms to 366 days; in JSON in microseconds.
    #[serde(rename = "period_us", with = "period")]
    pub period: Duration,
}

/// A limit over all nodes that share the storage.
///
/// ```
/// use callboard::{Limit, LimitScope};
/// use std::time::Duration;
/// // However many nodes there are, two of these run at a time.
/// let encoders = Limit::of_type("encode").running(2);
/// // At most 5 calls in any second and 3 at a time, for each customer: `api:anna`, `api:bert`, ...
/// let customers = Limit::of_key("api").rate(5, Duration::from_secs(1)).running(3);
/// assert_eq!((customers.scope, customers.running), (LimitScope::Key, Some(3)));
/// # let _ = encoders;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The kind of subject that `name` refers to.
    pub scope: LimitScope,
    /// The queue, the type, or the beginning of the limit keys.
    pub name: Name,
    /// The maximum number of tasks that run at a time.
    pub running: Option<u32>,
    /// The maximum number of starts in a period.
    pub rate: Option<Rate>,
}

impl Limit {
    fn new(scope: LimitScope, name: impl Into<Name>) -> Self {
        Self { scope, name: name.into(), running: None, rate: None }
    }

    /// A limit for a queue; it limits nothing yet.
    #[must_use]
    pub fn of_queue(queue: impl Into<Name>) -> Self {
        Self::new(LimitScope::Queue, queue)
    }

    /// A limit for a type; it limits nothing yet.
    #[must_use]
    pub fn of_type(kind: impl Into<Name>) -> Self {
        Self::new(LimitScope::Type, kind)
    }

    /// A limit for the key `name`, and for each key that begins with `name` and a colon, separately for each key. It
    /// limits nothing yet.
    #[must_use]
    pub fn of_key(name: impl Into<Name>) -> Self {
        Self::new(LimitScope::Key, name)
    }

    /// Allows at most this many running tasks at a time.
    #[must_use]
    pub fn running(mut self, tasks: u32) -> Self {
        self.running = Some(tasks);
        self
    }

    /// Allows at most this many starts in any span as long as `period`, in whole microseconds.
    #[must_use]
    pub fn rate(mut self, tasks: u32, period: Duration) -> Self {
        // Storage keeps whole microseconds.
        let period = Duration::from_micros(u64::try_from(period.as_micros()).unwrap_or(u64::MAX));
        self.rate = Some(Rate { tasks, period });
        self
    }

    /// The fault of the limit; `None` if the limit is valid.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { scope, name, running, rate } = self;
        if let Some(fault) = name_fault(&format!("the name of a {scope} limit"), name) {
            return Some(fault);
        }
        if running.is_none() && rate.is_none() {
            return Some(format!(
                "the {scope} limit {name:?} limits nothing; give it running or a rate, or remove it"
            ));
        }
        if *running == Some(0) {
            return Some(format!("the {scope} limit {name:?} lets 0 tasks run; give 1 at least, or pause the queue"));
        }
        let rate = (*rate)?;
        if rate.tasks == 0 {
            return Some(format!(
                "the {scope} limit {name:?} lets 0 tasks start; give 1 at least, or pause the queue"
            ));
        }
        let period = rate.period;
        (!PERIODS.contains(&period))
            .then(|| format!("the {scope} limit {name:?} has a period of {period:?}; give one from 1 ms to 366 days"))
    }
}

/// The fields of a task that decide which limits apply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'a> {
    pub(crate) queue: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) key: Option<&'a str>,
}

impl TaskSpec {
    pub(crate) fn labels(&self) -> Labels<'_> {
        Labels { queue: &self.queue, kind: &self.kind, key: self.extras().limit_key.as_deref() }
    }
}

/// All known limits, indexed by their subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    list: Vec<Limit>,
    /// By scope, then by name.
    places: [HashMap<Name, usize>; LimitScope::ALL.len()],
}

impl Limits {
    /// Builds the set of these limits. `None` if it is empty, so that a program without limits pays nothing for them.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Option<Arc<Self>> {
        let mut all = Self { list: limits.into_iter().collect(), ..Self::default() };
        all.list.sort_by(|a, b| (a.scope, &a.name).cmp(&(b.scope, &b.name)));
        for (place, limit) in all.list.iter().enumerate() {
            all.places[limit.scope as usize].insert(limit.name.clone(), place);
        }
        (!all.list.is_empty()).then(|| Arc::new(all))
    }

    /// All limits, by scope and name.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.list.iter()
    }

    /// True if a limit applies to the task.
    pub fn apply_to(&self, task: &TaskSpec) -> bool {
        self.touch(task.labels())
    }

    /// True if a limit of running tasks applies to the task: its end makes room for more tasks.
    pub fn hold_room_of(&self, task: &TaskSpec) -> bool {
        self.applying(task.labels()).any(|(place, _)| self.list[place].running.is_some())
    }

    pub(crate) fn touch(&self, labels: Labels<'_>) -> bool {
        self.applying(labels).next().is_some()
    }

    /// False if no task of these types in the queue can be under a limit. Without types, tasks of every type are meant.
    pub(crate) fn may_touch(&self, queue: &Name, asked: Option<&[Name]>) -> bool {
        let [queues, types, keys] = &self.places;
        let of_type = match asked {
            None => !types.is_empty(),
            Some(asked) => !types.is_empty() && asked.iter().any(|kind| types.contains_key(kind)),
        };
        queues.contains_key(queue) || of_type || !keys.is_empty()
    }

    #[cfg(any(feature = "sql", test))]
    pub(crate) fn get(&self, place: usize) -> &Limit {
        &self.list[place]
    }

    /// The positions of the limits that apply to a task, each with its subject. All tasks with the same subject share
    /// the limit. A limit of a queue or a type has only a single subject.
    pub(crate) fn applying<'a>(&self, labels: Labels<'a>) -> impl Iterator<Item = (usize, &'a str)> {
        let [queues, types, keys] = &self.places;
        let plain =
            [queues.get(labels.queue), types.get(labels.kind)].into_iter().flatten().map(|place| (*place, ""));
        // Most tasks have no key, and most programs have no key limits.
        let key = labels.key.filter(|_| !keys.is_empty());
        let beginnings = key.into_iter().flat_map(move |key| {
            let ends = key.match_indices(':').map(|(end, _)| end).chain([key.len()]);
            ends.filter_map(move |end| Some((*keys.get(&key[..end])?, key)))
        });
        plain.chain(beginnings)
    }
}

/// A claim from which a limit held tasks back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The position of the claim request among the requests of the commit.
    pub request: usize,
    /// The time at which there may be room again: the first start then leaves the window of a rate. `None` if only the
    /// end of a task makes room.
    pub retry_at: Option<Timestamp>,
    /// True if a limit of running tasks held a task back: the end of a task on any node may make room.
    pub running: bool,
    /// True if a concurrent transaction has kept a limit locked for longer than a claim waits. The claim is to be repeated
    /// in a commit of its own, because it may wait again.
    pub locked: bool,
}

/// Spans in whole microseconds.
mod period {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Duration, micros};

    pub(super) fn serialize<S: Serializer>(period: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(micros(*period))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests;
