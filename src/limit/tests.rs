//! Which limits apply to which task, and which limits are invalid.

use super::*;

fn subjects<'a>(limits: &Limits, labels: Labels<'a>) -> Vec<(LimitScope, String, &'a str)> {
    let found = limits.applying(labels).map(|(place, subject)| (limits.get(place), subject));
    found.map(|(limit, subject)| (limit.scope, limit.name.to_string(), subject)).collect()
}

#[test]
fn a_key_is_under_each_limit_that_it_begins_with_by_itself() {
    let names = ["api", "api:anna", "ap", "api:"];
    let limits = Limits::new(names.map(|name| Limit::of_key(name).running(1))).unwrap();
    let found = |key| {
        let labels = Labels { queue: "q", kind: "t", key };
        subjects(&limits, labels).into_iter().map(|(_, name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(found(Some("api")), ["api"]);
    assert_eq!(found(Some("api:anna")), ["api", "api:anna"]);
    assert_eq!(found(Some("api:anna:mail")), ["api", "api:anna"]);
    assert_eq!(found(Some("api:annabel")), ["api"]);
    assert_eq!(found(Some("api::x")), ["api", "api:"]);
    assert!(found(Some("apis")).is_empty() && found(None).is_empty());
    let labels = Labels { queue: "q", kind: "t", key: Some("api:bert") };
    assert_eq!(subjects(&limits, labels), [(LimitScope::Key, "api".into(), "api:bert")]);
}

#[test]
fn limits_of_all_scopes_apply_together() {
    let limits = [Limit::of_type("t"), Limit::of_queue("q"), Limit::of_key("k"), Limit::of_queue("t")];
    let limits = Limits::new(limits.map(|limit| limit.running(1))).unwrap();
    let scopes = |queue, kind, key| {
        let found = subjects(&limits, Labels { queue, kind, key });
        found.into_iter().map(|(scope, ..)| scope).collect::<Vec<_>>()
    };
    assert_eq!(scopes("q", "t", Some("k")), LimitScope::ALL);
    assert_eq!(scopes("t", "q", None), [LimitScope::Queue], "a name is of its scope alone");
    assert!(scopes("x", "x", Some("q")).is_empty());
    assert!(Limits::new([]).is_none());
}

#[test]
fn a_request_that_no_limit_can_touch_is_told_apart() {
    let limits = Limits::new([Limit::of_queue("q").running(1), Limit::of_type("t").running(1)]).unwrap();
    let touched = |limits: &Limits, queue: &'static str, types: Option<&[&'static str]>| {
        let types: Option<Vec<Name>> = types.map(|types| types.iter().copied().map(Name::from).collect());
        limits.may_touch(&queue.into(), types.as_deref())
    };
    assert!(touched(&limits, "q", Some(&["x"])));
    assert!(touched(&limits, "x", Some(&["x", "t"])));
    assert!(touched(&limits, "x", None));
    assert!(!touched(&limits, "x", Some(&["x"])));
    let keys = Limits::new([Limit::of_key("k").running(1)]).unwrap();
    assert!(touched(&keys, "x", Some(&["x"])), "any task may have a key");
}

#[test]
fn faults_are_named_with_the_next_step() {
    let limit = || Limit::of_queue("q");
    let second = Duration::from_secs(1);
    assert_eq!(limit().running(1).rate(1, second).fault(), None);
    for (limit, part) in [
        (limit(), "limits nothing"),
        (limit().running(0), "0 tasks run"),
        (limit().rate(0, second), "0 tasks start"),
        (limit().rate(1, Duration::from_micros(999)), "from 1 ms to 366 days"),
        (limit().rate(1, Duration::from_secs(366 * 86_400 + 1)), "from 1 ms to 366 days"),
        (Limit::of_key("").running(1), "1 to 200 bytes"),
        (Limit::of_type("x".repeat(201)).running(1), "1 to 200 bytes"),
        (Limit::of_key("a\n").running(1), "control"),
    ] {
        let fault = limit.fault().unwrap();
        assert!(fault.contains(part), "{fault}");
    }
}

#[test]
fn a_limit_is_read_as_it_is_written() {
    let limit = Limit::of_key("api").running(2).rate(5, Duration::from_millis(1_500));
    let json = serde_json::json!(limit);
    assert_eq!(json["rate"], serde_json::json!({"tasks": 5, "period_us": 1_500_000}));
    assert_eq!(serde_json::from_value::<Limit>(json).unwrap(), limit);
}
