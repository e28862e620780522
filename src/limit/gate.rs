//! Decides which pending tasks may start under the limits. Pure: storage tells what runs and what has started.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{HeldBack, Labels, Limit, Limits, Rate};
use crate::clock::{Timestamp, micros};

/// How many pending tasks a claim looks through for those that its limits let start. Behind so many that are held back
/// others wait too; without a bound, a long line of such tasks would make every claim slow.
pub(crate) const LOOK_AHEAD: usize = 5_000;

/// When to look again after somebody else was in the way.
const SOON: Duration = Duration::from_millis(10);

/// Starts up to this number are remembered to the microsecond. Of a greater rate, those of a thousandth of its period are
/// remembered as one, at the end of that thousandth: the window stays exact, and has few rows.
const FINE: u32 = 1_000;

/// The door that a limit is.
#[derive(Default)]
struct Door {
    is: Is,
    subjects: HashMap<Box<str>, Use>,
}

#[derive(Default)]
enum Is {
    /// Storage was not asked for it yet.
    #[default]
    Unasked,
    /// It was removed meanwhile.
    Gone,
    /// Another claim holds it.
    #[cfg(any(feature = "sql", test))]
    Busy,
    /// As storage has it.
    Here(Limit),
}

/// How far the limit of one subject is used.
#[derive(Default)]
struct Use {
    running: u64,
    /// Starts in the window that ends now.
    started: u64,
    /// The first of them.
    oldest: Option<Timestamp>,
    /// Storage was asked for the starts.
    looked: bool,
    /// Starts under this gate.
    begun: u32,
}

/// Why a task has to wait, by what ends the wait: when there are several reasons, the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    Until(Timestamp),
    /// Until some task ends.
    Running,
}

/// Starts that storage is to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The limit's place among those that are known.
    pub(crate) place: usize,
    pub(crate) subject: Box<str>,
    pub(crate) at: Timestamp,
    pub(crate) tasks: u32,
    /// Starts at and before this time need not be remembered any more.
    pub(crate) forget: Timestamp,
}

/// The limits at the moment of one commit: each task that is let through counts for the next.
pub(crate) struct Gate {
    known: Arc<Limits>,
    now: Timestamp,
    doors: Vec<Door>,
    wait: Option<Wait>,
    running: bool,
}

impl Gate {
    pub(crate) fn new(known: &Arc<Limits>, now: Timestamp) -> Self {
        let doors = known.iter().map(|_| Door::default()).collect();
        Self { known: Arc::clone(known), now, doors, wait: None, running: false }
    }

    /// It took until now to come here: what counts, and what is remembered, goes by this time. Never goes back.
    #[cfg(feature = "sql")]
    pub(crate) fn reached(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// True when one of these limits counts starts.
    #[cfg(feature = "sql")]
    pub(crate) fn counts_starts(&self, places: &BTreeSet<usize>) -> bool {
        places.iter().any(|place| self.limit(*place).is_some_and(|limit| limit.rate.is_some()))
    }

    /// The limits that apply to these tasks and that storage was not asked for yet.
    #[cfg(feature = "sql")]
    pub(crate) fn unasked<'a>(&self, tasks: impl Iterator<Item = Labels<'a>>) -> BTreeSet<usize> {
        let applying = tasks.flat_map(|labels| self.known.applying(labels).map(|(place, _)| place));
        applying.filter(|place| matches!(self.doors[*place].is, Is::Unasked)).collect()
    }

    /// What storage said of a limit.
    pub(crate) fn open(&mut self, place: usize, limit: Limit) {
        self.doors[place].is = Is::Here(limit);
    }

    /// Storage has it no longer.
    pub(crate) fn gone(&mut self, place: usize) {
        self.doors[place].is = Is::Gone;
    }

    /// It could not be had now.
    #[cfg(any(feature = "sql", test))]
    pub(crate) fn busy(&mut self, place: usize) {
        self.doors[place].is = Is::Busy;
    }

    /// True when one of these limits counts running tasks.
    pub(crate) fn counts_running(&self, places: &BTreeSet<usize>) -> bool {
        places.iter().any(|place| self.limit(*place).is_some_and(|limit| limit.running.is_some()))
    }

    /// So many tasks with these labels run; for those of their limits that are in `places`.
    pub(crate) fn runs(&mut self, places: &BTreeSet<usize>, labels: Labels<'_>, tasks: u64) {
        let known = Arc::clone(&self.known);
        for (place, subject) in known.applying(labels).filter(|(place, _)| places.contains(place)) {
            self.subject(place, subject).running += tasks;
        }
    }

    /// Of which subjects of which limits the starts are wanted, for these tasks; each is asked for once.
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

    /// The starts that count now under a rate: later than the first time, and not later than the second. What lies
    /// further ahead was written before a clock was set back.
    pub(crate) fn window(&self, rate: Rate) -> (Timestamp, Timestamp) {
        (self.now - rate.period, self.now + rate.period)
    }

    /// So many starts lie in the window of a subject, the first of them at `oldest`.
    pub(crate) fn started(&mut self, place: usize, subject: &str, tasks: u64, oldest: Timestamp) {
        let used = self.subject(place, subject);
        used.started += tasks;
        used.oldest = used.oldest.into_iter().chain([oldest]).min();
    }

    /// Lets a task through when all its limits do.
    pub(crate) fn admit(&mut self, labels: Labels<'_>) -> bool {
        let known = Arc::clone(&self.known);
        let wait = known.applying(labels).filter_map(|(place, subject)| self.wait(place, subject)).max();
        if let Some(wait) = wait {
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

    /// A task that was let through has started.
    pub(crate) fn begun(&mut self, labels: Labels<'_>) {
        let known = Arc::clone(&self.known);
        for (place, subject) in known.applying(labels) {
            if self.limit(place).is_some_and(|limit| limit.rate.is_some()) {
                self.subject(place, subject).begun += 1;
            }
        }
    }

    /// Somebody else was in the way of a task that was let through, or that could not be judged.
    #[cfg(feature = "sql")]
    pub(crate) fn in_the_way(&mut self) {
        self.hold(Wait::Until(self.now + SOON));
    }

    /// What was held back since the last call.
    pub(crate) fn held_back(&mut self, request: usize) -> Option<HeldBack> {
        let running = std::mem::take(&mut self.running);
        let retry_at = match self.wait.take()? {
            Wait::Until(time) => Some(time),
            Wait::Running => None,
        };
        Some(HeldBack { request, retry_at, running })
    }

    /// What storage is to remember of this commit.
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

    /// Why one limit makes a task wait, if it does.
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

    /// The first moment at which any task may have room is when to ask again.
    fn hold(&mut self, wait: Wait) {
        self.running |= wait == Wait::Running;
        self.wait = self.wait.into_iter().chain([wait]).min();
    }
}

/// The time at which a start counts.
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
