//! Events: facts about tasks and the node, fanned out to all subscribers.
//!
//! A fact is put into a bounded buffer for each subscriber, on the thread where it happened. The [`Fanout`] actor
//! carries it from there. A subscriber that is slower than the queue loses facts, which are counted for it. It never
//! slows the queue.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`Attend`] | [`Events`], for a new subscriber | none | yes: a restarted actor attends to all subscribers | yes |
//! | [`Ping`] | the guardian | none | with its actor, whose successor gives a sign of life | yes |

mod fact;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use parking_lot::RwLock;
use slog::{Logger, error};
use tokio::sync::mpsc;

pub(crate) use fact::Fact;
pub use fact::{Event, TaskFact};

use crate::actor::{Ping, RestartableAddr, Supervised};
use crate::clock::Clock;
use crate::logging::keys;
use crate::panics::caught;

/// Names a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionId(u64);

/// Where facts are published.
pub(crate) struct Events {
    subscribers: RwLock<Vec<Subscription>>,
    // Lets the usual case, no subscriber, skip making the fact.
    count: AtomicUsize,
    last_id: AtomicU64,
    buffer: usize,
    line: RestartableAddr<Fanout>,
}

/// A subscriber and the sender of its buffer. The sender ends with the subscription, and the attendance ends with the
/// sender.
struct Subscription {
    facts: mpsc::Sender<Event>,
    subscriber: Arc<Subscriber>,
}

struct Subscriber {
    id: SubscriptionId,
    // Locked by the actor that attends to the subscriber, and free again if that actor dies.
    waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Event>>>,
    to: Target,
    missed: AtomicU64,
    /// Facts that were put into its buffer. `arrived` counts the facts that it has received.
    laid: AtomicU64,
    arrived: AtomicU64,
    gone: AtomicBool,
}

/// A fact on its way from the buffer to a subscriber. It also counts as arrived when the actor dies meanwhile.
struct OnItsWay<'a>(&'a Subscriber);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.arrived.fetch_add(1, Ordering::Release);
    }
}

enum Target {
    Recipient(Recipient<Event>),
    Callback(Box<dyn Fn(&Event) + Send + Sync>),
}

impl Events {
    pub(crate) fn new(buffer: usize) -> Self {
        Self {
            subscribers: RwLock::default(),
            count: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
            buffer,
            line: RestartableAddr::new("events"),
        }
    }

    pub(crate) fn line(&self) -> &RestartableAddr<Fanout> {
        &self.line
    }

    /// True if there is a subscriber.
    pub(crate) fn is_heard(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Sends a fact to every subscriber; the fact is made only if there is a subscriber.
    pub(crate) fn publish(&self, fact: impl FnOnce() -> Event) {
        if !self.is_heard() {
            return;
        }
        let event = fact();
        for Subscription { facts, subscriber } in &*self.subscribers.read() {
            // Counted first, so that a fact on its way is never missing from the count.
            subscriber.laid.fetch_add(1, Ordering::Release);
            if let Err(refused) = facts.try_send(event.clone()) {
                subscriber.laid.fetch_sub(1, Ordering::Release);
                if matches!(refused, mpsc::error::TrySendError::Full(_)) {
                    subscriber.missed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// True when every fact so far has reached its subscribers, and callbacks have returned.
    #[cfg(feature = "testing")]
    pub(crate) fn all_arrived(&self) -> bool {
        let arrived = |subscriber: &Subscriber| {
            subscriber.gone.load(Ordering::Relaxed)
                || subscriber.arrived.load(Ordering::Acquire) == subscriber.laid.load(Ordering::Acquire)
        };
        self.subscribers.read().iter().all(|subscription| arrived(&subscription.subscriber))
    }

    pub(crate) fn subscribe(&self, recipient: Recipient<Event>) -> SubscriptionId {
        self.add(Target::Recipient(recipient))
    }

    pub(crate) fn call(&self, callback: Box<dyn Fn(&Event) + Send + Sync>) -> SubscriptionId {
        self.add(Target::Callback(callback))
    }

    fn add(&self, to: Target) -> SubscriptionId {
        let id = SubscriptionId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let (facts, waiting) = mpsc::channel(self.buffer);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let subscriber = Arc::new(Subscriber {
            id,
            waiting,
            to,
            missed: AtomicU64::new(0),
            laid: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        });
        let mut subscribers = self.subscribers.write();
        subscribers.push(Subscription { facts, subscriber: Arc::clone(&subscriber) });
        self.count.store(subscribers.len(), Ordering::Release);
        drop(subscribers);
        self.line.poke(Attend(subscriber));
        id
    }

    /// Ends a subscription; false when there was none.
    pub(crate) fn unsubscribe(&self, id: SubscriptionId) -> bool {
        let mut subscribers = self.subscribers.write();
        let before = subscribers.len();
        subscribers.retain(|Subscription { subscriber, .. }| {
            let stays = subscriber.id != id;
            if !stays {
                // Facts that are still in its buffer are not for it any more.
                subscriber.gone.store(true, Ordering::Relaxed);
            }
            stays
        });
        self.count.store(subscribers.len(), Ordering::Release);
        subscribers.len() < before
    }

    /// Ends all subscriptions, and resolves when the published facts have reached the subscribers.
    pub(crate) async fn close(&self) {
        let subscriptions = std::mem::take(&mut *self.subscribers.write());
        self.count.store(0, Ordering::Release);
        for Subscription { facts, subscriber } in subscriptions {
            // Without a sender the attendant comes to the end of the buffer, and then releases the lock.
            drop(facts);
            drop(subscriber.waiting.lock().await);
        }
    }

    /// Facts that a subscriber was too slow to receive.
    pub(crate) fn missed(&self, id: SubscriptionId) -> Option<u64> {
        let subscribers = self.subscribers.read();
        let of_id = subscribers.iter().find(|subscription| subscription.subscriber.id == id);
        of_id.map(|subscription| subscription.subscriber.missed.load(Ordering::Relaxed))
    }

    /// Facts that all subscribers together were too slow to receive.
    pub(crate) fn missed_by_all(&self) -> u64 {
        self.subscribers.read().iter().map(|s| s.subscriber.missed.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn fanout(self: &Arc<Self>, clock: Clock, log: Logger, life: Supervised) -> Fanout {
        Fanout { events: Arc::clone(self), clock, log, life }
    }
}

/// Carries facts from the buffers to the subscribers.
pub(crate) struct Fanout {
    events: Arc<Events>,
    clock: Clock,
    log: Logger,
    life: Supervised,
}

/// Carry facts to this subscriber.
#[derive(Message)]
#[rtype(result = "()")]
struct Attend(Arc<Subscriber>);

impl Fanout {
    fn attend(&self, subscriber: Arc<Subscriber>, ctx: &mut Context<Self>) {
        let (log, events) = (self.log.clone(), Arc::clone(&self.events));
        let carry = async move {
            // A second attendant of the same subscriber waits here until the first is gone.
            let mut waiting = subscriber.waiting.lock().await;
            while let Some(event) = waiting.recv().await {
                if subscriber.gone.load(Ordering::Relaxed) {
                    break;
                }
                let _on_its_way = OnItsWay(&subscriber);
                let arrived = match &subscriber.to {
                    Target::Recipient(recipient) => recipient.send(event).await.is_ok(),
                    Target::Callback(callback) => {
                        if let Err(text) = caught(|| callback(&event)) {
                            error!(log, "a callback panicked; it is called with the next event again"; keys::ERROR => text);
                        }
                        true
                    }
                };
                if !arrived {
                    // The subscriber's actor has ended and will never receive anything. No further fact is made or kept
                    // for it.
                    events.unsubscribe(subscriber.id);
                    break;
                }
            }
        };
        ctx.spawn(carry.into_actor(self));
    }
}

impl Actor for Fanout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.life.tick(&self.clock);
        for subscription in &*self.events.subscribers.read() {
            self.attend(Arc::clone(&subscription.subscriber), ctx);
        }
    }
}

impl Handler<Attend> for Fanout {
    type Result = ();
    fn handle(&mut self, Attend(subscriber): Attend, ctx: &mut Self::Context) {
        self.life.tick(&self.clock);
        self.attend(subscriber, ctx);
    }
}

impl Handler<Ping> for Fanout {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Self::Context) {
        self.life.tick(&self.clock);
    }
}

#[cfg(feature = "testing")]
crate::actor::crash_on_request!(Fanout);
