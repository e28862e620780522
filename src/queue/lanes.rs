//! Lanes: who may run how much. Pure: no actix, no storage, no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::bench::Bench;
use super::desk::Popper;
use crate::backend::QueueSettings;
use crate::name::Name;

/// The most tasks that one claim asks for, so that a lane with a huge concurrency keeps commits short.
const MOST_PER_CLAIM: usize = 2_000;

/// Whether storage may hold pending tasks that nobody here has claimed.
///
/// A claim that comes back short proves that there are none, unless something was pushed, promoted or announced
/// after the claim was composed: that is what the count is for.
#[derive(Debug, Default)]
pub(crate) struct Hunger {
    maybe: bool,
    announced: u64,
}

impl Hunger {
    pub(crate) fn announce(&mut self) {
        self.maybe = true;
        self.announced += 1;
    }

    pub(crate) fn is_set(&self) -> bool {
        self.maybe
    }

    pub(crate) fn mark(&self) -> u64 {
        self.announced
    }

    /// A claim composed at `mark` came back short.
    pub(crate) fn came_back_short(&mut self, mark: u64) {
        if self.announced == mark {
            self.maybe = false;
        }
    }
}

/// A queue as this node runs it.
pub(crate) struct Lane {
    pub(crate) name: Name,
    configured: usize,
    overridden: Option<usize>,
    pub(crate) paused: bool,
    /// Tasks that are claimed for workers and not settled, or asked for in a commit under way.
    pub(crate) outstanding: usize,
    /// For workers: pending tasks of known types.
    pub(crate) work: Hunger,
    /// For those who pull: pending tasks of any type.
    pub(crate) pull: Hunger,
    pub(crate) poppers: VecDeque<Popper>,
    /// Poppers that a commit under way asks for.
    pub(crate) popping: usize,
    pub(crate) bench: Arc<Bench>,
    /// Those who wait until nothing of this lane runs here.
    pub(crate) idle_watchers: Vec<oneshot::Sender<()>>,
}

impl Lane {
    fn new(name: Name, configured: usize, bench: Arc<Bench>) -> Self {
        let mut lane = Self {
            name,
            configured,
            overridden: None,
            paused: false,
            outstanding: 0,
            work: Hunger::default(),
            pull: Hunger::default(),
            poppers: VecDeque::new(),
            popping: 0,
            bench,
            idle_watchers: Vec::new(),
        };
        // Nobody knows yet what storage holds.
        lane.announce();
        lane
    }

    /// How many tasks may run at a time.
    pub(crate) fn concurrency(&self) -> usize {
        self.overridden.unwrap_or(self.configured)
    }

    /// How many more tasks may be claimed for workers now.
    pub(crate) fn room(&self) -> usize {
        if self.paused { 0 } else { self.concurrency().saturating_sub(self.outstanding).min(MOST_PER_CLAIM) }
    }

    /// How many who pull have not been asked for yet; those who went away are dropped.
    pub(crate) fn unserved_poppers(&mut self) -> usize {
        if self.paused {
            return 0;
        }
        self.poppers.retain(|popper| !popper.answer.is_closed());
        self.poppers.len().saturating_sub(self.popping)
    }

    /// Storage has nothing to pull: those who do not want to wait are turned away, by dropping their sender.
    pub(crate) fn turn_away_hasty(&mut self) {
        if self.popping == 0 {
            self.poppers.retain(|popper| !popper.once);
        }
    }

    /// Storage may hold pending tasks.
    pub(crate) fn announce(&mut self) {
        self.work.announce();
        self.pull.announce();
    }

    /// A claim of a worker ended, or was not filled.
    pub(crate) fn give_room(&mut self, tasks: usize) {
        self.outstanding = self.outstanding.saturating_sub(tasks);
    }

    /// Nothing is on its way to storage: if nothing of this lane runs either, those who wait for that are told.
    pub(crate) fn tell_idle(&mut self, delivers: impl Fn(&str) -> bool) {
        if !self.idle_watchers.is_empty() && self.outstanding == 0 && !delivers(&self.name) {
            for watcher in self.idle_watchers.drain(..) {
                // Whoever no longer listens needs no answer.
                watcher.send(()).ok();
            }
        }
    }

    pub(crate) fn apply(&mut self, settings: Option<&QueueSettings>) {
        let (paused, overridden) = settings.map_or((false, None), |s| (s.paused, s.concurrency));
        if (self.paused && !paused) || overridden != self.overridden {
            self.announce();
        }
        self.paused = paused;
        self.overridden = overridden;
    }
}

/// All lanes of this node, by name.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    by_name: HashMap<Name, usize>,
    /// Storage holds a task on its last chance that has to wait until another one here has ended.
    passed_over: bool,
}

impl Lanes {
    pub(crate) fn new(benches: impl IntoIterator<Item = (Name, usize, Arc<Bench>)>) -> Self {
        let mut lanes = Self::default();
        for (name, concurrency, bench) in benches {
            lanes.by_name.insert(name.clone(), lanes.lanes.len());
            lanes.lanes.push(Lane::new(name, concurrency, bench));
        }
        lanes
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&mut self, name: &str) -> Option<&mut Lane> {
        let index = self.index(name)?;
        self.lanes.get_mut(index)
    }

    /// The lane `name`; one without workers is made for a queue that this node only pulls from.
    pub(crate) fn get_or_make(&mut self, name: &Name) -> &mut Lane {
        let index = match self.index(name) {
            Some(index) => index,
            None => {
                self.by_name.insert(name.clone(), self.lanes.len());
                self.lanes.push(Lane::new(name.clone(), 0, Arc::default()));
                self.lanes.len() - 1
            }
        };
        &mut self.lanes[index]
    }

    pub(crate) fn at(&mut self, index: usize) -> &mut Lane {
        &mut self.lanes[index]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut()
    }

    /// Storage may hold pending tasks in any queue.
    pub(crate) fn announce_all(&mut self) {
        self.lanes.iter_mut().for_each(Lane::announce);
    }

    /// A claim passed over a task on its last chance: it came back short though there is one more.
    pub(crate) fn pass_over(&mut self) {
        self.passed_over = true;
    }

    /// Some run here has ended: what was passed over may be claimed now.
    pub(crate) fn made_room(&mut self) {
        if std::mem::take(&mut self.passed_over) {
            self.announce_all();
        }
    }

    /// Brings every lane to what storage says.
    pub(crate) fn apply(&mut self, settings: &[QueueSettings]) {
        for lane in &mut self.lanes {
            lane.apply(settings.iter().find(|s| s.queue == lane.name));
        }
    }
}
