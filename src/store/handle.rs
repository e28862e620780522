//! The application's handle on the store.

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

/// The waits before the second and the third try, in which the actor may restart. Real time on every board clock,
/// because the caller is really waiting.
const PAUSES: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(250)];

/// The application's handle on the public store. Cloning is cheap; all clones use the same store.
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
/// Requests that are safe to repeat are retried twice, within 0.3 s, while the store's actor restarts; then they fail
/// with [`StoreError::NotAnswering`]. Requests that are not safe to repeat are sent once. If their reply is lost, they
/// fail with [`StoreError::Unknown`]. After the board has stopped, every request fails with [`StoreError::Closed`]. A
/// request whose future is dropped may still take effect.
#[derive(Clone)]
pub struct StoreHandle {
    line: RestartableAddr<Store>,
}

impl StoreHandle {
    /// A handle on the actor behind this restartable address.
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

    /// The value of a key; `None` if it is absent or has expired.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn get_public(&self, key: &str) -> Result<Option<Value>, StoreError> {
        self.get(key).await
    }

    /// Removes a key; returns true if there was a live value. If the store was restarted in between, the result may be
    /// false although this request removed the value.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn delete_public(&self, key: &str) -> Result<bool, StoreError> {
        self.ask(Delete { key: key.into() }).await
    }

    /// Removes the expired values and returns their number. It works in slices, between which the store handles other
    /// requests. The store also does this by itself.
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

    /// Sets a key to a value of your own type. In all other respects it works like [`set_public`](Self::set_public).
    ///
    /// # Errors
    /// As for `set_public`, and when the value has no JSON form.
    pub async fn set(
        &self,
        key: &str,
        value: &(impl Serialize + ?Sized),
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.put(key, StoreValue::encode(value)?, ttl).await
    }

    /// The value of a key, read as your own type.
    ///
    /// # Errors
    /// When the value does not match the type, or the store is not answering.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let entry = self.get_entry(key).await?;
        entry.map(|entry| entry.value.decode_as(key)).transpose()
    }

    /// The value of a key with its remaining time. The cost does not depend on the size of the value.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn get_entry(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        self.ask(Get { key: key.into() }).await
    }

    /// Sets a key that has no live value. If it has a live value, that value stays and the result is false.
    ///
    /// # Errors
    /// As for [`set_public`](Self::set_public), and [`StoreError::Unknown`] when the reply was lost.
    pub async fn set_if_absent(
        &self,
        key: &str,
        value: impl Into<Value>,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let value = StoreValue::encode(&value.into())?;
        self.ask_once(key, SetIfAbsent { key: key.into(), value, ttl }).await?
    }

    /// Sets a key whose value equals `expected`, and also replaces its time to live. If the key has a different value
    /// or none, nothing changes and the result is false.
    ///
    /// # Errors
    /// As for [`set_public`](Self::set_public), and [`StoreError::Unknown`] when the reply was lost.
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

    /// Adds to a whole number and returns the sum. An absent key counts as 0 and gets no time to live. An existing key
    /// keeps its remaining time.
    ///
    /// # Errors
    /// When the value is not a whole number, or the sum does not fit in 64 bits; the value then stays unchanged. Also
    /// when a limit is exceeded, and [`StoreError::Unknown`] when the reply was lost.
    pub async fn increment(&self, key: &str, by: i64) -> Result<i64, StoreError> {
        self.ask_once(key, Increment { key: key.into(), by }).await?
    }

    /// One page of the live keys that begin with `prefix`, in order: up to `limit` keys (at most 1,000) that follow the
    /// key `after`. The key `after` need not exist any more. Continue from [`StorePage::next`] until it is empty.
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

    /// Sends `to` an event for each change of a key from now on. The watch holds the address, and so keeps its actor
    /// alive. It lasts until [`unwatch`](Self::unwatch) or until the actor stops itself.
    ///
    /// # Errors
    /// When there are too many watches, or the store is not answering.
    pub async fn watch_key(&self, key: &str, to: Recipient<StoreEvent>) -> Result<WatchId, StoreError> {
        self.watch(Target::Key(key.into()), to).await
    }

    /// Sends `to` an event for each change of the keys that begin with `prefix`. The empty prefix matches all keys. In
    /// all other respects it works like [`watch_key`](Self::watch_key).
    ///
    /// # Errors
    /// As for `watch_key`.
    pub async fn watch_prefix(&self, prefix: &str, to: Recipient<StoreEvent>) -> Result<WatchId, StoreError> {
        self.watch(Target::Prefix(prefix.into()), to).await
    }

    /// Ends a watch; returns false if it had already ended.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn unwatch(&self, id: WatchId) -> Result<bool, StoreError> {
        self.ask(Unwatch { id }).await
    }

    /// The size of the store.
    ///
    /// # Errors
    /// When the store is not answering.
    pub async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.ask(Stats).await
    }

    /// Makes the store's actor panic, and returns after the panic. The contents of the store stay.
    #[cfg(any(test, feature = "testing"))]
    pub async fn crash(&self) {
        if let Some(address) = self.line.address() {
            // The caller sees a panic as an error.
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

    /// Sends a message that is safe to repeat, with retries.
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

    /// Sends a message that must not be repeated: waits for a live actor, then sends once.
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

    /// The error when the actor does not answer.
    fn silent(&self) -> StoreError {
        if self.line.is_closed() { StoreError::Closed } else { StoreError::NotAnswering }
    }

    /// Waits for the actor to restart. Fails at once if it will not restart.
    async fn rest(&self, pause: Duration) -> Result<(), StoreError> {
        // Without a tokio runtime there is no timer to wait on, so the error is returned at once.
        if self.line.is_closed() || tokio::runtime::Handle::try_current().is_err() {
            return Err(self.silent());
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
