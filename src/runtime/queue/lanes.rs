//! Lanes: how many tasks of each queue may run on this node. Pure: no actix, no storage, no clock.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::batch::ClaimFor;
use super::demand::Demand;
use super::epoch::Epoch;
use super::pullers::Pullers;
use super::ready::ReadyQueue;
use crate::backend::QueueSettings;
use crate::name::Name;
use crate::runtime::core::stale::FEW;

/// The most tasks that a single claim asks for, so that a lane with a huge concurrency keeps commits short.
const MOST_PER_CLAIM: usize = 2_000;

/// A queue as this node runs it.
pub(crate) struct Lane {
    pub(crate) name: Name,
    /// `None` where this node has no workers for the queue and only pulls from it. No stored setting gives such a lane
    /// workers.
    configured: Option<usize>,
    overridden: Option<usize>,
    pub(crate) paused: bool,
    /// Tasks that are claimed for workers and not settled, or that a commit in flight asks for.
    pub(crate) outstanding: usize,
    /// For workers: pending tasks of known types.
    pub(crate) work: Demand,
    /// For pullers: pending tasks of any type.
    pub(crate) pull: Demand,
    pub(crate) pullers: Pullers,
    /// A limit of running tasks held back some tasks of this lane. The end of a task under such a limit may make room.
    held: bool,
    /// The number of pullers for which a commit in flight asks for a task.
    pub(crate) popping: usize,
    pub(crate) ready: Arc<ReadyQueue>,
    /// Callers that wait until nothing of this lane runs here. They ask again then.
    pub(crate) idle_watchers: Vec<oneshot::Sender<()>>,
}

impl Lane {
    fn new(name: Name, configured: Option<usize>, ready: Arc<ReadyQueue>) -> Self {
        let mut lane = Self {
            name,
            configured,
            overridden: None,
            paused: false,
            outstanding: 0,
            work: Demand::default(),
            pull: Demand::default(),
            pullers: Pullers::default(),
            held: false,
            popping: 0,
            ready,
            idle_watchers: Vec::new(),
        };
        // It is not known yet which tasks storage holds.
        lane.announce();
        lane
    }

    /// How many tasks may run at a time.
    pub(crate) fn concurrency(&self) -> usize {
        self.configured.map_or(0, |configured| self.overridden.unwrap_or(configured))
    }

    /// How many more tasks may be claimed for workers now.
    pub(crate) fn room(&self) -> usize {
        if self.paused { 0 } else { self.concurrency().saturating_sub(self.outstanding).min(MOST_PER_CLAIM) }
    }

    /// True when this node has no workers for the lane and no caller pulls from it any more.
    fn is_unused(&mut self) -> bool {
        let may_go = self.configured.is_none()
            && self.popping == 0
            && self.outstanding == 0
            && !self.held
            && self.idle_watchers.is_empty();
        if may_go {
            self.pullers.forget_gone();
        }
        may_go && self.pullers.is_empty()
    }

    /// The number of pullers for which storage has not been asked yet. Closed pullers are dropped.
    pub(crate) fn unserved_pullers(&mut self) -> usize {
        if self.paused {
            return 0;
        }
        self.pullers.forget_gone();
        self.pullers.len().saturating_sub(self.popping)
    }

    /// Storage has nothing to pull: turns away the pullers that do not want to wait, by dropping their senders.
    pub(crate) fn turn_away_hasty(&mut self) {
        if self.popping == 0 {
            self.pullers.turn_away_hasty();
        }
    }

    /// Records that storage may hold pending tasks.
    pub(crate) fn announce(&mut self) {
        self.work.announce();
        self.pull.announce();
    }

    /// Gives room back for `tasks` tasks: a worker's claim ended, or a claim was not filled.
    pub(crate) fn give_room(&mut self, tasks: usize) {
        self.outstanding = self.outstanding.saturating_sub(tasks);
    }

    /// If nothing of this lane runs any more, drops the senders of the idle watchers, so that they ask again.
    pub(crate) fn tell_idle(&mut self, is_busy: impl Fn(&Self) -> bool) {
        if !self.idle_watchers.is_empty() && !is_busy(self) {
            self.idle_watchers.clear();
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
    /// Places of forgotten lanes, for the lanes that are made next. The other lanes keep their places, because commits
    /// in flight name lanes by place.
    free: Vec<usize>,
    /// The number of lanes that the last scan for unused lanes has left.
    left: usize,
    /// A queue actor that died has sent commits that name lanes by place. No lane may be removed before these commits
    /// are over.
    inherited: bool,
    /// Commits in flight, including returned commits that the queue actor has not processed yet.
    pub(crate) in_flight: usize,
    /// The epoch of the next commit.
    pub(crate) epoch: Arc<Epoch>,
    /// Callers that wait until all that was handed in is stored, and not for a particular lane.
    pub(crate) quiet_watchers: Vec<oneshot::Sender<()>>,
    /// The stored settings of queues, for lanes that are made later.
    settings: Vec<QueueSettings>,
    /// Storage holds a task on its last chance that has to wait until a different task on this node has ended.
    passed_over: bool,
    /// Some claims may have to be sent alone.
    some_alone: bool,
    /// Ends of runs on this node that storage has taken.
    ends: u64,
    /// The ends counted in `ends` that were under a limit of running tasks.
    limited_ends: u64,
}

impl Lanes {
    pub(crate) fn new(
        ready_queues: impl IntoIterator<Item = (Name, usize, Arc<ReadyQueue>)>,
        settings: Vec<QueueSettings>,
    ) -> Self {
        let mut lanes = Self { settings, ..Self::default() };
        for (name, concurrency, ready) in ready_queues {
            lanes.add(Lane::new(name, Some(concurrency), ready));
        }
        lanes
    }

    fn add(&mut self, mut lane: Lane) -> usize {
        lane.apply(self.settings.iter().find(|s| s.queue == lane.name));
        let place = self.free.pop().unwrap_or(self.lanes.len());
        self.by_name.insert(lane.name.clone(), place);
        match self.lanes.get_mut(place) {
            Some(free) => *free = lane,
            None => self.lanes.push(lane),
        }
        place
    }

    /// Gives each lane the place that it has in `old`. The first lanes of `old` are the lanes of `self`.
    pub(crate) fn take_places_of(&mut self, old: &Self) {
        for (place, lane) in old.lanes.iter().enumerate().skip(self.lanes.len()) {
            let lane = Lane::new(lane.name.clone(), None, Arc::default());
            if old.free.contains(&place) {
                self.lanes.push(lane);
            } else {
                self.add(lane);
            }
        }
        self.free.clone_from(&old.free);
        self.inherited = true;
    }

    /// Forgets lanes that were made for pullers, when no caller pulls from them any more and no commit names them.
    pub(crate) fn forget_unused(&mut self) {
        if self.inherited && self.in_flight > 0 {
            return;
        }
        self.inherited = false;
        for place in 0..self.lanes.len() {
            let lane = &mut self.lanes[place];
            if self.by_name.get(&lane.name) == Some(&place) && lane.is_unused() {
                self.by_name.remove(&lane.name);
                self.free.push(place);
            }
        }
        // Remove free places at the end, because each commit would have to look at them.
        self.free.sort_unstable();
        while self.free.last().is_some_and(|place| *place + 1 == self.lanes.len()) {
            self.free.pop();
            self.lanes.pop();
        }
        self.left = self.made();
    }

    /// The number of lanes in use.
    fn made(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&mut self, name: &str) -> Option<&mut Lane> {
        let index = self.index(name)?;
        self.lanes.get_mut(index)
    }

    /// The lane `name`. If it is missing, a lane without workers is made, because this node only pulls from the queue.
    pub(crate) fn get_or_make(&mut self, name: &Name) -> &mut Lane {
        let index = match self.index(name) {
            Some(index) => index,
            None => {
                // A scan runs only after the number of lanes has doubled. So each new lane pays for at most two visits,
                // however many lanes there are.
                if self.made() >= FEW.max(self.left * 2) {
                    self.forget_unused();
                }
                self.add(Lane::new(name.clone(), None, Arc::default()))
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

    /// True when there is something to ask storage for, or callers wait until a lane is idle or all is stored.
    pub(crate) fn want_more(&self) -> bool {
        let wants = |lane: &Lane| {
            (lane.work.is_set() && lane.room() > 0)
                || (lane.pull.is_set() && !lane.pullers.is_empty())
                || !lane.idle_watchers.is_empty()
        };
        !self.quiet_watchers.is_empty() || self.lanes.iter().any(wants)
    }

    /// Storage refused a commit with these claims in it. Each of the claims is sent by itself until it comes back. So
    /// the claim that storage cannot take is found, and nothing else is refused with it.
    pub(crate) fn ask_alone(&mut self, claims: &[ClaimFor]) {
        for claim in claims {
            match *claim {
                ClaimFor::Workers { lane, .. } => self.lanes[lane].work.ask_alone(),
                ClaimFor::Pullers { lane, .. } => self.lanes[lane].pull.ask_alone(),
            }
            self.some_alone = true;
        }
    }

    /// True when some claims may have to be sent alone.
    pub(crate) fn some_alone(&self) -> bool {
        self.some_alone
    }

    /// Looks whether any claims that must be sent alone are left.
    pub(crate) fn recount_alone(&mut self) {
        self.some_alone = self.lanes.iter().any(|lane| lane.work.is_alone() || lane.pull.is_alone());
    }

    /// Records that storage may hold pending tasks in any queue.
    pub(crate) fn announce_all(&mut self) {
        self.lanes.iter_mut().for_each(Lane::announce);
    }

    /// The number of runs that have ended on this node; see [`pass_over`](Self::pass_over).
    pub(crate) fn ends(&self) -> u64 {
        self.ends
    }

    /// The number of these runs that were under a limit of running tasks; see [`hold_back`](Self::hold_back).
    pub(crate) fn limited_ends(&self) -> u64 {
        self.limited_ends
    }

    /// Records that a limit of running tasks made a claim for the lane at `index` come back short. The claim was
    /// composed when `limited_ends` runs under such limits had ended. If a run has ended since, it may have made room,
    /// so the lane asks again.
    pub(crate) fn hold_back(&mut self, index: usize, limited_ends: u64) {
        let lane = &mut self.lanes[index];
        if limited_ends == self.limited_ends {
            lane.held = true;
        } else {
            lane.announce();
        }
    }

    /// Records that a run under a limit of running tasks has ended: tasks that the limit held back may be claimed now.
    /// Returns the queues that waited for it.
    pub(crate) fn made_room_under_limit(&mut self) -> Vec<Name> {
        self.limited_ends += 1;
        let mut freed = Vec::new();
        for lane in &mut self.lanes {
            if std::mem::take(&mut lane.held) {
                lane.announce();
                freed.push(lane.name.clone());
            }
        }
        freed
    }

    /// Records that a claim passed over a task on its last chance: it came back short although that task is there. The
    /// claim was composed when `ends` runs had ended. If a run has ended since, it may be the run that was in the way,
    /// so all lanes ask again.
    pub(crate) fn pass_over(&mut self, ends: u64) {
        if ends == self.ends {
            self.passed_over = true;
        } else {
            self.announce_all();
        }
    }

    /// Records that a run on this node has ended: a task that was passed over may be claimed now.
    pub(crate) fn made_room(&mut self) {
        self.ends += 1;
        if std::mem::take(&mut self.passed_over) {
            self.announce_all();
        }
    }

    /// Applies the stored settings to every lane.
    pub(crate) fn apply(&mut self, settings: Vec<QueueSettings>) {
        for lane in &mut self.lanes {
            lane.apply(settings.iter().find(|s| s.queue == lane.name));
        }
        self.settings = settings;
        self.forget_unused();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        let mut lanes = Lanes::new([(Name::from("q"), 1, Arc::default())], Vec::new());
        let lane = lanes.at(0);
        lane.work.came_back_short(lane.work.mark());
        lanes
    }

    #[test]
    fn a_lane_without_workers_claims_nothing_for_workers_whatever_its_settings_say() {
        let settings = |queue| QueueSettings { queue: Name::from(queue), paused: false, concurrency: Some(8) };
        let mut lanes = Lanes::new([(Name::from("q"), 1, Arc::default())], vec![settings("q"), settings("pulled")]);
        assert_eq!((lanes.at(0).room(), lanes.get_or_make(&Name::from("pulled")).room()), (8, 0));
        lanes.apply(vec![settings("pulled")]);
        assert_eq!((lanes.at(0).room(), lanes.get_or_make(&Name::from("pulled")).room()), (1, 0));
    }

    #[test]
    fn a_lane_that_is_made_late_is_paused_as_its_settings_say() {
        let settings = QueueSettings { queue: Name::from("late"), paused: true, concurrency: None };
        let mut lanes = Lanes::new([], vec![settings]);
        assert!(lanes.get_or_make(&Name::from("late")).paused);
    }

    fn puller(lane: &mut Lane) -> impl Sized + use<> {
        let (answer, delivery) = oneshot::channel();
        lane.pullers.add(crate::runtime::queue::inbox::Puller { answer, once: false });
        delivery
    }

    #[test]
    fn a_lane_that_nobody_pulls_from_any_more_is_forgotten() {
        let mut lanes = lanes();
        for number in 0..20_000 {
            drop(puller(lanes.get_or_make(&format!("q{number}").into())));
        }
        assert!(lanes.iter().count() <= FEW + 1, "{}", lanes.iter().count());
        lanes.apply(Vec::new());
        assert_eq!(lanes.iter().count(), 1, "the one that has workers");
    }

    #[test]
    fn a_lane_keeps_its_place_while_a_commit_or_somebody_who_pulls_needs_it() {
        let mut lanes = lanes();
        let names: Vec<Name> = (0..6).map(|number| format!("q{number}").into()).collect();
        let waits = puller(lanes.get_or_make(&names[2]));
        for name in &names {
            lanes.get_or_make(name);
        }
        lanes.get_or_make(&names[4]).popping = 1;
        let places = [lanes.index("q2").unwrap(), lanes.index("q4").unwrap()];
        lanes.forget_unused();
        assert_eq!([lanes.index("q2").unwrap(), lanes.index("q4").unwrap()], places);
        assert!([0, 1, 3, 5].iter().all(|number| lanes.index(&names[*number]).is_none()));
        // The successor finds the same places, and gives the free places away.
        let mut next = Lanes::new([(Name::from("q"), 1, Arc::default())], Vec::new());
        next.take_places_of(&lanes);
        assert_eq!([next.index("q2").unwrap(), next.index("q4").unwrap()], places);
        let count = next.iter().count();
        next.get_or_make(&Name::from("new"));
        assert_eq!(next.iter().count(), count);
        drop(waits);
    }

    #[test]
    fn what_was_passed_over_is_asked_for_when_a_run_has_ended() {
        let mut lanes = lanes();
        lanes.pass_over(lanes.ends());
        assert!(!lanes.at(0).work.is_set(), "the one that is in the way still runs");
        lanes.made_room();
        assert!(lanes.at(0).work.is_set());
    }

    #[test]
    fn what_was_passed_over_is_asked_for_at_once_when_a_run_ended_beside_the_claim() {
        let mut lanes = lanes();
        let composed = lanes.ends();
        lanes.made_room();
        assert!(!lanes.at(0).work.is_set());
        lanes.pass_over(composed);
        assert!(lanes.at(0).work.is_set());
    }
}
