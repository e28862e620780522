//! What an application holds of the store.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message, Recipient};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Store;
use super::error::{StoreError, shown};
use super::messages::{
    Cleanup, CompareAndSet, Delete, Get, Increment, Keys, Set, SetIfAbsent, Stats, Unwatch, Watch,
};
use super::value::{StoreEntry, StorePage, StoreStats, StoreValue};
use super::watchers::{StoreEvent, Target, WatchId};
use crate::actor::RestartableAddr;

/// How long to wait for a restart before the second and the third try. Real time, whatever clock the board runs on:
/// the one who asks is waiting now.
const PAUSES: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(250)];

/// The public store, as an application holds it. Cloning is cheap; all clones speak to the same store.
///
/// ```
/// use callboard::store::{StoreError, StoreHandle};
/// use std::time::Duration;
///
/// async fn visits(store: &StoreHandle) -> Result<(), StoreError> {
///     store.set_public("motd", "welcome", None).await?;
///     store.set_public("session:42", serde_json::json!({"user": 7}), Some(Duration::from_secs(1800))).await?;
///     let count = store.increment("visits", 1).await?;
///     let message = store.get_public("motd").await?;
///     assert!(message.is_some_and(|message| message == "welcome"));
///     # let _ = count;
///     Ok(())
/// }
/// ```
///
/// Across a restart of the store's actor, requests that may be repeated are tried again, twice, within 0.3 s; then
/// they fail with [`StoreError::NotAnswering`]. After the board has stopped all fail with [`StoreError::Closed`]. The others are sent once; when their reply is lost they fail with
/// [`StoreError::Unknown`]. A request whose future is dropped may still take effect.
#[derive(Clone)]
pub struct StoreHandle {
    line: RestartableAddr<Store>,
}

impl StoreHandle {
    /// A handle on whoever is at the end of the line.
    pub(crate) fn new(line: RestartableAddr<Store>) -> Self {
        Self { line }
    }

    /// Sets a key, with a time to live or for ever. Replaces the old value and its time to live.
    ///
    /// # Errors
    /// When a limit is exceeded, the time to live is 0, or the store is not answering.
    pub async fn set_public(
        &self,
        key: &str,
        value: impl Into<Value>,
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.put(key, StoreValue::encode(&value.into())?, ttl).await
    }

    /// The value of a key, unless it is absent or has expired.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn get_public(&self, key: &str) -> Result<Option<Value>, StoreError> {
        self.get(key).await
    }

    /// Removes a key; true when there was a live value. When the store was restarted in between, the answer may be
    /// false though this very request removed it.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn delete_public(&self, key: &str) -> Result<bool, StoreError> {
        self.ask(Delete { key: key.into() }).await
    }

    /// Removes what has expired, in slices between which others have their turn, and says how many values that
    /// were. The store does this by itself.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn cleanup(&self) -> Result<usize, StoreError> {
        let mut removed = 0;
        loop {
            let swept = self.ask(Cleanup).await?;
            removed += swept.removed;
            if !swept.more {
                return Ok(removed);
            }
        }
    }

    /// Sets a key to a value of your own type. As [`set_public`](Self::set_public) else.
    ///
    /// # Errors
    /// As there, and when the value has no JSON form.
    pub async fn set(
        &self,
        key: &str,
        value: &(impl Serialize + ?Sized),
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.put(key, StoreValue::encode(value)?, ttl).await
    }

    /// The value of a key as a type of your own.
    ///
    /// # Errors
    /// When it is no such type, or the store is not answering.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let entry = self.get_entry(key).await?;
        entry.map(|entry| entry.value.decode_as(key)).transpose()
    }

    /// The value of a key with the time it has left. Costs the same whatever the size of the value.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn get_entry(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        self.ask(Get { key: key.into() }).await
    }

    /// Sets a key that has no live value; false when it has one, which stays as it is.
    ///
    /// # Errors
    /// As [`set_public`](Self::set_public), and [`StoreError::Unknown`] when the reply was lost.
    pub async fn set_if_absent(
        &self,
        key: &str,
        value: impl Into<Value>,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let value = StoreValue::encode(&value.into())?;
        self.ask_once(key, SetIfAbsent { key: key.into(), value, ttl }).await?
    }

    /// Sets a key whose value equals `expected`, and replaces its time to live too; false when it has another value
    /// or none.
    ///
    /// # Errors
    /// As [`set_public`](Self::set_public), and [`StoreError::Unknown`] when the reply was lost.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: impl Into<Value>,
        value: impl Into<Value>,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let expected = StoreValue::encode(&expected.into())?;
        let value = StoreValue::encode(&value.into())?;
        self.ask_once(key, CompareAndSet { key: key.into(), expected, value, ttl }).await?
    }

    /// Adds to a whole number and gives the sum. An absent key counts as 0, without a time to live; a present one
    /// keeps what time it has left.
    ///
    /// # Errors
    /// When the value is no whole number or the sum does not fit in 64 bits (it then stays as it was), when a limit
    /// is exceeded, and [`StoreError::Unknown`] when the reply was lost.
    pub async fn increment(&self, key: &str, by: i64) -> Result<i64, StoreError> {
        self.ask_once(key, Increment { key: key.into(), by }).await?
    }

    /// One page of the live keys that begin with `prefix`, in order: up to `limit` (at most 1,000) that come after
    /// the key `after`, which need not exist any more. Go on from [`StorePage::next`] until it is empty.
    ///
    /// # Errors
    /// When the store is not answering.
    ///
    /// ```
    /// # use callboard::store::{StoreError, StoreHandle};
    /// async fn count(store: &StoreHandle, prefix: &str) -> Result<usize, StoreError> {
    ///     let (mut count, mut after) = (0, None);
    ///     loop {
    ///         let page = store.keys(prefix, after.as_deref(), 1_000).await?;
    ///         count += page.keys.len();
    ///         after = page.next;
    ///         if after.is_none() {
    ///             return Ok(count);
    ///         }
    ///     }
    /// }
    /// ```
    pub async fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<StorePage, StoreError> {
        self.ask(Keys { prefix: prefix.into(), after: after.map(Arc::from), limit }).await
    }

    /// Tells `to` of each change of a key from now on. The watch holds the address, and with it the actor, until
    /// [`unwatch`](Self::unwatch) or until the actor stops itself.
    ///
    /// # Errors
    /// When there are too many watches, or the store is not answering.
    pub async fn watch_key(&self, key: &str, to: Recipient<StoreEvent>) -> Result<WatchId, StoreError> {
        self.watch(Target::Key(key.into()), to).await
    }

    /// Tells `to` of each change of the keys that begin with `prefix`; the empty prefix is that of all keys. As
    /// [`watch_key`](Self::watch_key) else.
    ///
    /// # Errors
    /// As there.
    pub async fn watch_prefix(&self, prefix: &str, to: Recipient<StoreEvent>) -> Result<WatchId, StoreError> {
        self.watch(Target::Prefix(prefix.into()), to).await
    }

    /// Ends a watch; false when it had ended already.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn unwatch(&self, id: WatchId) -> Result<bool, StoreError> {
        self.ask(Unwatch { id }).await
    }

    /// How much the store holds.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.ask(Stats).await
    }

    /// Makes the store's actor panic; returns when it has. What the store holds stays.
    #[cfg(any(test, feature = "testing"))]
    pub async fn crash(&self) {
        if let Some(address) = self.line.address() {
            // An error is what a panic looks like from here.
            let _closed = address.send(super::Crash).await;
        }
    }

    async fn put(&self, key: &str, value: StoreValue, ttl: Option<Duration>) -> Result<(), StoreError> {
        self.ask(Set { key: key.into(), value, ttl }).await?
    }

    async fn watch(&self, target: Target, to: Recipient<StoreEvent>) -> Result<WatchId, StoreError> {
        let id = WatchId::next();
        self.ask(Watch { id, target, to }).await?.map(|()| id)
    }

    /// For what may be handled twice.
    async fn ask<M>(&self, message: M) -> Result<M::Result, StoreError>
    where
        M: Message + Clone + Send + 'static,
        M::Result: Send,
        Store: Handler<M>,
        <Store as Actor>::Context: ToEnvelope<Store, M>,
    {
        for pause in PAUSES {
            if let Ok(answer) = self.line.ask(message.clone()).await {
                return Ok(answer);
            }
            self.rest(pause).await?;
        }
        self.line.ask(message).await.map_err(|_| self.silent())
    }

    /// For what must not be handled twice: waits for a live actor, then sends once.
    async fn ask_once<M>(&self, key: &str, message: M) -> Result<M::Result, StoreError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Store: Handler<M>,
        <Store as Actor>::Context: ToEnvelope<Store, M>,
    {
        let address = self.live().await?;
        address.send(message).await.map_err(|_| StoreError::Unknown { key: shown(key) })
    }

    async fn live(&self) -> Result<Addr<Store>, StoreError> {
        let live = || self.line.address().filter(Addr::connected);
        for pause in PAUSES {
            if let Some(address) = live() {
                return Ok(address);
            }
            self.rest(pause).await?;
        }
        live().ok_or_else(|| self.silent())
    }

    /// Why nobody answers.
    fn silent(&self) -> StoreError {
        if self.line.is_closed() { StoreError::Closed } else { StoreError::NotAnswering }
    }

    /// Gives the actor time to come back, if it does.
    async fn rest(&self, pause: Duration) -> Result<(), StoreError> {
        // Without a runtime there is no timer to wait on, and the caller may as well know at once.
        if self.line.is_closed() || tokio::runtime::Handle::try_current().is_err() {
            return Err(self.silent());
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
