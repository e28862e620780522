//! Who is told of changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::prelude::SendError;
use actix::{Message, Recipient};

use super::error::{StoreError, shown};
use super::value::{StoreLimits, StoreValue};

/// What became of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreChange {
    /// It has this value now.
    Set(StoreValue),
    /// It was deleted.
    Deleted,
    /// Its time ran out. Told when the value is removed, at the latest a moment after its end.
    Expired,
}

/// A change of a key, as its watchers are told.
///
/// A watcher whose mailbox is full misses events; it never slows the store. What it missed it learns from the next
/// event that reaches it, and may then read the keys anew.
#[derive(Clone, Debug, PartialEq, Message)]
#[rtype(result = "()")]
pub struct StoreEvent {
    /// The key.
    pub key: Arc<str>,
    /// What became of it.
    pub change: StoreChange,
    /// Events that this watch has missed right before this one.
    pub missed: u64,
}

/// Names a watch, to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(u64);

impl WatchId {
    /// An id that no other watch of this process has. Chosen by the one who asks, so that asking twice gives one
    /// watch.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A change that has not been told yet.
#[derive(Debug)]
pub(crate) struct Change {
    pub(super) key: Arc<str>,
    pub(super) what: StoreChange,
}

/// What is watched.
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

/// The watches. They outlive an incarnation of the actor, as the entries do.
pub(crate) struct Watchers {
    limits: StoreLimits,
    by_id: HashMap<WatchId, Watcher>,
    keys: HashMap<Arc<str>, Vec<WatchId>>,
    prefixes: HashMap<Arc<str>, Vec<WatchId>>,
    // How many prefixes there are of each length: a change costs one look-up for each length, not for each prefix.
    lengths: BTreeMap<usize, usize>,
    missed: u64,
    // Kept for its memory alone.
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

    /// Watches, and the events that were missed so far.
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

    /// True when there was such a watch.
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

    /// Tells everyone who watches the key; whoever is gone is dropped.
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
