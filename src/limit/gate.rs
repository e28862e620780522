//! Decides which pending tasks may start under the limits. Pure: storage reports the running tasks and the starts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{HeldBack, Labels, Limit, Limits, Rate};
use crate::clock::{Timestamp, micros};

/// The number of pending tasks that a claim looks through to find tasks that their limits let start. Behind this many
/// held-back tasks, tasks that could start wait too. The bound exists because otherwise a long run of held-back tasks
/// would make every claim slow.
pub(crate) const LOOK_AHEAD: usize = 5_000;

/// The delay before a retry after a concurrent claim was in the way.
const SOON: Duration = Duration::from_millis(10);

/// Starts of a rate of up to this many tasks are remembered to the microsecond. For a higher rate, all starts in a
/// thousandth of its period are remembered together, at the end of that thousandth. So the window stays exact (no start
/// leaves it too early) and has few rows.
const FINE: u32 = 1_000;

/// A limit and its use during a commit.
#[derive(Default)]
struct Door {
    is: Is,
    subjects: HashMap<Box<str>, Use>,
}

impl Door {
    fn is_locked(&self) -> bool {
        #[cfg(any(feature = "sql", test))]
        return matches!(self.is, Is::Busy);
        #[cfg(not(any(feature = "sql", test)))]
        false
    }
}

#[derive(Default)]
enum Is {
    /// The limit was not read from storage yet.
    #[default]
    Unasked,
    /// The limit was removed meanwhile.
    Gone,
    /// A concurrent claim has locked the limit.
    #[cfg(any(feature = "sql", test))]
    Busy,
    /// The limit as stored.
    Here(Limit),
}

/// How much of a limit a subject has used.
#[derive(Default)]
struct Use {
    running: u64,
    /// Starts in the window that ends now.
    started: u64,
    /// The first start in the window.
    oldest: Option<Timestamp>,
    /// True after the starts were requested from storage.
    looked: bool,
    /// Starts that this gate has let through.
    begun: u32,
}

/// The reason why a task has to wait, by the event that ends the wait. If there are several reasons, the greatest
/// counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    Until(Timestamp),
    /// Until a running task ends.
    Running,
}

/// Starts that storage must remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The limit's position among the known limits.
    pub(crate) place: usize,
    pub(crate) subject: Box<str>,
    pub(crate) at: Timestamp,
    pub(crate) tasks: u32,
    /// Starts at or before this time may be forgotten.
    pub(crate) forget: Timestamp,
}

/// The limits during a commit. Each task that is let through counts for the next.
pub(crate) struct Gate {
    known: Arc<Limits>,
    now: Timestamp,
    doors: Vec<Door>,
    wait: Option<Wait>,
    running: bool,
    /// A limit that a concurrent transaction has locked held a task back.
    locked: bool,
}

impl Gate {
    pub(crate) fn new(known: &Arc<Limits>, now: Timestamp) -> Self {
        let doors = known.iter().map(|_| Door::default()).collect();
        Self { known: Arc::clone(known), now, doors, wait: None, running: false, locked: false }
    }

    /// Moves the time of the gate forward to `now`, because the commit may have waited before this point. Counting and
    /// remembered starts use this time. It never goes back.
    #[cfg(feature = "sql")]
    pub(crate) fn reached(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// True if any of these limits counts starts.
    #[cfg(feature = "sql")]
    pub(crate) fn counts_starts(&self, places: &BTreeSet<usize>) -> bool {
        places.iter().any(|place| self.limit(*place).is_some_and(|limit| limit.rate.is_some()))
    }

    /// The limits that apply to these tasks and were not read from storage yet.
    #[cfg(feature = "sql")]
    pub(crate) fn unasked<'a>(&self, tasks: impl Iterator<Item = Labels<'a>>) -> BTreeSet<usize> {
        let applying = tasks.flat_map(|labels| self.known.applying(labels).map(|(place, _)| place));
        applying.filter(|place| matches!(self.doors[*place].is, Is::Unasked)).collect()
    }

    /// Records the stored form of a limit.
    pub(crate) fn open(&mut self, place: usize, limit: Limit) {
        self.doors[place].is = Is::Here(limit);
    }

    /// Records that the limit no longer exists in storage.
    pub(crate) fn gone(&mut self, place: usize) {
        self.doors[place].is = Is::Gone;
    }

    /// Records that the limit is locked by a concurrent claim.
    #[cfg(any(feature = "sql", test))]
    pub(crate) fn busy(&mut self, place: usize) {
        self.doors[place].is = Is::Busy;
    }

    /// True if any of these limits counts running tasks.
    pub(crate) fn counts_running(&self, places: &BTreeSet<usize>) -> bool {
        places.iter().any(|place| self.limit(*place).is_some_and(|limit| limit.running.is_some()))
    }

    /// Adds running tasks with these labels to those of their limits that are in `places`.
    pub(crate) fn runs(&mut self, places: &BTreeSet<usize>, labels: Labels<'_>, tasks: u64) {
        let known = Arc::clone(&self.known);
        for (place, subject) in known.applying(labels).filter(|(place, _)| places.contains(place)) {
            self.subject(place, subject).running += tasks;
        }
    }

    /// The limits and subjects whose starts must be read for these tasks. Each pair is returned only on the first call.
    pub(crate) fn unlooked<'a>(&mut self, tasks: impl Iterator<Item = Labels<'a>>) -> BTreeMap<usize, Vec<&'a str>> {
        let known = Arc::clone(&self.known);
        let mut wanted: BTreeMap<usize, Vec<&'a str>> = BTreeMap::new();
        for (place, subject) in tasks.flat_map(|labels| known.applying(labels)) {
            let rated = self.limit(place).is_some_and(|limit| limit.rate.is_some());
            if rated && !std::mem::replace(&mut self.subject(place, subject).looked, true) {
                wanted.entry(place).or_default().push(subject);
            }
        }
        wanted
    }

    /// The time window of the starts that count now under a rate: after the first time, and up to and including the
    /// second. A start after the second time was written before a clock was set back.
    pub(crate) fn window(&self, rate: Rate) -> (Timestamp, Timestamp) {
        (self.now - rate.period, self.now + rate.period)
    }

    /// Adds starts to the window of a subject; the first of them is at `oldest`.
    pub(crate) fn started(&mut self, place: usize, subject: &str, tasks: u64, oldest: Timestamp) {
        let used = self.subject(place, subject);
        used.started += tasks;
        used.oldest = used.oldest.into_iter().chain([oldest]).min();
    }

    /// Lets a task through if all its limits have room.
    pub(crate) fn admit(&mut self, labels: Labels<'_>) -> bool {
        let known = Arc::clone(&self.known);
        let wait = known.applying(labels).filter_map(|(place, subject)| self.wait(place, subject)).max();
        if let Some(wait) = wait {
            self.locked |= known.applying(labels).any(|(place, _)| self.doors[place].is_locked());
            self.hold(wait);
            return false;
        }
        for (place, subject) in known.applying(labels) {
            let Some(rate) = self.limit(place).map(|limit| limit.rate) else { continue };
            let at = rate.map(|rate| remembered(self.now, rate));
            let used = self.subject(place, subject);
            used.running += 1;
            used.started += 1;
            used.oldest = used.oldest.or(at);
        }
        true
    }

    /// Records the start of a task that was let through.
    pub(crate) fn begun(&mut self, labels: Labels<'_>) {
        let known = Arc::clone(&self.known);
        for (place, subject) in known.applying(labels) {
            if self.limit(place).is_some_and(|limit| limit.rate.is_some()) {
                self.subject(place, subject).begun += 1;
            }
        }
    }

    /// Records that a concurrent change was in the way of a task that was let through, or of a task that could not be
    /// judged.
    #[cfg(feature = "sql")]
    pub(crate) fn in_the_way(&mut self) {
        self.hold(Wait::Until(self.now + SOON));
    }

    /// Reports the tasks that were held back since the last call.
    pub(crate) fn held_back(&mut self, request: usize) -> Option<HeldBack> {
        let running = std::mem::take(&mut self.running);
        let locked = std::mem::take(&mut self.locked);
        let retry_at = match self.wait.take()? {
            Wait::Until(time) => Some(time),
            Wait::Running => None,
        };
        Some(HeldBack { request, retry_at, running, locked })
    }

    /// The starts of this commit that storage must remember.
    pub(crate) fn starts(&self) -> Vec<Start> {
        let mut starts = Vec::new();
        for (place, door) in self.doors.iter().enumerate() {
            let Is::Here(Limit { rate: Some(rate), .. }) = door.is else { continue };
            let begun = door.subjects.iter().filter(|(_, used)| used.begun > 0);
            starts.extend(begun.map(|(subject, used)| Start {
                place,
                subject: subject.clone(),
                at: remembered(self.now, rate),
                tasks: used.begun,
                forget: self.window(rate).0,
            }));
        }
        starts
    }

    pub(crate) fn limit(&self, place: usize) -> Option<&Limit> {
        match &self.doors[place].is {
            Is::Here(limit) => Some(limit),
            _ => None,
        }
    }

    fn subject(&mut self, place: usize, subject: &str) -> &mut Use {
        let subjects = &mut self.doors[place].subjects;
        if !subjects.contains_key(subject) {
            subjects.insert(subject.into(), Use::default());
        }
        subjects.get_mut(subject).expect("it was put there if it was not")
    }

    /// The reason why a limit makes a task wait, if it does.
    fn wait(&self, place: usize, subject: &str) -> Option<Wait> {
        let door = &self.doors[place];
        let limit = match &door.is {
            Is::Gone => return None,
            Is::Unasked => return Some(Wait::Until(self.now + SOON)),
            #[cfg(any(feature = "sql", test))]
            Is::Busy => return Some(Wait::Until(self.now + SOON)),
            Is::Here(limit) => limit,
        };
        let used = door.subjects.get(subject)?;
        if limit.running.is_some_and(|most| used.running >= most.into()) {
            return Some(Wait::Running);
        }
        let rate = limit.rate.filter(|rate| used.started >= rate.tasks.into())?;
        Some(Wait::Until(used.oldest.unwrap_or(self.now) + rate.period))
    }

    /// The time of the next try is the first moment at which any task may have room.
    fn hold(&mut self, wait: Wait) {
        self.running |= wait == Wait::Running;
        self.wait = self.wait.into_iter().chain([wait]).min();
    }
}

/// The time under which a start is remembered.
fn remembered(now: Timestamp, rate: Rate) -> Timestamp {
    if rate.tasks <= FINE {
        return now;
    }
    let step = (micros(rate.period) / i64::from(FINE)).max(1);
    let over = now.as_micros().rem_euclid(step);
    if over == 0 { now } else { Timestamp::from_micros(now.as_micros().saturating_add(step - over)) }
}

#[cfg(test)]
mod tests;
