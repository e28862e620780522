//! An evaluator that shares only the time zones of `chrono-tz` with the library. It walks through real time minute by
//! minute, or day by day where no clock is set. It reads the wall clock, and keeps Debian's rule as its cron(8) states
//! it.
//!
//! If the clock is set ahead by less than 3 hours, the fixed runs of the skipped minutes come at once. If it is set
//! back by less than 3 hours, fixed runs wait until the clock shows a time that it has not shown before. A change of 3
//! hours or more is a correction, and the new time counts as it is. Runs with `*` in minute or hour always follow the
//! clock as it is.

use std::cell::RefCell;
use std::collections::HashMap;

use callboard::{Timestamp, Trigger, Zone};
use chrono::NaiveDate;

use crate::transitions::{Transition, YEARS, naive, offset, transitions, tz};

const DAY: i64 = 86_400;

/// The minutes and the days on which a trigger must fire.
pub(crate) struct Plan {
    /// For each minute of the day, true if the trigger fires.
    minutes: Vec<bool>,
    /// The same minutes, each as a second of the day.
    seconds: Vec<i64>,
    fixed: bool,
    on: Box<dyn Fn(NaiveDate) -> bool>,
    /// Answers that `on` has given, by the day since 1970.
    known: RefCell<HashMap<i64, bool>>,
}

impl Plan {
    pub(crate) fn new(minutes: Vec<bool>, fixed: bool, on: impl Fn(NaiveDate) -> bool + 'static) -> Self {
        let seconds = (0..).zip(&minutes).filter(|(_, runs)| **runs).map(|(minute, _)| minute * 60).collect();
        Self { minutes, seconds, fixed, on: Box::new(on), known: RefCell::default() }
    }

    /// A plan that runs when all `plans` would run. It follows the clock as it is only if all of them do.
    pub(crate) fn all(plans: Vec<Self>) -> Self {
        let minutes = (0..1440).map(|minute| plans.iter().all(|plan| plan.minutes[minute])).collect();
        let fixed = plans.iter().any(|plan| plan.fixed);
        Self::new(minutes, fixed, move |date| plans.iter().all(|plan| (plan.on)(date)))
    }

    fn on(&self, day: i64) -> bool {
        *self.known.borrow_mut().entry(day).or_insert_with(|| (self.on)(naive(day * DAY).date()))
    }
}

/// The state of a plan on its walk through time.
struct Walker<'a> {
    plan: &'a Plan,
    /// The first wall minute that the clock has not shown yet. Fixed runs wait for it.
    fresh: i64,
    firings: Vec<i64>,
}

impl Walker<'_> {
    fn matches(&self, wall: i64) -> bool {
        let minute = usize::try_from(wall.rem_euclid(DAY) / 60).unwrap();
        self.plan.minutes[minute] && self.plan.on(wall.div_euclid(DAY))
    }

    /// Handles the full minute `wall`, which the clock shows at `instant`.
    fn minute(&mut self, instant: i64, wall: i64) {
        if self.plan.fixed && wall < self.fresh {
            return;
        }
        if self.matches(wall) && self.firings.last() != Some(&instant) {
            self.firings.push(instant);
        }
        self.fresh = self.fresh.max(wall + 60);
    }

    /// Handles a day on which the clock is not set. The clock shows midnight at `instant`.
    fn day(&mut self, instant: i64, wall: i64) {
        if self.plan.on(wall.div_euclid(DAY)) {
            for second in &self.plan.seconds {
                self.minute(instant + second, wall + second);
            }
        }
        self.fresh = self.fresh.max(wall + DAY);
    }

    /// Handles a moment at which the clock is set.
    fn set(&mut self, transition: &Transition) {
        let Transition { at, before, after } = *transition;
        let (from, to) = (at + before, at + after);
        if (to - from).abs() >= 3 * 3600 {
            self.fresh = to;
        } else if self.plan.fixed && to > from {
            // The full minutes that the clock would have shown next if it had not been set.
            let mut skipped = (from + 59).div_euclid(60) * 60;
            while skipped < to {
                if skipped >= self.fresh && self.matches(skipped) && self.firings.last() != Some(&at) {
                    self.firings.push(at);
                }
                skipped += 60;
            }
            self.fresh = self.fresh.max(skipped);
        }
    }
}

/// A wall clock, and the moments at which it is set.
pub(crate) struct WallClock {
    zone: Zone,
    pub(crate) sets: Vec<Transition>,
}

impl WallClock {
    pub(crate) fn new(zone: Zone) -> Self {
        // The range reaches beyond both ends of `YEARS`, because a walk may begin and end there.
        Self { zone, sets: transitions(tz(zone), YEARS.start - 8 * DAY..YEARS.end + 8 * DAY) }
    }

    /// The firings of each plan in `range`.
    fn walk(&self, plans: &[&Plan], range: &std::ops::Range<i64>) -> Vec<Vec<i64>> {
        let mut shift = offset(tz(self.zone), range.start);
        let walker = |plan| Walker { plan, fresh: range.start + shift, firings: Vec::new() };
        let mut walkers: Vec<_> = plans.iter().copied().map(walker).collect();
        // The next full minute of the wall clock.
        let aligned = |instant: i64, shift: i64| instant + (-(instant + shift)).rem_euclid(60);
        let mut now = aligned(range.start, shift);
        let mut sets = self.sets.iter().skip_while(|set| set.at <= range.start).peekable();
        while now < range.end {
            // A minute that contains the change begins before the change, so it comes first.
            if let Some(set) = sets.next_if(|set| set.at <= now) {
                walkers.iter_mut().for_each(|walker| walker.set(set));
                (now, shift) = (aligned(set.at, set.after), set.after);
                continue;
            }
            let calm = (now + shift) % DAY == 0 && sets.peek().is_none_or(|set| set.at >= now + DAY);
            if calm && now + DAY <= range.end {
                walkers.iter_mut().for_each(|walker| walker.day(now, now + shift));
                now += DAY;
            } else {
                walkers.iter_mut().for_each(|walker| walker.minute(now, now + shift));
                now += 60;
            }
        }
        walkers.into_iter().map(|walker| walker.firings).collect()
    }

    /// Compares the times of triggers with the firings of their plans. Returns the number of firings.
    pub(crate) fn compare(&self, both: &[(&Plan, Trigger)], range: std::ops::Range<i64>) -> usize {
        let plans: Vec<_> = both.iter().map(|(plan, _)| *plan).collect();
        let expected = self.walk(&plans, &range);
        for ((_, trigger), expected) in both.iter().zip(&expected) {
            self.hold(trigger, expected, &range);
        }
        expected.iter().map(Vec::len).sum()
    }

    fn hold(&self, trigger: &Trigger, expected: &[i64], range: &std::ops::Range<i64>) {
        let (line, zone) = (trigger.to_text().expr, self.zone);
        let mut now = Timestamp::from_micros(range.start * 1_000_000 - 1);
        let mut found = Vec::with_capacity(expected.len());
        while let Some(next) = trigger.next_after(now).filter(|next| next.as_micros() < range.end * 1_000_000) {
            assert!(next > now, "{line} in {zone}: {next} is not after {now}");
            found.push(next.as_micros() / 1_000_000);
            now = next;
        }
        if found != expected {
            let differs = found.iter().zip(expected).position(|(one, other)| one != other);
            let at = differs.unwrap_or(found.len().min(expected.len()));
            let show = |times: &[i64]| {
                times.iter().skip(at.saturating_sub(1)).take(4).map(|time| naive(*time)).collect::<Vec<_>>()
            };
            panic!("{line} in {zone}: found {:?}, expected {:?}", show(&found), show(expected));
        }
    }
}
