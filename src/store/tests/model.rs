//! Compares the entries with a map so simple that it cannot be wrong, under random histories with a moving clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::store::entries::Entries;
use crate::store::{StoreError, StoreLimits, StoreValue};

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Set(String, i64, Option<u64>),
    SetText(String, Option<u64>),
    SetIfAbsent(String, i64, Option<u64>),
    Swap(String, i64, i64, Option<u64>),
    Increment(String, i64),
    Delete(String),
    Get(String),
    Page(String, Option<String>, usize),
    Cleanup(usize),
}

fn key() -> impl Strategy<Value = String> {
    // Few keys, so that operations meet on the same key; some keys are prefixes of longer keys.
    "[aä]{1,2}:?[01]?"
}

fn ttl() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(1_u64..20)
}

fn small() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -2_i64..3, 1 => Just(i64::MAX), 1 => Just(i64::MIN)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u64..8).prop_map(Step::Pass),
        4 => (key(), small(), ttl()).prop_map(|(key, value, ttl)| Step::Set(key, value, ttl)),
        1 => (key(), ttl()).prop_map(|(key, ttl)| Step::SetText(key, ttl)),
        2 => (key(), small(), ttl()).prop_map(|(key, value, ttl)| Step::SetIfAbsent(key, value, ttl)),
        2 => (key(), small(), small(), ttl()).prop_map(|(key, old, new, ttl)| Step::Swap(key, old, new, ttl)),
        2 => (key(), small()).prop_map(|(key, by)| Step::Increment(key, by)),
        1 => key().prop_map(Step::Delete),
        3 => key().prop_map(Step::Get),
        2 => ("[aä]?:?", proptest::option::of(key()), 1_usize..4)
            .prop_map(|(prefix, after, limit)| Step::Page(prefix, after, limit)),
        1 => (0_usize..4).prop_map(Step::Cleanup),
    ]
}

#[derive(Default)]
struct Model {
    now: u64,
    live: BTreeMap<String, (StoreValue, Option<u64>)>,
}

fn number(value: i64) -> StoreValue {
    StoreValue::encode(&value).unwrap()
}

impl Model {
    fn pass(&mut self, by: u64) {
        self.now += by;
        let now = self.now;
        self.live.retain(|_, (_, end)| end.is_none_or(|end| now < end));
    }

    fn bytes(&self, without: &str) -> usize {
        self.live
            .iter()
            .filter(|(key, _)| *key != without)
            .map(|(key, (value, _))| key.len() + value.as_str().len())
            .sum()
    }

    /// Does the write if it fits; returns whether it fits.
    fn put(&mut self, key: &str, value: &StoreValue, end: Option<u64>, limits: &StoreLimits) -> bool {
        let others = self.live.len() - usize::from(self.live.contains_key(key));
        let fits = others < limits.max_entries
            && self.bytes(key) + key.len() + value.as_str().len() <= limits.max_total_bytes;
        // A value that is no longer than before always fits, because a limit is never exceeded in the first place.
        if fits {
            self.live.insert(key.into(), (value.clone(), end));
        }
        fits
    }

    fn page(&self, prefix: &str, after: Option<&str>) -> Vec<Arc<str>> {
        let after = after.unwrap_or("");
        self.live
            .keys()
            .filter(|key| key.starts_with(prefix) && key.as_str() > after)
            .map(|key| Arc::from(key.as_str()))
            .collect()
    }
}

fn fits<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    match result {
        Ok(_) => true,
        Err(StoreError::TooManyEntries { .. } | StoreError::TooManyBytes { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

fn check(step: Step, model: &mut Model, entries: &mut Entries, limits: &StoreLimits) {
    let now = Duration::from_secs(model.now);
    let span = |ttl: Option<u64>| ttl.map(Duration::from_secs);
    let end = |model: &Model, ttl: Option<u64>| ttl.map(|ttl| model.now + ttl);
    match step {
        Step::Pass(by) => model.pass(by),
        Step::Set(key, value, ttl) => {
            let result = entries.set(now, key.as_str().into(), number(value), span(ttl));
            let end = end(model, ttl);
            assert_eq!(fits(&result), model.put(&key, &number(value), end, limits));
        }
        Step::SetText(key, ttl) => {
            let text = StoreValue::encode("some text").unwrap();
            let result = entries.set(now, key.as_str().into(), text.clone(), span(ttl));
            let end = end(model, ttl);
            assert_eq!(fits(&result), model.put(&key, &text, end, limits));
        }
        Step::SetIfAbsent(key, value, ttl) => {
            let result = entries.set_if_absent(now, key.as_str().into(), number(value), span(ttl));
            if model.live.contains_key(&key) {
                assert!(!result.unwrap());
            } else {
                let end = end(model, ttl);
                assert_eq!(fits(&result), model.put(&key, &number(value), end, limits));
            }
        }
        Step::Swap(key, old, new, ttl) => {
            let result = entries.compare_and_set(now, key.as_str().into(), &number(old), number(new), span(ttl));
            if model.live.get(&key).is_some_and(|(value, _)| *value == number(old)) {
                let end = end(model, ttl);
                assert_eq!(fits(&result), model.put(&key, &number(new), end, limits));
            } else {
                assert!(!result.unwrap());
            }
        }
        Step::Increment(key, by) => increment(&key, by, model, entries, limits),
        Step::Delete(key) => {
            assert_eq!(entries.delete(now, &key), model.live.remove(&key).is_some());
        }
        Step::Get(key) => {
            let got = entries.get(now, &key).map(|entry| (entry.value, entry.ttl));
            let now = model.now;
            let want = model.live.get(&key);
            let want = want.map(|(value, end)| (value.clone(), end.map(|end| Duration::from_secs(end - now))));
            assert_eq!(got, want);
        }
        Step::Page(prefix, after, limit) => {
            let (mut got, mut cursor) = (Vec::new(), after.as_deref().map(Arc::<str>::from));
            loop {
                let page = entries.page(now, &prefix, cursor.as_deref(), limit);
                assert!(page.keys.len() <= limit);
                got.extend(page.keys);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(got, model.page(&prefix, after.as_deref()));
        }
        Step::Cleanup(max) => {
            let swept = entries.remove_expired(now, max);
            assert!(swept.removed <= max);
            assert!(swept.more || entries.next_expiry().is_none_or(|at| at > now));
        }
    }
}

fn increment(key: &str, by: i64, model: &mut Model, entries: &mut Entries, limits: &StoreLimits) {
    let result = entries.increment(Duration::from_secs(model.now), key.into(), by);
    let old = model.live.get(key).cloned();
    let value = old.as_ref().map_or(Ok(0), |(value, _)| value.decode::<i64>());
    match value.map(|value| value.checked_add(by)) {
        Err(_) => assert!(matches!(result, Err(StoreError::NotAnInteger { .. }))),
        Ok(None) => assert!(matches!(result, Err(StoreError::Overflow { .. }))),
        Ok(Some(sum)) => {
            let fitted = model.put(key, &number(sum), old.and_then(|(_, end)| end), limits);
            assert_eq!(fits(&result), fitted);
            assert!(!fitted || result.is_ok_and(|got| got == sum));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_the_model(
        steps in proptest::collection::vec(step(), 1..80),
        max_entries in 1_usize..12,
        max_total_bytes in 10_usize..120,
    ) {
        let limits = StoreLimits { max_entries, max_total_bytes, ..StoreLimits::default() };
        let (mut model, mut entries) = (Model::default(), Entries::new(limits));
        for step in steps {
            check(step, &mut model, &mut entries, &limits);
            entries.changes();
            let (held, with_ttl, bytes) = entries.size();
            prop_assert!(held <= max_entries && bytes <= max_total_bytes);
            prop_assert!(with_ttl <= held, "the index holds more than the entries that expire");
            prop_assert!(held >= model.live.len());
        }
        entries.remove_expired(Duration::from_secs(model.now), usize::MAX);
        let expiring = model.live.values().filter(|(_, end)| end.is_some()).count();
        prop_assert_eq!(entries.size(), (model.live.len(), expiring, model.bytes("")));
    }
}
