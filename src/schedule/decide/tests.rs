mod long;

use super::*;
use crate::clock::Clock;
use crate::schedule::trigger::Zone;
use crate::schedule::{Overlap, Policy, Schedule};
use crate::task::{NewTask, TaskState};

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_micros(minute * 60_000_000)
}

/// Moments are given in minutes since 1970. The trigger fires every ten minutes.
struct Case {
    policy: Policy,
    cursor: i64,
    now: i64,
    live: Vec<TaskState>,
    cause: FiringCause,
    failures: u32,
    run_count: u64,
    fired: Vec<i64>,
    change: fn(&mut ScheduleRecord),
}

fn case(now: i64) -> Case {
    let (policy, live) = (Policy { keep_firings: 10_000, ..Policy::default() }, Vec::new());
    let cause = FiringCause::Schedule;
    Case { policy, cursor: 0, now, live, cause, failures: 0, run_count: 0, fired: Vec::new(), change: |_| {} }
}

fn with(now: i64, change: impl FnOnce(&mut Policy)) -> Case {
    let mut case = case(now);
    change(&mut case.policy);
    case
}

fn id(number: usize) -> TaskId {
    uuid::Uuid::from_u128(number as u128 + 1).into()
}

/// The live tasks: each waiting task follows the task before it.
fn live(states: &[TaskState], cause: FiringCause) -> Vec<Instance> {
    let follows = |place: usize| (states[place] == TaskState::Waiting).then(|| id(place - 1));
    (0..states.len())
        .map(|place| Instance { task_id: id(place), state: states[place], follows: follows(place), cause })
        .collect()
}

impl Case {
    fn live(mut self, states: &[TaskState]) -> Self {
        self.live = states.to_vec();
        self
    }

    /// Sets the cause of the live tasks, so that the clock is not the cause.
    fn asked_by(mut self, cause: FiringCause) -> Self {
        self.cause = cause;
        self
    }

    /// Marks these times as having made their tasks already.
    fn fired(mut self, minutes: &[i64]) -> Self {
        self.fired = minutes.to_vec();
        self
    }

    fn change(mut self, change: fn(&mut ScheduleRecord)) -> Self {
        self.change = change;
        self
    }

    fn decision(&self) -> Option<Decision> {
        self.decision_with(&Trigger::every(Duration::from_secs(600)).unwrap())
    }

    fn decision_with(&self, trigger: &Trigger) -> Option<Decision> {
        let schedule = Schedule::new("s", trigger.clone(), NewTask::new("work", &())).policy(self.policy.clone());
        let definition =
            schedule.check(&Clock::manual(minute(0)), crate::task::Bounds::all(1_000), Zone::UTC).unwrap();
        let mut record = definition.record(minute(self.cursor));
        record.run_count = self.run_count;
        (self.change)(&mut record);
        let live = live(&self.live, self.cause);
        let fired: Vec<_> = self.fired.iter().copied().map(minute).collect();
        Situation {
            record: &record,
            trigger,
            now: minute(self.now),
            live: &live,
            fired: &fired,
            failures: self.failures,
        }
        .decide()
    }

    /// The runs and the passed times, in minutes: `run 10 20<1 | missed 30 | cancel 1 | -> 40`.
    fn told(&self) -> String {
        let Some(decision) = self.decision() else { return "nothing".into() };
        let at = |time: Timestamp| time.as_micros() / 60_000_000;
        let task = |task: TaskId| task.as_uuid().as_u128();
        let mut told = Vec::new();
        if !decision.runs.is_empty() {
            let run = |go: &Go| match go.follows {
                Follows::Nothing => format!(" {}", at(go.nominal_at)),
                Follows::Stored(stored) => format!(" {}<{}", at(go.nominal_at), task(stored)),
                Follows::Run(place) => format!(" {}<run{place}", at(go.nominal_at)),
            };
            told.push(format!("run{}", decision.runs.iter().map(run).collect::<String>()));
        }
        for status in [FiringStatus::Missed, FiringStatus::Coalesced, FiringStatus::Skipped] {
            let passed = decision.passed.iter().filter(|passed| passed.status == status);
            let passed: String = passed.map(|passed| format!(" {}", at(passed.nominal_at))).collect();
            if !passed.is_empty() {
                told.push(format!("{status}{passed}"));
            }
        }
        if !decision.cancel.is_empty() {
            let cancel: String = decision.cancel.iter().map(|gone| format!(" {}", task(*gone))).collect();
            told.push(format!("cancel{cancel}"));
        }
        told.push(match (decision.status, decision.next_run_at) {
            (ScheduleStatus::Active, Some(next)) => format!("-> {}", at(next)),
            (status, _) => status.to_string(),
        });
        told.join(" | ")
    }
}

fn grace(minutes: u64) -> Option<Duration> {
    Some(Duration::from_secs(60 * minutes))
}

#[test]
fn misfires_and_backlogs() {
    let table: Vec<(&str, Case)> = vec![
        ("nothing", case(9)),
        ("run 10 | -> 20", case(10)),
        ("run 10 | -> 20", case(19)),
        ("run 30 | coalesced 10 20 | -> 40", case(35)),
        ("run 10 | coalesced 20 30 | -> 40", with(35, |p| p.coalesce = Coalesce::Earliest)),
        ("run 30 | coalesced 10 20 | -> 40", with(35, |p| p.coalesce = Coalesce::All(1))),
        ("run 10 20 30 | -> 40", with(35, |p| (p.coalesce, p.overlap) = (Coalesce::All(3), Overlap::Allow))),
        (
            "run 20 30 | coalesced 10 | -> 40",
            with(35, |p| (p.coalesce, p.overlap) = (Coalesce::All(2), Overlap::Allow)),
        ),
        ("coalesced 10 20 30 | -> 40", with(35, |p| p.coalesce = Coalesce::None)),
        ("run 30 | coalesced 10 20 | -> 40", with(30, |p| p.coalesce = Coalesce::None)),
        ("run 10 | -> 20", with(15, |p| p.misfire_grace = grace(5))),
        ("missed 10 | -> 20", with(16, |p| p.misfire_grace = grace(5))),
        ("run 30 | missed 10 20 | -> 40", with(35, |p| p.misfire_grace = grace(5))),
        ("missed 10 20 30 | -> 40", with(36, |p| p.misfire_grace = grace(5))),
        (
            "run 20 | missed 10 | coalesced 30 | -> 40",
            with(35, |p| (p.misfire_grace, p.coalesce) = (grace(15), Coalesce::Earliest)),
        ),
        ("nothing", Case { cursor: 100, ..case(50) }),
    ];
    for (told, case) in table {
        assert_eq!(case.told(), told, "now {} with {:?}", case.now, case.policy);
    }
}

#[test]
fn overlaps() {
    use TaskState::{Pending, Retrying, Running, Waiting};
    let of = |overlap| with(10, |p: &mut Policy| p.overlap = overlap);
    let two = |overlap| with(10, |p: &mut Policy| (p.overlap, p.max_instances) = (overlap, 2));
    let all = |overlap| with(30, |p: &mut Policy| (p.overlap, p.coalesce) = (overlap, Coalesce::All(3)));
    let two_of_three = |overlap| {
        with(30, |p: &mut Policy| (p.overlap, p.coalesce, p.max_instances) = (overlap, Coalesce::All(3), 2))
    };
    let table: Vec<(&str, Case)> = vec![
        ("skipped 10 | -> 20", of(Overlap::Skip).live(&[Running])),
        ("skipped 10 | -> 20", of(Overlap::Skip).live(&[Retrying])),
        ("skipped 10 | -> 20", of(Overlap::Skip).live(&[Pending])),
        ("run 10 | -> 20", two(Overlap::Skip).live(&[Running])),
        ("skipped 10 | -> 20", two(Overlap::Skip).live(&[Running, Running])),
        ("run 10<1 | -> 20", of(Overlap::BufferOne).live(&[Running])),
        ("skipped 10 | -> 20", of(Overlap::BufferOne).live(&[Running, Waiting])),
        ("run 10<2 | -> 20", of(Overlap::BufferAll).live(&[Running, Waiting])),
        ("run 10<1 | -> 20", two(Overlap::BufferAll).live(&[Running, Running])),
        ("run 10<1 | cancel 1 | -> 20", of(Overlap::CancelOther).live(&[Running])),
        ("run 10 | cancel 1 | -> 20", of(Overlap::CancelOther).live(&[Pending])),
        ("run 10<1 | cancel 1 2 | -> 20", of(Overlap::CancelOther).live(&[Running, Waiting])),
        ("run 10<1 | cancel 1 | -> 20", two(Overlap::CancelOther).live(&[Running, Running])),
        // A place is free while there are fewer chains than places, no matter how many tasks wait in a chain.
        ("run 10 | -> 20", two(Overlap::BufferOne).live(&[Running, Waiting])),
        ("run 10 | -> 20", two(Overlap::BufferAll).live(&[Running, Waiting, Waiting])),
        ("run 10<1 | -> 20", two(Overlap::BufferAll).live(&[Running, Running, Waiting])),
        // Each run waits for a task whose place it takes. If it takes several places, it waits for the youngest task.
        (
            "run 20<1 30<2 | skipped 10 | cancel 1 2 | -> 40",
            two_of_three(Overlap::CancelOther).live(&[Running, Running]),
        ),
        ("run 20<2 30<3 | skipped 10 | cancel 1 2 3 | -> 40", two_of_three(Overlap::CancelOther).live(&[Running; 3])),
        ("run 10<3 | cancel 1 2 3 | -> 20", of(Overlap::CancelOther).live(&[Running; 3])),
        (
            "run 20<1 30 | skipped 10 | cancel 1 2 | -> 40",
            two_of_three(Overlap::CancelOther).live(&[Running, Pending]),
        ),
        ("run 10 | -> 20", of(Overlap::Allow).live(&[Running, Running, Running])),
        ("run 10 | skipped 20 30 | -> 40", all(Overlap::Skip)),
        ("run 10 20<run0 | skipped 30 | -> 40", all(Overlap::BufferOne)),
        ("run 10 20<run0 30<run1 | -> 40", all(Overlap::BufferAll)),
        ("run 10<2 20<run0 30<run1 | -> 40", all(Overlap::BufferAll).live(&[Running, Waiting])),
        ("run 30 | skipped 10 20 | -> 40", all(Overlap::CancelOther)),
        ("run 30<1 | skipped 10 20 | cancel 1 | -> 40", all(Overlap::CancelOther).live(&[Running])),
        ("run 10 20 30 | -> 40", all(Overlap::Allow).live(&[Running])),
    ];
    for (told, case) in table {
        assert_eq!(case.told(), told, "{:?} with {:?} going", case.policy, case.live);
    }
}

#[test]
fn what_somebody_asked_for_neither_holds_up_the_clock_nor_gives_way_to_it() {
    use TaskState::{Running, Waiting};
    for overlap in [Overlap::Skip, Overlap::BufferOne, Overlap::BufferAll, Overlap::CancelOther, Overlap::Allow] {
        for cause in [FiringCause::Backfill, FiringCause::Manual] {
            let case = with(10, |p| p.overlap = overlap).live(&[Running, Waiting]).asked_by(cause);
            assert_eq!(case.told(), "run 10 | -> 20", "{overlap} beside a {cause}");
        }
    }
}

#[test]
fn ends_and_pauses() {
    let limited = |count| Case { run_count: count, ..with(10, |p| p.run_limit = Some(3)) };
    // Paused at minute 25, when minutes 10 and 20 were not yet processed.
    let paused = |until: i64| {
        let change: fn(&mut ScheduleRecord) = match until {
            35 => {
                |r| (r.status, r.updated_at, r.paused_until) = (ScheduleStatus::Paused, minute(25), Some(minute(35)))
            }
            _ => {
                |r| (r.status, r.updated_at, r.paused_until) = (ScheduleStatus::Paused, minute(25), Some(minute(40)))
            }
        };
        case(until).change(change)
    };
    let backlog = |overlap, run_count| Case {
        run_count,
        ..with(40, |p| (p.run_limit, p.overlap, p.coalesce) = (Some(3), overlap, Coalesce::All(100)))
    };
    let failing = |failures| Case { failures, ..with(10, |p| p.pause_after = Some(2)) };
    let table: Vec<(&str, Case)> = vec![
        ("run 10 | -> 20", limited(1)),
        ("run 10 | finished", limited(2)),
        ("skipped 10 | finished", limited(3)),
        ("run 10 20 | skipped 30 40 | finished", backlog(Overlap::Allow, 1)),
        ("run 10 | skipped 20 30 40 | finished", backlog(Overlap::Allow, 2)),
        ("run 10 20<run0 | skipped 30 40 | finished", backlog(Overlap::BufferAll, 1)),
        ("run 10 | skipped 20 30 40 | -> 50", backlog(Overlap::Skip, 1)),
        ("run 40 | skipped 10 20 30 | -> 50", backlog(Overlap::CancelOther, 1)),
        ("run 40 | skipped 10 20 30 | finished", backlog(Overlap::CancelOther, 2)),
        ("run 10 | -> 20", failing(1)),
        ("paused", failing(2)),
        ("paused", Case { failures: 2, ..with(5, |p| p.pause_after = Some(2)) }),
        ("nothing", case(10).change(|record| record.status = ScheduleStatus::Paused)),
        ("nothing", case(10).change(|record| record.status = ScheduleStatus::Deleted)),
        ("nothing", case(35).change(|r| (r.status, r.paused_until) = (ScheduleStatus::Paused, Some(minute(36))))),
        ("-> 40", case(35).change(|r| (r.status, r.paused_until) = (ScheduleStatus::Paused, Some(minute(31))))),
        (
            "run 30 | -> 40",
            case(35).change(|r| (r.status, r.paused_until) = (ScheduleStatus::Paused, Some(minute(30)))),
        ),
        ("run 40 | skipped 10 20 | -> 50", paused(40)),
        ("skipped 10 20 | -> 40", paused(35)),
        ("skipped 20 | -> 40", paused(35).fired(&[10])),
        ("-> 10", case(5).change(|record| record.next_run_at = None)),
    ];
    for (place, (told, case)) in table.into_iter().enumerate() {
        assert_eq!(case.told(), told, "row {place}");
    }
}

#[test]
fn what_has_fired_is_no_part_of_a_backlog() {
    use TaskState::Running;
    let of = |overlap| with(35, |p: &mut Policy| (p.overlap, p.coalesce) = (overlap, Coalesce::All(3)));
    let limited = |overlap| with(35, |p| (p.overlap, p.coalesce, p.run_limit) = (overlap, Coalesce::All(9), Some(2)));
    let table: Vec<(&str, Case)> = vec![
        ("-> 40", case(35).fired(&[10, 20, 30])),
        ("run 20 | coalesced 10 | -> 40", case(35).fired(&[30])),
        ("run 30 | coalesced 20 | -> 40", case(35).fired(&[10])),
        ("run 20 | coalesced 30 | -> 40", with(35, |p| p.coalesce = Coalesce::Earliest).fired(&[10])),
        ("run 30 | missed 20 | -> 40", with(35, |p| p.misfire_grace = grace(5)).fired(&[10])),
        ("-> 40", with(35, |p| p.misfire_grace = grace(1)).fired(&[10, 20, 30])),
        // A live run is not cancelled for a run that will not be made.
        ("-> 20", with(10, |p| p.overlap = Overlap::CancelOther).live(&[Running]).fired(&[10])),
        ("run 20 | skipped 30 | -> 40", of(Overlap::Skip).fired(&[10])),
        ("run 20 30 | finished", limited(Overlap::Allow).fired(&[10])),
    ];
    for (told, case) in table {
        assert_eq!(case.told(), told, "{:?} have fired, with {:?}", case.fired, case.policy);
    }
}

#[test]
fn a_turn_makes_a_hundred_runs_and_leaves_the_rest_to_the_next() {
    for overlap in [Overlap::Allow, Overlap::BufferAll] {
        let all = |p: &mut Policy| (p.overlap, p.coalesce) = (overlap, Coalesce::All(1_000));
        let decision = with(10 * 250, all).decision().unwrap();
        assert_eq!((decision.runs.len(), decision.passed.len()), (100, 0));
        assert_eq!((decision.cursor, decision.next_run_at), (minute(1_000), Some(minute(1_010))));
        let rest = Case { cursor: 2_000, ..with(10 * 250, all) }.decision().unwrap();
        assert_eq!((rest.runs.len(), rest.cursor, rest.next_run_at), (50, minute(2_500), Some(minute(2_510))));
    }
    // Passed times do not count as runs.
    let decision = with(10 * 250, |p| p.coalesce = Coalesce::All(1_000)).decision().unwrap();
    assert_eq!((decision.runs.len(), decision.passed.len(), decision.cursor), (1, 249, minute(2_500)));
}

#[test]
fn a_pause_for_failures_leaves_the_times_for_whoever_resumes_it() {
    let failing = Case { failures: 2, ..with(10, |p| p.pause_after = Some(2)) };
    let decision = failing.decision().unwrap();
    assert_eq!(decision.cursor, minute(0));
    assert!(decision.reason.unwrap().contains("2 runs in a row failed"));
}

#[test]
fn a_long_outage_is_told_of_in_as_many_rows_as_the_history_keeps() {
    let decision = with(10 * 500, |p| p.keep_firings = 20).decision().unwrap();
    assert_eq!((decision.runs.len(), decision.passed.len()), (1, 20));
    assert_eq!(decision.passed.iter().map(|passed| passed.times).sum::<u64>(), 499);
    // An outage of centuries.
    let decision = with(10 * 60_000_000, |p| p.misfire_grace = grace(60)).decision().unwrap();
    assert_eq!(decision.runs[0].nominal_at, minute(600_000_000));
    assert!(decision.passed.len() < 3_000);
}
