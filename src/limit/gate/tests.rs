//! Which tasks pass a gate, and when the remaining tasks may pass.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn gate(limits: &[Limit]) -> Gate {
    let mut gate = Gate::new(&Limits::new(limits.iter().cloned()).unwrap(), at(1_000_000));
    let known = Arc::clone(&gate.known);
    known.iter().enumerate().for_each(|(place, limit)| gate.open(place, limit.clone()));
    gate
}

fn of(queue: &'static str, key: Option<&'static str>) -> Labels<'static> {
    Labels { queue, kind: "t", key }
}

#[test]
fn what_runs_and_what_was_let_through_fill_a_limit() {
    let mut gate = gate(&[Limit::of_queue("q").running(3)]);
    let all = BTreeSet::from([0]);
    gate.runs(&all, of("q", None), 1);
    gate.runs(&all, of("other", None), 7);
    let admitted: Vec<bool> = (0..3).map(|_| gate.admit(of("q", None))).collect();
    assert_eq!(admitted, [true, true, false]);
    assert!(gate.admit(of("other", None)));
    assert_eq!(gate.held_back(4), Some(HeldBack { request: 4, retry_at: None, running: true, locked: false }));
    assert_eq!(gate.held_back(5), None, "told once");
    assert!(gate.starts().is_empty(), "nothing counts starts");
}

#[test]
fn a_window_says_when_there_may_be_room_again() {
    let mut gate = gate(&[Limit::of_queue("q").rate(3, SECOND)]);
    assert_eq!(gate.unlooked([of("q", None), of("q", None)].into_iter()), BTreeMap::from([(0, vec![""])]));
    gate.started(0, "", 2, at(400_000));
    assert!(gate.admit(of("q", None)));
    gate.begun(of("q", None));
    assert!(!gate.admit(of("q", None)));
    let held = HeldBack { request: 0, retry_at: Some(at(1_400_000)), running: false, locked: false };
    assert_eq!(gate.held_back(0), Some(held));
    let start = Start { place: 0, subject: "".into(), at: at(1_000_000), tasks: 1, forget: at(0) };
    assert_eq!(gate.starts(), [start]);
}

#[test]
fn a_task_waits_for_the_last_of_its_limits_and_the_claim_for_the_first_of_its_tasks() {
    let limits = [Limit::of_queue("q").rate(1, SECOND), Limit::of_key("k").rate(1, 3 * SECOND).running(9)];
    let mut gate = gate(&limits);
    gate.started(0, "", 1, at(900_000));
    gate.started(1, "k", 1, at(500_000));
    assert!(!gate.admit(of("q", Some("k"))));
    assert_eq!(gate.held_back(0).unwrap().retry_at, Some(at(3_500_000)));
    assert!(!gate.admit(of("q", Some("k"))) && !gate.admit(of("q", None)));
    assert_eq!(gate.held_back(0).unwrap().retry_at, Some(at(1_900_000)));
    gate.runs(&BTreeSet::from([1]), of("q", Some("k")), 9);
    assert!(!gate.admit(of("q", Some("k"))));
    assert_eq!(gate.held_back(0), Some(HeldBack { request: 0, retry_at: None, running: true, locked: false }));
}

#[test]
fn a_limit_that_is_not_at_hand_is_asked_for_again_soon_and_one_that_is_gone_is_none() {
    let mut gate = gate(&[Limit::of_queue("q").running(1)]);
    gate.busy(0);
    assert!(!gate.admit(of("q", None)));
    assert_eq!(gate.held_back(0).unwrap().retry_at, Some(at(1_000_000) + SOON));
    gate.gone(0);
    assert!((0..9).all(|_| gate.admit(of("q", None))));
}

#[test]
fn a_great_rate_is_remembered_in_thousandths_and_never_too_early() {
    let rate = |tasks| Rate { tasks, period: SECOND };
    assert_eq!(remembered(at(1_234_567), rate(1_000)), at(1_234_567));
    assert_eq!(remembered(at(1_234_567), rate(1_001)), at(1_235_000));
    assert_eq!(remembered(at(1_235_000), rate(1_001)), at(1_235_000));
    assert_eq!(remembered(at(-1), rate(1_001)), at(0));
}
