//! The watches, and the events that they receive.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::prelude::SendError;
use actix::{Message, Recipient};

use super::error::{StoreError, shown};
use super::value::{StoreLimits, StoreValue};

/// A change of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreChange {
    /// The key now has this value.
    Set(StoreValue),
    /// The key was deleted.
    Deleted,
    /// The value expired. The event is sent when the value is removed, at the latest a moment after the expiry.
    Expired,
}

/// The event that watchers of a changed key receive.
///
/// A watcher with a full mailbox misses events; it never slows the store. The next event that reaches it carries the
/// number of missed events. The watcher may then read the keys again.
#[derive(Clone, Debug, PartialEq, Message)]
#[rtype(result = "()")]
pub struct StoreEvent {
    /// The key.
    pub key: Arc<str>,
    /// The change of the key.
    pub change: StoreChange,
    /// The number of events that this watch missed just before this event.
    pub missed: u64,
}

/// The id of a watch, used to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(u64);

impl WatchId {
    /// An id that is unique among the watches of this process. The caller chooses it, so that a repeated request makes
    /// a single watch.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A change that has not been announced yet.
#[derive(Debug)]
pub(crate) struct Change {
    pub(super) key: Arc<str>,
    pub(super) what: StoreChange,
}

/// The key or the prefix that is watched.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Key(Arc<str>),
    Prefix(Arc<str>),
}

impl Target {
    fn text(&self) -> &str {
        let (Self::Key(text) | Self::Prefix(text)) = self;
        text
    }

    fn check(&self, limits: &StoreLimits) -> Result<(), StoreError> {
        let (text, max) = (self.text(), limits.max_key_bytes);
        match self {
            Self::Key(key) if key.is_empty() => Err(StoreError::EmptyKey),
            _ if text.len() > max => Err(StoreError::KeyTooLong { key: shown(text), bytes: text.len(), max }),
            _ => Ok(()),
        }
    }
}

struct Watcher {
    target: Target,
    to: Recipient<StoreEvent>,
    missed: u64,
}

/// The watches. Like the entries, they survive a restart of the actor.
pub(crate) struct Watchers {
    limits: StoreLimits,
    by_id: HashMap<WatchId, Watcher>,
    keys: HashMap<Arc<str>, Vec<WatchId>>,
    prefixes: HashMap<Arc<str>, Vec<WatchId>>,
    // The number of watched prefixes of each length. With it, a change costs one look-up per length, not per prefix.
    lengths: BTreeMap<usize, usize>,
    missed: u64,
    // Kept only to reuse its memory.
    reached: Vec<WatchId>,
}

impl Watchers {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            by_id: HashMap::new(),
            keys: HashMap::new(),
            prefixes: HashMap::new(),
            lengths: BTreeMap::new(),
            missed: 0,
            reached: Vec::new(),
        }
    }

    /// The number of watches, and of events missed so far.
    pub(super) fn size(&self) -> (usize, u64) {
        (self.by_id.len(), self.missed)
    }

    pub(super) fn add(&mut self, id: WatchId, target: Target, to: Recipient<StoreEvent>) -> Result<(), StoreError> {
        target.check(&self.limits)?;
        if self.by_id.contains_key(&id) {
            return Ok(());
        }
        if self.by_id.len() >= self.limits.max_watches {
            self.drop_dead();
        }
        if self.by_id.len() >= self.limits.max_watches {
            return Err(StoreError::TooManyWatches { max: self.limits.max_watches });
        }
        match &target {
            Target::Key(key) => self.keys.entry(Arc::clone(key)).or_default().push(id),
            Target::Prefix(prefix) => {
                let ids = self.prefixes.entry(Arc::clone(prefix)).or_default();
                if ids.is_empty() {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                }
                ids.push(id);
            }
        }
        self.by_id.insert(id, Watcher { target, to, missed: 0 });
        Ok(())
    }

    /// Returns true if the watch existed.
    pub(super) fn remove(&mut self, id: WatchId) -> bool {
        let Some(watcher) = self.by_id.remove(&id) else { return false };
        let index = match &watcher.target {
            Target::Key(_) => &mut self.keys,
            Target::Prefix(_) => &mut self.prefixes,
        };
        let text = watcher.target.text();
        let Some(ids) = index.get_mut(text) else { return true };
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(text);
            if let Target::Prefix(prefix) = &watcher.target {
                self.one_prefix_less(prefix.len());
            }
        }
        true
    }

    /// Sends the change to every watcher of the key, and drops watchers that have stopped.
    pub(super) fn announce(&mut self, change: &Change) {
        if self.by_id.is_empty() {
            return;
        }
        let mut reached = std::mem::take(&mut self.reached);
        reached.extend(self.keys.get(&*change.key).into_iter().flatten());
        for &length in self.lengths.range(..=change.key.len()).map(|(length, _)| length) {
            let prefix = change.key.get(..length);
            reached.extend(prefix.and_then(|prefix| self.prefixes.get(prefix)).into_iter().flatten());
        }
        for id in reached.drain(..) {
            self.tell(id, change);
        }
        self.reached = reached;
    }

    fn tell(&mut self, id: WatchId, change: &Change) {
        let Some(watcher) = self.by_id.get_mut(&id) else { return };
        let event = StoreEvent { key: Arc::clone(&change.key), change: change.what.clone(), missed: watcher.missed };
        match watcher.to.try_send(event) {
            Ok(()) => watcher.missed = 0,
            Err(SendError::Full(_)) => {
                watcher.missed += 1;
                self.missed += 1;
            }
            Err(SendError::Closed(_)) => {
                self.remove(id);
            }
        }
    }

    fn drop_dead(&mut self) {
        let dead: Vec<_> =
            self.by_id.iter().filter(|(_, watcher)| !watcher.to.connected()).map(|(id, _)| *id).collect();
        for id in dead {
            self.remove(id);
        }
    }

    fn one_prefix_less(&mut self, length: usize) {
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
    }
}
