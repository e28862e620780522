//! The entries of the store. Pure: no actor and no clock.
//!
//! `now` is [`Clock::elapsed`](crate::Clock::elapsed), which is monotonic time. So a change of the machine's clock
//! neither revives a value nor expires it early.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::error::{StoreError, shown};
use super::value::{StoreEntry, StoreLimits, StorePage, StoreValue};
use super::watchers::{Change, StoreChange};

/// The greatest number of keys read per page. Without this bound, a page over many expired keys would block all further
/// requests.
const MAX_SCAN: usize = 10_000;
/// The greatest number of keys in a page.
pub(super) const MAX_PAGE: usize = 1_000;
/// Expired entries that each write removes. This exceeds the single entry that a write may add. So the store cannot
/// grow under a flood of writes, which starves the timer.
const REMOVED_PER_WRITE: usize = 2;

#[derive(Debug)]
struct Entry {
    value: StoreValue,
    expires: Option<Duration>,
}

impl Entry {
    fn is_live(&self, now: Duration) -> bool {
        self.expires.is_none_or(|at| now < at)
    }
}

/// The result of a round of removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// The number of expired entries removed.
    pub(crate) removed: usize,
    /// True when expired entries are left.
    pub(crate) more: bool,
}

/// Keys with their values and expiry times.
#[derive(Debug)]
pub(crate) struct Entries {
    limits: StoreLimits,
    by_key: BTreeMap<Arc<str>, Entry>,
    // Exactly one element for each entry that expires. A heap with lazy deletion would grow with each overwrite and
    // would pause to compact itself. This set does neither.
    by_expiry: BTreeSet<(Duration, Arc<str>)>,
    bytes: usize,
    changes: Vec<Change>,
}

impl Entries {
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self { limits, by_key: BTreeMap::new(), by_expiry: BTreeSet::new(), bytes: 0, changes: Vec::new() }
    }

    pub(super) fn get(&self, now: Duration, key: &str) -> Option<StoreEntry> {
        let entry = self.live(now, key)?;
        Some(StoreEntry { value: entry.value.clone(), ttl: entry.expires.map(|at| at.saturating_sub(now)) })
    }

    pub(super) fn set(
        &mut self,
        now: Duration,
        key: Arc<str>,
        value: StoreValue,
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(StoreError::ZeroTtl { key: shown(&key) });
        }
        // An expiry time beyond the clock's range never comes, so the entry has none.
        let expires = ttl.and_then(|ttl| now.checked_add(ttl));
        self.put(now, key, Entry { value, expires })
    }

    pub(super) fn set_if_absent(
        &mut self,
        now: Duration,
        key: Arc<str>,
        value: StoreValue,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        if self.live(now, &key).is_some() {
            return Ok(false);
        }
        self.set(now, key, value, ttl).map(|()| true)
    }

    pub(super) fn compare_and_set(
        &mut self,
        now: Duration,
        key: Arc<str>,
        expected: &StoreValue,
        value: StoreValue,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        if self.live(now, &key).is_none_or(|entry| entry.value != *expected) {
            return Ok(false);
        }
        self.set(now, key, value, ttl).map(|()| true)
    }

    pub(super) fn increment(&mut self, now: Duration, key: Arc<str>, by: i64) -> Result<i64, StoreError> {
        let (value, expires) = match self.live(now, &key) {
            None => (0, None),
            Some(entry) => {
                let value: i64 = entry.value.decode().map_err(|_| StoreError::NotAnInteger { key: shown(&key) })?;
                (value, entry.expires)
            }
        };
        let sum = value.checked_add(by).ok_or_else(|| StoreError::Overflow { key: shown(&key), value, by })?;
        self.put(now, key, Entry { value: StoreValue::integer(sum), expires })?;
        Ok(sum)
    }

    /// Returns true if there was a live value.
    pub(super) fn delete(&mut self, now: Duration, key: &str) -> bool {
        let Some((key, entry)) = self.by_key.remove_entry(key) else { return false };
        let live = entry.is_live(now);
        self.forget(&key, &entry);
        self.changes.push(Change { key, what: if live { StoreChange::Deleted } else { StoreChange::Expired } });
        live
    }

    pub(super) fn page(&self, now: Duration, prefix: &str, after: Option<&str>, limit: usize) -> StorePage {
        let limit = limit.clamp(1, MAX_PAGE);
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut keys = Vec::new();
        let mut last: Option<&Arc<str>> = None;
        for (seen, (key, entry)) in self.by_key.range::<str, _>((from, Bound::Unbounded)).enumerate() {
            if !key.starts_with(prefix) {
                break;
            }
            if keys.len() == limit || seen == MAX_SCAN {
                return StorePage { keys, next: last.cloned() };
            }
            if entry.is_live(now) {
                keys.push(Arc::clone(key));
            }
            last = Some(key);
        }
        StorePage { keys, next: None }
    }

    /// Removes up to `max` expired entries, in the order of their expiry.
    pub(super) fn remove_expired(&mut self, now: Duration, max: usize) -> Swept {
        let mut removed = 0;
        while self.next_expiry().is_some_and(|at| at <= now) {
            if removed == max {
                return Swept { removed, more: true };
            }
            removed += self.remove_first();
        }
        Swept { removed, more: false }
    }

    /// The time at which the next entry expires.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.by_expiry.first().map(|(at, _)| *at)
    }

    /// Takes the changes since the last call.
    pub(super) fn changes(&mut self) -> std::vec::Drain<'_, Change> {
        self.changes.drain(..)
    }

    /// The number of entries, of entries that expire, and of bytes.
    pub(super) fn size(&self) -> (usize, usize, usize) {
        (self.by_key.len(), self.by_expiry.len(), self.bytes)
    }

    fn live(&self, now: Duration, key: &str) -> Option<&Entry> {
        self.by_key.get(key).filter(|entry| entry.is_live(now))
    }

    fn put(&mut self, now: Duration, key: Arc<str>, new: Entry) -> Result<(), StoreError> {
        self.check(&key, &new.value)?;
        self.remove_expired(now, REMOVED_PER_WRITE);
        self.make_room(now, &key, &new.value)?;
        let announced = StoreChange::Set(new.value.clone());
        let added = new.value.len();
        let key = match self.by_key.entry(key) {
            Slot::Vacant(slot) => {
                let key = Arc::clone(slot.key());
                self.bytes += key.len() + added;
                if let Some(at) = new.expires {
                    self.by_expiry.insert((at, Arc::clone(&key)));
                }
                slot.insert(new);
                key
            }
            Slot::Occupied(mut slot) => {
                // Use the key that the tree holds, not the caller's copy, because the two trees share its text.
                let key = Arc::clone(slot.key());
                let expires = new.expires;
                let old = slot.insert(new);
                self.bytes = self.bytes + added - old.value.len();
                if old.expires != expires {
                    old.expires.map(|at| self.by_expiry.remove(&(at, Arc::clone(&key))));
                    expires.map(|at| self.by_expiry.insert((at, Arc::clone(&key))));
                }
                if !old.is_live(now) {
                    self.changes.push(Change { key: Arc::clone(&key), what: StoreChange::Expired });
                }
                key
            }
        };
        self.changes.push(Change { key, what: announced });
        Ok(())
    }

    fn check(&self, key: &str, value: &StoreValue) -> Result<(), StoreError> {
        let StoreLimits { max_key_bytes, max_value_bytes, .. } = self.limits;
        if key.is_empty() {
            return Err(StoreError::EmptyKey);
        }
        if key.len() > max_key_bytes {
            return Err(StoreError::KeyTooLong { key: shown(key), bytes: key.len(), max: max_key_bytes });
        }
        if value.len() > max_value_bytes {
            return Err(StoreError::ValueTooLong { key: shown(key), bytes: value.len(), max: max_value_bytes });
        }
        Ok(())
    }

    /// Removes expired entries singly, and no more than needed, until the value fits. Live entries are never removed.
    fn make_room(&mut self, now: Duration, key: &str, value: &StoreValue) -> Result<(), StoreError> {
        while let Some(lack) = self.lack(key, value) {
            if self.remove_expired(now, 1).removed == 0 {
                return Err(lack);
            }
        }
        Ok(())
    }

    fn lack(&self, key: &str, value: &StoreValue) -> Option<StoreError> {
        let StoreLimits { max_entries, max_total_bytes, .. } = self.limits;
        let added = key.len() + value.len();
        if self.by_key.len() < max_entries && self.bytes + added <= max_total_bytes {
            return None;
        }
        let old = self.by_key.get(key).map(|entry| key.len() + entry.value.len());
        if old.is_none() && self.by_key.len() >= max_entries {
            return Some(StoreError::TooManyEntries { max: max_entries });
        }
        let old = old.unwrap_or(0);
        let grows_past = added > old && self.bytes - old + added > max_total_bytes;
        grows_past.then(|| StoreError::TooManyBytes { bytes: added - old, max: max_total_bytes })
    }

    fn remove_first(&mut self) -> usize {
        let Some((_, key)) = self.by_expiry.pop_first() else { return 0 };
        let Some(entry) = self.by_key.remove(&key) else { return 0 };
        self.bytes -= key.len() + entry.value.len();
        self.changes.push(Change { key, what: StoreChange::Expired });
        1
    }

    fn forget(&mut self, key: &Arc<str>, entry: &Entry) {
        self.bytes -= key.len() + entry.value.len();
        if let Some(at) = entry.expires {
            self.by_expiry.remove(&(at, Arc::clone(key)));
        }
    }
}
