//! Backlogs with more times than are examined individually.

use std::ops::RangeInclusive;

use super::*;

/// Backlogs up to this size are counted in full: the first time, 1,000 visited and passed times, and the last 1,000.
const COUNTED: u64 = 2_001;

/// The result of a backlog, after as many turns as it takes. Times are numbered from 1 on and are ten minutes apart.
#[derive(Debug, Default)]
struct Outcome {
    runs: Vec<i64>,
    /// The last time of each row, and the number of times that the row stands for.
    passed: Vec<(i64, u64)>,
    cursor: i64,
}

impl Outcome {
    fn of(mut case: Case) -> Self {
        let number = |time: Timestamp| time.as_micros() / 600_000_000;
        let mut outcome = Self::default();
        loop {
            let decision = case.decision().unwrap();
            outcome.runs.extend(decision.runs.iter().map(|go| number(go.nominal_at)));
            outcome.passed.extend(decision.passed.iter().map(|passed| (number(passed.nominal_at), passed.times)));
            outcome.cursor = number(decision.cursor);
            let next = decision.next_run_at.unwrap();
            if next > minute(case.now) {
                assert_eq!(number(next), outcome.cursor + 1);
                return outcome;
            }
            assert_eq!(decision.runs.len(), 100, "only a full turn leaves something to the next");
            case.cursor = 10 * outcome.cursor;
        }
    }

    fn check(&self, due: i64, runs: RangeInclusive<i64>, what: &str) {
        assert_eq!(self.runs, runs.clone().collect::<Vec<_>>(), "{what}");
        assert_eq!(self.cursor, due, "{what}");
        let mut rows: Vec<_> = self.passed.iter().map(|(time, _)| *time).collect();
        rows.sort_unstable();
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "{what}: none is told of twice");
        assert!(rows.iter().all(|time| (1..=due).contains(time) && !runs.contains(time)), "{what}");
        let all = u64::try_from(due).unwrap();
        let told = self.passed.iter().map(|(_, times)| times).sum::<u64>() + runs.count() as u64;
        assert_eq!(told, all.min(COUNTED), "{what}: each is told of, or as many as are counted");
    }
}

fn long(due: i64, coalesce: Coalesce) -> Case {
    with(10 * due, |p| (p.coalesce, p.overlap) = (coalesce, Overlap::Allow))
}

#[test]
fn the_policy_chooses_the_same_however_long_the_backlog() {
    for due in [999, 1_000, 1_001, 1_002, 1_005, 1_020, 1_500, 1_999, 2_000, 2_001, 3_000] {
        let last = |most: i64| (due - most).max(0) + 1..=due;
        let table = [
            (Coalesce::Latest, last(1)),
            (Coalesce::Earliest, 1..=1),
            (Coalesce::All(1), last(1)),
            (Coalesce::All(50), last(50)),
            (Coalesce::All(100), last(100)),
            (Coalesce::All(999), last(999)),
            (Coalesce::All(1_000), last(1_000)),
            // Only the last of these times is on time.
            (Coalesce::None, last(1)),
        ];
        for (coalesce, runs) in table {
            Outcome::of(long(due, coalesce)).check(due, runs, &format!("{due} are due, and it runs {coalesce}"));
        }
    }
}

#[test]
fn nor_does_it_choose_what_has_fired() {
    let fired = |times: RangeInclusive<i64>| times.map(|time| 10 * time).collect::<Vec<_>>();
    let table = [
        (Coalesce::Earliest, fired(1..=1), 2..=2),
        (Coalesce::Earliest, fired(1..=1_200), 1_201..=1_201),
        (Coalesce::Latest, fired(1_500..=1_500), 1_499..=1_499),
        (Coalesce::Latest, fired(2..=1_500), 1..=1),
        (Coalesce::All(50), fired(501..=1_500), 451..=500),
        (Coalesce::All(1_000), fired(1_491..=1_500), 491..=1_490),
        (Coalesce::All(1_000), fired(1..=450), 501..=1_500),
    ];
    for (coalesce, fired, runs) in table {
        let outcome = Outcome::of(long(1_500, coalesce).fired(&fired));
        assert_eq!(outcome.runs, runs.clone().collect::<Vec<_>>(), "{coalesce}");
        assert_eq!(outcome.cursor, 1_500, "{coalesce}");
        let told = outcome.passed.iter().map(|(_, times)| *times).sum::<u64>();
        assert_eq!(told, 1_500 - (fired.len() + runs.count()) as u64, "{coalesce}");
    }
}

#[test]
fn what_the_grace_refuses_is_missed_and_the_rest_is_the_backlog() {
    // Time 3,000 is on time, and time 1,500 is as late as the grace allows.
    for (coalesce, runs) in [
        (Coalesce::Latest, 3_000..=3_000),
        (Coalesce::Earliest, 1_500..=1_500),
        (Coalesce::All(50), 2_951..=3_000),
        (Coalesce::All(1_000), 2_001..=3_000),
    ] {
        let mut case = long(3_000, coalesce);
        case.policy.misfire_grace = grace(15_000);
        let first = case.decision().unwrap();
        let of = |status| first.passed.iter().filter(move |passed| passed.status == status);
        assert_eq!(of(FiringStatus::Missed).map(|passed| passed.times).sum::<u64>(), 1_499, "{coalesce}");
        assert!(of(FiringStatus::Missed).all(|passed| passed.nominal_at < minute(15_000)), "{coalesce}");
        assert!(of(FiringStatus::Coalesced).all(|passed| passed.nominal_at >= minute(15_000)), "{coalesce}");
        let outcome = Outcome::of(case);
        assert_eq!(outcome.runs, runs.collect::<Vec<_>>(), "{coalesce}");
        assert_eq!(outcome.passed.iter().map(|(_, times)| times).sum::<u64>() + outcome.runs.len() as u64, 3_000);
    }
}

#[test]
fn the_grace_counts_from_the_jitter_on() {
    // This includes a jitter far longer than the time to the next firing.
    for jitter in [300, 86_400] {
        let trigger = Trigger::every(Duration::from_secs(600)).unwrap().jitter(Duration::from_secs(jitter)).unwrap();
        let times = trigger.preview(minute(0), 3_000);
        for now in (29_900..29_910).chain(7..25) {
            let case = |coalesce| {
                with(now, |p| (p.coalesce, p.overlap, p.misfire_grace) = (coalesce, Overlap::Allow, grace(13)))
            };
            let late = |time: &Timestamp| minute(now).since(trigger.runs_at("s", *time));
            let come: Vec<_> = times.iter().filter(|time| trigger.runs_at("s", **time) <= minute(now)).collect();
            let right: Vec<_> = come.iter().filter(|time| late(time) <= 13 * Duration::from_secs(60)).collect();
            for (coalesce, wanted) in [(Coalesce::Earliest, right.first()), (Coalesce::Latest, right.last())] {
                let decision = case(coalesce).decision_with(&trigger);
                let run = decision.as_ref().and_then(|decision| decision.runs.first());
                assert_eq!(run.map(|go| go.nominal_at), wanted.map(|time| ***time), "minute {now}, {coalesce}");
                let cursor = decision.map_or(minute(0), |decision| decision.cursor);
                assert_eq!(Some(&cursor), come.last().copied().or(Some(&minute(0))), "minute {now}, {coalesce}");
            }
        }
    }
}
