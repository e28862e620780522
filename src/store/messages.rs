//! The messages of the store. They are listed in the table of [the module's doc](super).

use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};

use super::entries::Swept;
use super::error::StoreError;
use super::value::{StoreEntry, StorePage, StoreStats, StoreValue};
use super::watchers::{StoreEvent, Target, WatchId};

#[derive(Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Set {
    pub(crate) key: Arc<str>,
    pub(crate) value: StoreValue,
    pub(crate) ttl: Option<Duration>,
}

#[derive(Clone, Message)]
#[rtype(result = "Option<StoreEntry>")]
pub(crate) struct Get {
    pub(crate) key: Arc<str>,
}

#[derive(Clone, Message)]
#[rtype(result = "bool")]
pub(crate) struct Delete {
    pub(crate) key: Arc<str>,
}

#[derive(Clone, Message)]
#[rtype(result = "Result<bool, StoreError>")]
pub(crate) struct SetIfAbsent {
    pub(crate) key: Arc<str>,
    pub(crate) value: StoreValue,
    pub(crate) ttl: Option<Duration>,
}

#[derive(Clone, Message)]
#[rtype(result = "Result<bool, StoreError>")]
pub(crate) struct CompareAndSet {
    pub(crate) key: Arc<str>,
    pub(crate) expected: StoreValue,
    pub(crate) value: StoreValue,
    pub(crate) ttl: Option<Duration>,
}

#[derive(Clone, Message)]
#[rtype(result = "Result<i64, StoreError>")]
pub(crate) struct Increment {
    pub(crate) key: Arc<str>,
    pub(crate) by: i64,
}

#[derive(Clone, Message)]
#[rtype(result = "StorePage")]
pub(crate) struct Keys {
    pub(crate) prefix: Arc<str>,
    pub(crate) after: Option<Arc<str>>,
    pub(crate) limit: usize,
}

/// Removes a slice of the expired entries.
#[derive(Clone, Message)]
#[rtype(result = "Swept")]
pub(crate) struct Cleanup;

#[derive(Clone, Message)]
#[rtype(result = "StoreStats")]
pub(crate) struct Stats;

#[derive(Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub(crate) struct Watch {
    pub(crate) id: WatchId,
    pub(crate) target: Target,
    pub(crate) to: Recipient<StoreEvent>,
}

#[derive(Clone, Message)]
#[rtype(result = "bool")]
pub(crate) struct Unwatch {
    pub(crate) id: WatchId,
}

/// Makes the store's actor panic, so that a test can check that nothing is lost.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Crash;
