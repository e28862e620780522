//! An evaluator that shares nothing with the library but the time zones of `chrono-tz`: it walks through real time
//! minute by minute (day by day where no clock is set), looks at the wall clock, and keeps Debian's rule as its cron(8) tells it.
//!
//! The clock is set ahead by less than 3 hours: fixed runs of the minutes in between come at once. Set back by less
//! than 3 hours: fixed runs wait until the clock shows what it has not shown before. By more: the clock was
//! corrected, and counts as it is. Runs with `*` in minute or hour always go by the clock as it is.

use std::cell::RefCell;
use std::collections::HashMap;

use callboard::{Timestamp, Trigger, Zone};
use chrono::NaiveDate;

use crate::transitions::{Transition, YEARS, naive, offset, transitions, tz};

const DAY: i64 = 86_400;

/// At which minutes of which days something is to run.
pub(crate) struct Plan {
    /// By minute of the day.
    minutes: Vec<bool>,
    /// The same as seconds of the day.
    seconds: Vec<i64>,
    fixed: bool,
    on: Box<dyn Fn(NaiveDate) -> bool>,
    /// Answers that `on` has given, by day since 1970.
    known: RefCell<HashMap<i64, bool>>,
}

impl Plan {
    pub(crate) fn new(minutes: Vec<bool>, fixed: bool, on: impl Fn(NaiveDate) -> bool + 'static) -> Self {
        let seconds = (0..).zip(&minutes).filter(|(_, runs)| **runs).map(|(minute, _)| minute * 60).collect();
        Self { minutes, seconds, fixed, on: Box::new(on), known: RefCell::default() }
    }

    /// When all of them would run; it goes by the clock as it is when all of them do.
    pub(crate) fn all(plans: Vec<Self>) -> Self {
        let minutes = (0..1440).map(|minute| plans.iter().all(|plan| plan.minutes[minute])).collect();
        let fixed = plans.iter().any(|plan| plan.fixed);
        Self::new(minutes, fixed, move |date| plans.iter().all(|plan| (plan.on)(date)))
    }

    fn on(&self, day: i64) -> bool {
        *self.known.borrow_mut().entry(day).or_insert_with(|| (self.on)(naive(day * DAY).date()))
    }
}

/// One plan on its way through time.
struct Walker<'a> {
    plan: &'a Plan,
    /// The first wall minute that was not shown yet; fixed runs wait for it.
    fresh: i64,
    firings: Vec<i64>,
}

impl Walker<'_> {
    fn matches(&self, wall: i64) -> bool {
        let minute = usize::try_from(wall.rem_euclid(DAY) / 60).unwrap();
        self.plan.minutes[minute] && self.plan.on(wall.div_euclid(DAY))
    }

    /// The clock shows the full minute `wall` at `instant`.
    fn minute(&mut self, instant: i64, wall: i64) {
        if self.plan.fixed && wall < self.fresh {
            return;
        }
        if self.matches(wall) && self.firings.last() != Some(&instant) {
            self.firings.push(instant);
        }
        self.fresh = self.fresh.max(wall + 60);
    }

    /// The clock shows midnight at `instant`, and is not set on this day.
    fn day(&mut self, instant: i64, wall: i64) {
        if self.plan.on(wall.div_euclid(DAY)) {
            for second in &self.plan.seconds {
                self.minute(instant + second, wall + second);
            }
        }
        self.fresh = self.fresh.max(wall + DAY);
    }

    /// The clock is set.
    fn set(&mut self, transition: &Transition) {
        let Transition { at, before, after } = *transition;
        let (from, to) = (at + before, at + after);
        if (to - from).abs() >= 3 * 3600 {
            self.fresh = to;
        } else if self.plan.fixed && to > from {
            // Full minutes that the clock would have shown next, had it not been set.
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
        // Beyond the ends: a walk may begin and end there.
        Self { zone, sets: transitions(tz(zone), YEARS.start - 8 * DAY..YEARS.end + 8 * DAY) }
    }

    /// What all plans do in `range`.
    fn walk(&self, plans: &[&Plan], range: &std::ops::Range<i64>) -> Vec<Vec<i64>> {
        let mut shift = offset(tz(self.zone), range.start);
        let walker = |plan| Walker { plan, fresh: range.start + shift, firings: Vec::new() };
        let mut walkers: Vec<_> = plans.iter().copied().map(walker).collect();
        // The next full minute of the wall clock.
        let aligned = |instant: i64, shift: i64| instant + (-(instant + shift)).rem_euclid(60);
        let mut now = aligned(range.start, shift);
        let mut sets = self.sets.iter().skip_while(|set| set.at <= range.start).peekable();
        while now < range.end {
            // A minute that the change falls into is begun before it.
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

    /// Holds what triggers say against what their plans do, and tells how many times that were.
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
