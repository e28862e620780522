//! The public store: a key-value store shared by every part of an application. Each value may have a time to live.
//!
//! The store is in the memory of this process. A restart of its actor loses nothing; a restart of the process loses all
//! entries. Applications use it through [`StoreHandle`].
//!
//! | message | sent by | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | `Set` | handle | done, or the error | no: the sender gets an error | yes |
//! | `Get` | handle | the value with its remaining time, if live | no | yes |
//! | `Delete` | handle | whether there was a live value | no | yes, though the second reply is `false` |
//! | `SetIfAbsent` | handle | whether it was set | no | no: the second reply would deny the first |
//! | `CompareAndSet` | handle | whether it was set | no | no, as above |
//! | `Increment` | handle | the sum | no | no: it would count twice |
//! | `Keys` | handle | a page of keys | no | yes |
//! | `Cleanup` | handle | the result of a slice: how many were removed, and whether more are left | no | yes |
//! | `Stats` | handle, `health()` | the size of the store | no | yes |
//! | `Watch` | handle | done, or the error | no | yes: the sender chooses the id |
//! | `Unwatch` | handle | whether the watch existed | no | yes |
//! | `Crash` | tests | none | yes | yes: it panics again |
//!
//! A message that is not safe to repeat is sent once. If its reply is lost, the handle returns [`StoreError::Unknown`].
//!
//! The actor removes entries when they expire. It sleeps until the next expiry and works in slices of 2,000, so that
//! requests are handled in between. Correctness does not depend on the removal: an expired value is never returned,
//! removed or not. Each write also removes two expired entries.

mod entries;
mod error;
mod handle;
mod messages;
#[cfg(test)]
mod tests;
mod value;
mod watchers;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, MessageResult, StreamHandler};
use futures_util::stream::{self, Stream};
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use entries::{Entries, Swept};
pub use error::StoreError;
pub use handle::StoreHandle;
#[cfg(any(test, feature = "testing"))]
pub use messages::Crash;
use messages::{Cleanup, CompareAndSet, Delete, Get, Increment, Keys, Set, SetIfAbsent, Stats, Unwatch, Watch};
pub use value::{StoreEntry, StoreLimits, StorePage, StoreStats, StoreValue};
use watchers::Watchers;
pub use watchers::{StoreChange, StoreEvent, WatchId};

use crate::actor::{Ping, Supervised};
use crate::clock::Clock;

/// The greatest number of expired entries removed per turn: about 4 ms of work.
const SLICE: usize = 2_000;
/// The longest sleep. When nothing expires, this is the interval at which the guardian sees that the actor is alive.
const LONGEST_NAP: Duration = Duration::from_secs(10);
/// Requests that the mailbox holds before senders have to wait.
const MAILBOX: usize = 1024;

/// The state that survives a restart of the actor.
pub(crate) struct Kept {
    entries: Entries,
    watchers: Watchers,
}

impl Kept {
    /// An empty store.
    pub(crate) fn new(limits: StoreLimits) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { entries: Entries::new(limits), watchers: Watchers::new(limits) }))
    }

    fn announce(&mut self) {
        for change in self.entries.changes() {
            self.watchers.announce(&change);
        }
    }

    fn stats(&self) -> StoreStats {
        let (entries, with_ttl, bytes) = self.entries.size();
        let (watches, missed_events) = self.watchers.size();
        StoreStats { entries, with_ttl, bytes, watches, missed_events }
    }
}

/// The actor of the public store.
pub(crate) struct Store {
    kept: Arc<Mutex<Kept>>,
    clock: Clock,
    life: Supervised,
    // The time for which the alarm is set. This copy is kept because asking the channel would take its lock at each
    // write.
    due: Option<Duration>,
    alarm: watch::Sender<Option<Duration>>,
}

impl Store {
    /// A new actor on the state that its predecessors kept.
    pub(crate) fn new(kept: Arc<Mutex<Kept>>, clock: Clock, life: Supervised) -> Self {
        let due = kept.lock().entries.next_expiry();
        Self { kept, clock, life, due, alarm: watch::Sender::new(due) }
    }

    /// Removes a slice of the entries that have expired at `now`, in monotonic time.
    pub(crate) fn sweep(&mut self, now: Duration) -> Swept {
        let mut kept = self.kept.lock();
        let swept = kept.entries.remove_expired(now, SLICE);
        kept.announce();
        swept
    }

    fn read<R>(&self, ask: impl FnOnce(&Entries, Duration) -> R) -> R {
        ask(&self.kept.lock().entries, self.clock.elapsed())
    }

    /// Does a write, announces the changes to the watchers, and sets the alarm earlier if needed.
    fn write<R>(&mut self, act: impl FnOnce(&mut Entries, Duration) -> R) -> R {
        let mut kept = self.kept.lock();
        let answer = act(&mut kept.entries, self.clock.elapsed());
        kept.announce();
        let next = kept.entries.next_expiry();
        drop(kept);
        if next.is_some_and(|next| self.due.is_none_or(|due| next < due)) {
            self.set_alarm(next);
        }
        answer
    }

    fn set_alarm(&mut self, due: Option<Duration>) {
        self.due = due;
        self.alarm.send_replace(due);
    }
}

/// The alarm: look for expired entries now.
struct Ring;

/// Yields a [`Ring`] at each due time. A single stream serves the actor for its whole life. A timer for each change of
/// the due time would pile up, because a flooded actor does not poll its timers.
fn rings(clock: Clock, due: watch::Receiver<Option<Duration>>) -> impl Stream<Item = Ring> {
    stream::unfold((clock, due), |(clock, mut due)| async move {
        loop {
            let at = *due.borrow_and_update();
            let nap = at.map_or(LONGEST_NAP, |at| at.saturating_sub(clock.elapsed()).min(LONGEST_NAP));
            if nap.is_zero() {
                // Overdue, perhaps with many slices to come, so yield first to the other work on this thread.
                tokio::task::yield_now().await;
                return Some((Ring, (clock, due)));
            }
            tokio::select! {
                () = clock.sleep(nap) => return Some((Ring, (clock, due))),
                changed = due.changed() => if changed.is_err() { return None },
            }
        }
    })
}

impl Actor for Store {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.add_stream(Box::pin(rings(self.clock.clone(), self.alarm.subscribe())));
        self.life.tick(&self.clock);
    }
}

impl StreamHandler<Ring> for Store {
    fn handle(&mut self, _: Ring, ctx: &mut Self::Context) {
        if !ctx.connected() {
            // Stop, because the alarm alone would keep alive an actor that no longer has an address.
            return ctx.stop();
        }
        self.sweep(self.clock.elapsed());
        self.life.tick(&self.clock);
        let next = self.read(|entries, _| entries.next_expiry());
        self.set_alarm(next);
    }
}

impl Handler<Ping> for Store {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Self::Context) {
        self.life.tick(&self.clock);
    }
}

impl Handler<Set> for Store {
    type Result = Result<(), StoreError>;
    fn handle(&mut self, Set { key, value, ttl }: Set, _: &mut Self::Context) -> Self::Result {
        self.write(|entries, now| entries.set(now, key, value, ttl))
    }
}

impl Handler<Get> for Store {
    type Result = Option<StoreEntry>;
    fn handle(&mut self, Get { key }: Get, _: &mut Self::Context) -> Self::Result {
        self.read(|entries, now| entries.get(now, &key))
    }
}

impl Handler<Delete> for Store {
    type Result = bool;
    fn handle(&mut self, Delete { key }: Delete, _: &mut Self::Context) -> Self::Result {
        self.write(|entries, now| entries.delete(now, &key))
    }
}

impl Handler<SetIfAbsent> for Store {
    type Result = Result<bool, StoreError>;
    fn handle(&mut self, SetIfAbsent { key, value, ttl }: SetIfAbsent, _: &mut Self::Context) -> Self::Result {
        self.write(|entries, now| entries.set_if_absent(now, key, value, ttl))
    }
}

impl Handler<CompareAndSet> for Store {
    type Result = Result<bool, StoreError>;
    fn handle(&mut self, message: CompareAndSet, _: &mut Self::Context) -> Self::Result {
        let CompareAndSet { key, expected, value, ttl } = message;
        self.write(|entries, now| entries.compare_and_set(now, key, &expected, value, ttl))
    }
}

impl Handler<Increment> for Store {
    type Result = Result<i64, StoreError>;
    fn handle(&mut self, Increment { key, by }: Increment, _: &mut Self::Context) -> Self::Result {
        self.write(|entries, now| entries.increment(now, key, by))
    }
}

impl Handler<Keys> for Store {
    type Result = MessageResult<Keys>;
    fn handle(&mut self, Keys { prefix, after, limit }: Keys, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.read(|entries, now| entries.page(now, &prefix, after.as_deref(), limit)))
    }
}

impl Handler<Cleanup> for Store {
    type Result = MessageResult<Cleanup>;
    fn handle(&mut self, _: Cleanup, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.sweep(self.clock.elapsed()))
    }
}

impl Handler<Stats> for Store {
    type Result = MessageResult<Stats>;
    fn handle(&mut self, _: Stats, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.kept.lock().stats())
    }
}

impl Handler<Watch> for Store {
    type Result = Result<(), StoreError>;
    fn handle(&mut self, Watch { id, target, to }: Watch, _: &mut Self::Context) -> Self::Result {
        self.kept.lock().watchers.add(id, target, to)
    }
}

impl Handler<Unwatch> for Store {
    type Result = bool;
    fn handle(&mut self, Unwatch { id }: Unwatch, _: &mut Self::Context) -> Self::Result {
        self.kept.lock().watchers.remove(id)
    }
}

#[cfg(any(test, feature = "testing"))]
impl Handler<Crash> for Store {
    type Result = ();
    #[expect(clippy::panic, reason = "to panic is what it is asked for")]
    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("the store crashes because a test asked for it");
    }
}
