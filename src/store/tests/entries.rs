//! Tests of the entries; each test covers a single rule.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::store::entries::Entries;
use crate::store::{StoreChange, StoreError, StoreLimits, StoreValue};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn value(value: impl Into<serde_json::Value>) -> StoreValue {
    StoreValue::encode(&value.into()).unwrap()
}

fn empty() -> Entries {
    Entries::new(StoreLimits::default())
}

fn limited(limits: StoreLimits) -> Entries {
    Entries::new(limits)
}

fn set(entries: &mut Entries, now: Duration, key: &str, ttl: Option<Duration>) -> Result<(), StoreError> {
    entries.set(now, key.into(), value("v"), ttl)
}

#[test]
fn a_value_lives_to_the_end_of_its_time_and_not_a_nanosecond_longer() {
    let mut entries = empty();
    set(&mut entries, at(10), "k", Some(SECOND)).unwrap();
    let last = at(11) - Duration::from_nanos(1);
    assert_eq!(entries.get(last, "k").unwrap().ttl, Some(Duration::from_nanos(1)));
    assert!(entries.get(at(11), "k").is_none());
}

#[test]
fn overwriting_replaces_the_time_to_live() {
    let mut entries = empty();
    set(&mut entries, at(0), "k", Some(SECOND)).unwrap();
    set(&mut entries, at(0), "k", None).unwrap();
    assert_eq!(entries.next_expiry(), None);
    assert_eq!(entries.get(at(1_000_000), "k").unwrap().ttl, None);
    set(&mut entries, at(5), "k", Some(3 * SECOND)).unwrap();
    assert_eq!(entries.next_expiry(), Some(at(8)));
}

#[test]
fn a_time_to_live_past_the_end_of_time_is_for_ever_and_one_of_zero_is_refused() {
    let mut entries = empty();
    set(&mut entries, at(1), "k", Some(Duration::MAX)).unwrap();
    assert_eq!(entries.get(Duration::MAX, "k").unwrap().ttl, None);
    assert!(matches!(set(&mut entries, at(1), "k", Some(Duration::ZERO)), Err(StoreError::ZeroTtl { .. })));
}

#[test]
fn a_million_overwrites_leave_one_entry_in_the_index() {
    let mut entries = empty();
    let key: Arc<str> = "k".into();
    for round in 0..1_000_000 {
        entries.set(at(round), key.clone(), value(round), Some(at(1_000))).unwrap();
        entries.changes();
    }
    assert_eq!(entries.size(), (1, 1, "k".len() + "999999".len()));
}

#[test]
fn a_million_keys_expire_in_order_and_leave_nothing() {
    const KEYS: u64 = 1_000_000;
    let mut entries = empty();
    for number in 0..KEYS {
        // Expiry times spread over a thousand seconds, in a different order from the keys.
        let ttl = Duration::from_secs(1 + number * 7 % 1_000);
        entries.set(at(0), format!("session:{number}").into(), value(number), Some(ttl)).unwrap();
        entries.changes();
    }
    assert_eq!(entries.size().0, 1_000_000);
    assert!(entries.get(at(1), "session:0").is_none(), "expired, and not yet removed");
    assert!(entries.get(at(1), "session:1").is_some());
    let mut removed = 0;
    for second in 1..=1_000 {
        assert_eq!(entries.next_expiry(), Some(at(second)));
        while entries.next_expiry() == Some(at(second)) {
            removed += entries.remove_expired(at(second), 10_000).removed;
            entries.changes();
        }
    }
    assert_eq!((removed as u64, entries.size(), entries.next_expiry()), (KEYS, (0, 0, 0), None));
}

#[test]
fn keys_and_values_are_limited_in_size() {
    let limits = StoreLimits { max_key_bytes: 4, max_value_bytes: 5, ..StoreLimits::default() };
    let mut entries = limited(limits);
    let mut try_set = |key: &str, text: &str| entries.set(at(0), key.into(), value(text), None);
    assert!(try_set("kkkk", "vvv").is_ok());
    assert!(matches!(try_set("", "v"), Err(StoreError::EmptyKey)));
    assert!(matches!(try_set("kkkkk", "v"), Err(StoreError::KeyTooLong { bytes: 5, max: 4, .. })));
    assert!(matches!(try_set("k", "vvvv"), Err(StoreError::ValueTooLong { bytes: 6, max: 5, .. })));
}

#[test]
fn a_full_store_takes_overwrites_but_no_new_key() {
    let mut entries = limited(StoreLimits { max_entries: 2, ..StoreLimits::default() });
    set(&mut entries, at(0), "a", None).unwrap();
    set(&mut entries, at(0), "b", None).unwrap();
    assert!(matches!(set(&mut entries, at(0), "c", None), Err(StoreError::TooManyEntries { max: 2 })));
    assert!(entries.get(at(0), "c").is_none());
    set(&mut entries, at(0), "b", None).unwrap();
    assert!(entries.delete(at(0), "a"));
    set(&mut entries, at(0), "c", None).unwrap();
}

#[test]
fn all_bytes_together_are_limited_and_a_smaller_value_always_fits() {
    let mut entries = limited(StoreLimits { max_total_bytes: 10, ..StoreLimits::default() });
    let mut put = |key: &str, text: &str| entries.set(at(0), key.into(), value(text), None);
    put("a", "1234567").unwrap();
    assert!(matches!(put("b", ""), Err(StoreError::TooManyBytes { bytes: 3, max: 10 })));
    assert!(matches!(put("a", "12345678"), Err(StoreError::TooManyBytes { bytes: 1, max: 10 })));
    put("a", "1234").unwrap();
    put("b", "").unwrap();
}

#[test]
fn expired_entries_give_way_to_new_ones_without_a_cleanup() {
    let mut entries = limited(StoreLimits { max_entries: 100, ..StoreLimits::default() });
    for key in 0..100 {
        set(&mut entries, at(0), &format!("old{key}"), Some(SECOND)).unwrap();
    }
    for key in 0..100 {
        set(&mut entries, at(1), &format!("new{key}"), None).unwrap();
    }
    assert_eq!(entries.size().0, 100);
}

#[test]
fn a_flood_of_writes_without_a_cleanup_does_not_make_it_grow() {
    let mut entries = empty();
    for key in 0..10_000 {
        set(&mut entries, Duration::from_millis(key), &format!("{key}"), Some(SECOND)).unwrap();
        assert!(entries.size().0 <= 1_001);
    }
}

#[test]
fn set_if_absent_takes_an_expired_key_but_no_live_one() {
    let mut entries = empty();
    assert!(entries.set_if_absent(at(0), "k".into(), value(1), Some(SECOND)).unwrap());
    assert!(!entries.set_if_absent(at(0), "k".into(), value(2), None).unwrap());
    assert!(entries.set_if_absent(at(1), "k".into(), value(3), None).unwrap());
    assert_eq!(entries.get(at(1), "k").unwrap().value, value(3));
}

#[test]
fn compare_and_set_compares_as_json_and_never_sets_an_absent_key() {
    let mut entries = empty();
    let mut swap = |now, expected, new| {
        entries.compare_and_set(now, "k".into(), &value(expected), value(new), Some(SECOND)).unwrap()
    };
    assert!(!swap(at(0), json!(null), json!(1)));
    entries.set(at(0), "k".into(), value(json!({"a": 1, "b": [2]})), None).unwrap();
    let mut swap = |now, expected, new| {
        entries.compare_and_set(now, "k".into(), &value(expected), value(new), Some(SECOND)).unwrap()
    };
    assert!(!swap(at(0), json!({"a": 1}), json!(1)));
    assert!(swap(at(0), json!({"b": [2], "a": 1}), json!(1)));
    assert!(!swap(at(1), json!(1), json!(2)), "it has expired");
}

#[test]
fn increment_starts_at_0_keeps_the_time_to_live_and_refuses_what_it_cannot_add() {
    let mut entries = empty();
    assert_eq!(entries.increment(at(0), "new".into(), -3).unwrap(), -3);
    assert_eq!(entries.get(at(0), "new").unwrap().ttl, None);
    entries.set(at(0), "k".into(), value(i64::MAX - 1), Some(2 * SECOND)).unwrap();
    assert_eq!(entries.increment(at(1), "k".into(), 1).unwrap(), i64::MAX);
    assert_eq!(entries.get(at(1), "k").unwrap().ttl, Some(SECOND));
    assert!(matches!(entries.increment(at(1), "k".into(), 1), Err(StoreError::Overflow { by: 1, .. })));
    assert_eq!(entries.get(at(1), "k").unwrap().value, value(i64::MAX));
    for no_integer in [json!("1"), json!(1.0), json!(u64::MAX), json!(null), json!([1])] {
        entries.set(at(1), "k".into(), value(no_integer.clone()), None).unwrap();
        assert!(matches!(entries.increment(at(1), "k".into(), 1), Err(StoreError::NotAnInteger { .. })));
        assert_eq!(entries.get(at(1), "k").unwrap().value, value(no_integer));
    }
}

#[test]
fn pages_stay_within_the_prefix_and_go_on_after_a_deleted_cursor() {
    let mut entries = empty();
    for key in ["a", "b", "b:1", "b:2", "b:3", "b;", "ä"] {
        set(&mut entries, at(0), key, None).unwrap();
    }
    let page = |entries: &Entries, after| {
        let page = entries.page(at(0), "b:", after, 2);
        (page.keys.iter().map(ToString::to_string).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(&entries, None), (vec!["b:1".into(), "b:2".into()], Some("b:2".into())));
    entries.delete(at(0), "b:2");
    assert_eq!(page(&entries, Some("b:2")), (vec!["b:3".into()], None));
    assert_eq!(page(&entries, Some("c")), (vec![], None));
    assert_eq!(page(&entries, Some("a")).0, ["b:1", "b:3"], "a cursor before the prefix starts at its beginning");
}

#[test]
fn a_page_over_many_expired_keys_stops_and_says_where_to_go_on() {
    let mut entries = empty();
    for key in 0..25_000 {
        set(&mut entries, at(0), &format!("k{key:05}"), Some(SECOND)).unwrap();
    }
    set(&mut entries, at(0), "kz", None).unwrap();
    let (mut pages, mut keys, mut after) = (0, Vec::new(), None::<Arc<str>>);
    loop {
        let page = entries.page(at(1), "k", after.as_deref(), 10);
        pages += 1;
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, keys), (3, vec!["kz".into()]));
}

#[test]
fn removal_goes_in_slices_the_longest_expired_first() {
    let mut entries = empty();
    for key in 0..10 {
        set(&mut entries, at(0), &key.to_string(), Some(at(10 - key))).unwrap();
    }
    entries.changes();
    let swept = entries.remove_expired(at(5), 3);
    assert_eq!((swept.removed, swept.more), (3, true));
    let gone: Vec<_> = entries.changes().map(|change| change.key.to_string()).collect();
    assert_eq!(gone, ["9", "8", "7"]);
    let swept = entries.remove_expired(at(5), 3);
    assert_eq!((swept.removed, swept.more), (2, false));
}

#[test]
fn each_life_of_a_value_ends_with_one_change() {
    let mut entries = empty();
    let mut log = Vec::new();
    let mut note = |entries: &mut Entries| log.extend(entries.changes().map(|change| change.what));
    set(&mut entries, at(0), "k", Some(SECOND)).unwrap();
    set(&mut entries, at(0), "k", Some(SECOND)).unwrap();
    note(&mut entries);
    set(&mut entries, at(2), "k", None).unwrap();
    note(&mut entries);
    entries.delete(at(2), "k");
    entries.delete(at(2), "k");
    note(&mut entries);
    set(&mut entries, at(2), "k", Some(SECOND)).unwrap();
    entries.delete(at(3), "k");
    note(&mut entries);
    use StoreChange::{Deleted, Expired};
    let v = || StoreChange::Set(value("v"));
    assert_eq!(log, [v(), v(), Expired, v(), Deleted, v(), Expired]);
}
