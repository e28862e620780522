//! Limits that hold over all nodes: how many tasks run at a time, and how many start in a period.

mod gate;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::gate::{Gate, LOOK_AHEAD, Start};
use crate::clock::{Timestamp, micros};
use crate::name::{Name, name_fault};
use crate::task::{TaskSpec, spelled};

/// The shortest and the longest period of a [`Rate`].
const PERIODS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 60 * 60);

spelled! {
    /// What the name of a [`Limit`] names.
    LimitScope ("limit scope") {
        /// A queue: all of its tasks share the limit.
        Queue = "queue",
        /// A type: all tasks of the type share the limit, whatever their queue.
        Type = "type",
        /// Limit keys: those tasks share the limit that have the same key, whatever their queue and type. A limit named
        /// `api` is for the key `api`, and for each key that begins with `api:` by itself.
        Key = "key",
    }
}

/// A rate: at most so many starts in any span of this length.
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
    /// What `name` names.
    pub scope: LimitScope,
    /// The queue, the type, or what limit keys begin with.
    pub name: Name,
    /// So many tasks run at a time, at most.
    pub running: Option<u32>,
    /// So many tasks start in a period, at most.
    pub rate: Option<Rate>,
}

impl Limit {
    fn new(scope: LimitScope, name: impl Into<Name>) -> Self {
        Self { scope, name: name.into(), running: None, rate: None }
    }

    /// A limit of a queue; it limits nothing yet.
    #[must_use]
    pub fn of_queue(queue: impl Into<Name>) -> Self {
        Self::new(LimitScope::Queue, queue)
    }

    /// A limit of a type; it limits nothing yet.
    #[must_use]
    pub fn of_type(kind: impl Into<Name>) -> Self {
        Self::new(LimitScope::Type, kind)
    }

    /// A limit of the key `name`, and of each key that begins with `name` and a colon by itself; it limits nothing yet.
    #[must_use]
    pub fn of_key(name: impl Into<Name>) -> Self {
        Self::new(LimitScope::Key, name)
    }

    /// At most so many run at a time.
    #[must_use]
    pub fn running(mut self, tasks: u32) -> Self {
        self.running = Some(tasks);
        self
    }

    /// At most so many start in any span as long as `period`, in whole microseconds.
    #[must_use]
    pub fn rate(mut self, tasks: u32, period: Duration) -> Self {
        // As storage keeps it.
        let period = Duration::from_micros(u64::try_from(period.as_micros()).unwrap_or(u64::MAX));
        self.rate = Some(Rate { tasks, period });
        self
    }

    /// What is wrong with it, if anything is.
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

/// What limits look at in a task.
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

/// All limits that are known, found by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    list: Vec<Limit>,
    /// By scope, then by name.
    places: [HashMap<Name, usize>; LimitScope::ALL.len()],
}

impl Limits {
    /// These limits; nothing when there are none, so that a program without limits pays nothing for them.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Option<Arc<Self>> {
        let mut all = Self { list: limits.into_iter().collect(), ..Self::default() };
        all.list.sort_by(|a, b| (a.scope, &a.name).cmp(&(b.scope, &b.name)));
        for (place, limit) in all.list.iter().enumerate() {
            all.places[limit.scope as usize].insert(limit.name.clone(), place);
        }
        (!all.list.is_empty()).then(|| Arc::new(all))
    }

    /// All of them, by scope and name.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.list.iter()
    }

    /// True when a limit applies to the task.
    pub fn apply_to(&self, task: &TaskSpec) -> bool {
        self.touch(task.labels())
    }

    /// True when a limit of running tasks applies to the task: its end makes room for others.
    pub fn hold_room_of(&self, task: &TaskSpec) -> bool {
        self.applying(task.labels()).any(|(place, _)| self.list[place].running.is_some())
    }

    pub(crate) fn touch(&self, labels: Labels<'_>) -> bool {
        self.applying(labels).next().is_some()
    }

    /// False when no task of these types in the queue can be under a limit; without types, none of any type.
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

    /// The places of the limits that apply to a task, each with its subject: all tasks with the same one share the
    /// limit. For queues and types there is one subject only.
    pub(crate) fn applying<'a>(&self, labels: Labels<'a>) -> impl Iterator<Item = (usize, &'a str)> {
        let [queues, types, keys] = &self.places;
        let plain =
            [queues.get(labels.queue), types.get(labels.kind)].into_iter().flatten().map(|place| (*place, ""));
        // Most tasks have no key, and most programs no limit of keys.
        let key = labels.key.filter(|_| !keys.is_empty());
        let beginnings = key.into_iter().flat_map(move |key| {
            let ends = key.match_indices(':').map(|(end, _)| end).chain([key.len()]);
            ends.filter_map(move |end| Some((*keys.get(&key[..end])?, key)))
        });
        plain.chain(beginnings)
    }
}

/// A task that a limit left in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The place of the claim request among those of the commit.
    pub request: usize,
    /// When there may be room again: when the first start leaves the window of a rate. Nothing when only the end of a
    /// task makes room.
    pub retry_at: Option<Timestamp>,
    /// True when a limit of running tasks held a task back: the end of one on whichever node may make room.
    pub running: bool,
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
