//! Limits on how many tasks start in a period, over all nodes.

use std::time::Duration;

use super::limits::{TEN_SECONDS, claim, keyed, side_by_side, starts};
use super::{Harness, crash};
use crate::backend::Limit;
use crate::task::TaskState;
use crate::testing::factory::{World, at, task};

/// In every span as long as the period, no more tasks start than allowed, and no task starts later than necessary.
pub fn rate_is_exact_at_its_edges(h: &dyn Harness) {
    let w = World::new(h);
    let micro = Duration::from_micros(1);
    w.set_limit(&Limit::of_queue("default").rate(2, TEN_SECONDS));
    w.push_all((0..9).map(task));
    assert_eq!(w.claim(1).len(), 1);
    w.go_to(4);
    assert_eq!(starts(&w), (1, Some(at(10))));
    w.go_to(10);
    w.advance(Duration::ZERO);
    let before = w.other_node();
    before.go_to(9);
    before.advance(Duration::from_secs(1) - micro);
    assert_eq!(starts(&before), (0, Some(at(10))));
    assert_eq!(starts(&w), (1, Some(at(14))));
    w.go_to(14);
    assert_eq!(starts(&w), (1, Some(at(20))));
    w.go_to(24);
    assert_eq!(starts(&w), (2, Some(at(34))), "no more than two after a rest");
    // The limit is lowered from here on. Earlier starts still count.
    w.set_limit(&Limit::of_queue("default").rate(1, Duration::from_secs(20)));
    w.go_to(43);
    assert_eq!(starts(&w), (0, Some(at(44))));
    w.go_to(44);
    assert_eq!(starts(&w), (1, Some(at(64))));
}

/// Each key has its own window. A type has a single window for all its tasks.
pub fn rate_of_a_key_and_of_a_type(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_key("api").rate(1, TEN_SECONDS));
    w.set_limit(&Limit::of_type("work").rate(3, TEN_SECONDS));
    let a = w.push_all((0..2).map(|number| keyed(number, "api:a")));
    let b = w.push_all((2..4).map(|number| keyed(number, "api:b")));
    let plain = w.push_all((4..7).map(task));
    assert_eq!(w.claim_ids(10), [a[0], b[0], plain[0]]);
    w.go_to(10);
    assert_eq!(w.claim_ids(10), [a[1], b[1], plain[1]]);
    w.go_to(20);
    assert_eq!(w.claim_ids(10), plain[2..]);
}

/// With a great rate, storage does not remember each start separately. Still no period has too many starts.
pub fn great_rates_are_exact(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_queue("default").rate(1_500, Duration::from_secs(10)));
    w.push_all((0..1_700).map(task));
    w.advance(Duration::from_micros(1));
    assert_eq!(w.claim(1_000).len(), 1_000);
    w.advance(Duration::from_micros(1));
    let (claimed, held) = claim(&w, 1_000);
    assert_eq!(claimed.len(), 500);
    let retry_at = held.expect("it holds").retry_at.expect("a rate says when");
    assert!(retry_at >= at(10) + Duration::from_micros(1) && retry_at <= at(10) + Duration::from_millis(10));
    w.go_to(10);
    assert_eq!(w.claim(1_000).len(), 0);
    w.advance(Duration::from_millis(10));
    assert_eq!(w.claim(1_000).len(), 200);
}

/// Retries, snoozes, and runs after a rescue or a release are new starts and count again.
pub fn every_start_counts(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_queue("default").rate(4, Duration::from_secs(100)));
    w.push(task(0));
    w.fail_until(&w.claim_one(), at(1));
    w.go_to(1);
    w.sweep();
    w.end(&w.claim_one(), TaskState::Scheduled, None);
    w.go_to(2);
    w.sweep();
    w.claim_one();
    w.release(&[], false);
    crash(&w, 1);
    assert_eq!(starts(&w), (0, Some(at(100))));
    w.go_to(100);
    assert_eq!(starts(&w).0, 1);
}

/// If a wall clock is set back by more than the period, no task waits for the time that the clock showed before.
pub fn a_clock_set_back_holds_nothing_up(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_queue("default").rate(1, TEN_SECONDS));
    w.push_all((0..4).map(|number| task(number).run_at(at(0))));
    w.go_to(3_600);
    w.push_all((4..6).map(task));
    assert_eq!(starts(&w), (1, Some(at(3_610))));
    w.go_to(0);
    assert_eq!(starts(&w), (1, Some(at(10))));
}

/// However many nodes claim at the same time, no more tasks start than allowed.
pub fn side_by_side_never_too_fast(h: &dyn Harness) {
    let w = World::new(h);
    w.set_limit(&Limit::of_type("work").rate(10, TEN_SECONDS));
    w.push_all((0..40).map(|number| task(number).queue(["a", "b"][number % 2])));
    side_by_side(h, &w, |node| {
        let claimed = [node.claim_from("a", None, 3), node.claim_from("b", None, 2)].concat();
        claimed.iter().for_each(|claimed| node.complete(claimed));
        node.count(TaskState::Completed) < 10
    });
    assert_eq!(w.count(TaskState::Completed), 10);
    w.go_to(10);
    assert_eq!(w.claim_from("a", None, 40).len(), 10);
}
