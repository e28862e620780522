//! Tests of the actor and its handle, on a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use crate::actor::{Liveness, Part, RestartableAddr, Supervised};
use crate::clock::{Clock, Timestamp};
use crate::store::{Kept, Store, StoreChange, StoreError, StoreEvent, StoreHandle, StoreLimits};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    clock: Clock,
    kept: Arc<Mutex<Kept>>,
    line: RestartableAddr<Store>,
    store: StoreHandle,
    pulse: Arc<Liveness>,
    died: mpsc::UnboundedSender<Part>,
    deaths: mpsc::UnboundedReceiver<Part>,
}

impl World {
    fn new() -> Self {
        Self::limited(StoreLimits::default())
    }

    fn limited(limits: StoreLimits) -> Self {
        let (died, deaths) = mpsc::unbounded_channel();
        let line = RestartableAddr::new("store");
        let store = StoreHandle::new(line.clone());
        let clock = Clock::manual(Timestamp::from_micros(0));
        let world = Self { clock, kept: Kept::new(limits), line, store, pulse: Arc::default(), died, deaths };
        world.start();
        world
    }

    fn start(&self) {
        let life = Supervised::new(Part::Store, self.died.clone(), Arc::clone(&self.pulse));
        self.line.connect(Store::new(Arc::clone(&self.kept), self.clock.clone(), life).start());
    }

    async fn crash(&mut self) {
        self.store.crash().await;
        assert_eq!(self.deaths.recv().await, Some(Part::Store));
    }
}

struct Ear(mpsc::UnboundedSender<StoreEvent>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<StoreEvent> for Ear {
    type Result = ();
    fn handle(&mut self, event: StoreEvent, _: &mut Self::Context) {
        self.0.send(event).ok();
    }
}

fn ear() -> (Recipient<StoreEvent>, mpsc::UnboundedReceiver<StoreEvent>) {
    let (heard, events) = mpsc::unbounded_channel();
    (Ear(heard).start().recipient(), events)
}

async fn next(events: &mut mpsc::UnboundedReceiver<StoreEvent>) -> (String, StoreChange) {
    let event = events.recv().await.unwrap();
    (event.key.to_string(), event.change)
}

#[actix::test]
async fn what_is_set_is_got_until_it_is_deleted() {
    let World { store, .. } = World::new();
    store.set_public("k", json!({"a": [1, 0.1]}), None).await.unwrap();
    assert_eq!(store.get_public("k").await.unwrap(), Some(json!({"a": [1, 0.1]})));
    assert!(store.delete_public("k").await.unwrap());
    assert!(!store.delete_public("k").await.unwrap());
    assert_eq!(store.get_public("k").await.unwrap(), None);
}

#[actix::test]
async fn types_of_ones_own_go_in_and_out() {
    let World { store, .. } = World::new();
    store.set("k", &("name", Some(7_u8)), None).await.unwrap();
    assert_eq!(store.get::<(String, Option<u8>)>("k").await.unwrap(), Some(("name".into(), Some(7))));
    let error = store.get::<u8>("k").await.unwrap_err();
    assert!(matches!(&error, StoreError::Decode { key, .. } if key == "k"), "{error}");
    assert_eq!(store.get::<u8>("absent").await.unwrap(), None);
}

#[actix::test]
async fn an_expired_value_is_removed_when_its_moment_comes() {
    let World { store, clock, .. } = World::new();
    let (to, mut events) = ear();
    store.watch_prefix("", to).await.unwrap();
    store.set_public("late", 1, Some(60 * SECOND)).await.unwrap();
    store.set_public("early", 1, Some(SECOND)).await.unwrap();
    assert_eq!(store.get_entry("early").await.unwrap().unwrap().ttl, Some(SECOND));
    for key in ["late", "early"] {
        assert_eq!(next(&mut events).await.0, key);
    }
    clock.advance(SECOND);
    assert_eq!(next(&mut events).await, ("early".into(), StoreChange::Expired));
    assert_eq!(store.stats().await.unwrap().entries, 1);
    clock.advance(59 * SECOND);
    assert_eq!(next(&mut events).await, ("late".into(), StoreChange::Expired));
}

#[actix::test]
async fn setting_the_wall_clock_neither_kills_nor_revives() {
    let World { store, clock, .. } = World::new();
    store.set_public("k", 1, Some(SECOND)).await.unwrap();
    clock.set_wall(Timestamp::from_micros(i64::MAX));
    assert!(store.get_public("k").await.unwrap().is_some());
    clock.advance(SECOND);
    clock.set_wall(Timestamp::from_micros(0));
    assert!(store.get_public("k").await.unwrap().is_none());
}

#[actix::test]
async fn many_at_once_expire_in_slices_and_cleanup_counts_them_all() {
    let World { store, clock, kept, line, .. } = World::new();
    line.disconnect();
    {
        let mut kept = kept.lock();
        for key in 0..25_000 {
            let value = crate::store::StoreValue::encode(&key).unwrap();
            kept.entries.set(Duration::ZERO, key.to_string().into(), value, Some(SECOND)).unwrap();
            kept.entries.changes();
        }
    }
    let (died, _deaths) = mpsc::unbounded_channel();
    let mut actor = Store::new(kept, clock.clone(), Supervised::new(Part::Store, died, Arc::default()));
    clock.advance(SECOND);
    let first = actor.sweep(clock.elapsed());
    assert_eq!((first.removed, first.more), (2_000, true));
    line.connect(actor.start());
    assert_eq!(store.cleanup().await.unwrap() % 1_000, 0);
    assert_eq!(store.stats().await.unwrap(), crate::store::StoreStats::default());
}

#[actix::test]
async fn watchers_hear_of_their_keys_only_and_until_they_end() {
    let World { store, .. } = World::new();
    let (to, mut events) = ear();
    let key = store.watch_key("a:1", to.clone()).await.unwrap();
    let prefix = store.watch_prefix("b:", to).await.unwrap();
    for name in ["a:1", "a:11", "b", "b:", "b:ä"] {
        store.set_public(name, 1, None).await.unwrap();
    }
    store.delete_public("b:ä").await.unwrap();
    let set = || StoreChange::Set(crate::store::StoreValue::encode(&1).unwrap());
    for want in [("a:1", set()), ("b:", set()), ("b:ä", set()), ("b:ä", StoreChange::Deleted)] {
        assert_eq!(next(&mut events).await, (want.0.into(), want.1));
    }
    assert!(store.unwatch(key).await.unwrap());
    assert!(!store.unwatch(key).await.unwrap());
    assert!(store.unwatch(prefix).await.unwrap());
    store.set_public("a:1", 2, None).await.unwrap();
    assert_eq!(store.stats().await.unwrap().watches, 0);
    assert!(events.try_recv().is_err());
}

struct Deaf;

impl Actor for Deaf {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1);
        // Waits for ever, so that the mailbox is never read.
        actix::AsyncContext::wait(ctx, actix::fut::wrap_future(std::future::pending::<()>()));
    }
}

impl Handler<StoreEvent> for Deaf {
    type Result = ();
    fn handle(&mut self, _: StoreEvent, _: &mut Self::Context) {}
}

#[actix::test]
async fn a_deaf_watcher_misses_events_and_slows_nobody() {
    let World { store, .. } = World::new();
    store.watch_prefix("", Deaf.start().recipient()).await.unwrap();
    tokio::task::yield_now().await;
    for round in 0..1_000 {
        store.set_public("k", round, None).await.unwrap();
    }
    let stats = store.stats().await.unwrap();
    assert!(stats.missed_events >= 990, "{stats:?}");
    assert_eq!(stats.watches, 1);
}

#[actix::test]
async fn a_watcher_learns_how_much_it_missed() {
    let mut watchers = crate::store::watchers::Watchers::new(StoreLimits::default());
    let (heard, mut events) = mpsc::unbounded_channel();
    let to = Ear(heard).start();
    let change = |n: u64| crate::store::watchers::Change {
        key: "k".into(),
        what: StoreChange::Set(crate::store::StoreValue::encode(&n).unwrap()),
    };
    let target = crate::store::watchers::Target::Key("k".into());
    watchers.add(crate::store::WatchId::next(), target, to.recipient()).unwrap();
    // The watcher shares this thread, so its mailbox fills up until this test awaits.
    (0..100).for_each(|n| watchers.announce(&change(n)));
    let missed = watchers.size().1;
    assert!(missed > 0);
    let mut taken = 0;
    while taken + missed < 100 {
        assert_eq!(events.recv().await.unwrap().missed, 0);
        taken += 1;
    }
    watchers.announce(&change(100));
    assert_eq!(events.recv().await.unwrap().missed, missed);
}

struct Mortal;

impl Actor for Mortal {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        actix::ActorContext::stop(ctx);
    }
}

impl Handler<StoreEvent> for Mortal {
    type Result = ();
    fn handle(&mut self, _: StoreEvent, _: &mut Self::Context) {}
}

#[actix::test]
async fn dead_watchers_are_dropped_at_the_next_event_and_when_watches_run_out() {
    let World { store, .. } = World::limited(StoreLimits { max_watches: 2, ..StoreLimits::default() });
    let dead = Mortal.start();
    while dead.connected() {
        tokio::task::yield_now().await;
    }
    store.watch_key("k", dead.clone().recipient()).await.unwrap();
    store.set_public("k", 1, None).await.unwrap();
    assert_eq!(store.stats().await.unwrap().watches, 0);
    for key in ["a", "b"] {
        store.watch_key(key, dead.clone().recipient()).await.unwrap();
    }
    let (to, _events) = ear();
    for key in ["c", "d"] {
        store.watch_key(key, to.clone()).await.unwrap();
    }
    assert!(matches!(store.watch_key("e", to).await, Err(StoreError::TooManyWatches { max: 2 })));
}

#[actix::test]
async fn a_panic_loses_neither_values_nor_watches_nor_the_alarm() {
    let mut world = World::new();
    let (to, mut events) = ear();
    world.store.watch_prefix("", to).await.unwrap();
    world.store.set_public("k", 1, Some(SECOND)).await.unwrap();
    next(&mut events).await;
    world.crash().await;
    world.start();
    assert_eq!(world.store.get_public("k").await.unwrap(), Some(json!(1)));
    world.clock.advance(SECOND);
    assert_eq!(next(&mut events).await, ("k".into(), StoreChange::Expired));
}

#[actix::test]
async fn a_request_that_may_be_repeated_waits_for_the_restart() {
    let mut world = World::new();
    world.crash().await;
    let store = world.store.clone();
    let (set, ()) = futures_util::future::join(store.set_public("k", 1, None), async {
        tokio::task::yield_now().await;
        world.start();
    })
    .await;
    set.unwrap();
    assert_eq!(store.increment("k", 1).await.unwrap(), 2);
}

#[actix::test]
async fn a_store_that_stays_down_is_not_answering() {
    let mut world = World::new();
    world.crash().await;
    assert!(matches!(world.store.get_public("k").await, Err(StoreError::NotAnswering)));
    assert!(matches!(world.store.increment("k", 1).await, Err(StoreError::NotAnswering)));
}

#[actix::test]
async fn an_increment_whose_reply_is_lost_is_unknown_and_never_repeated() {
    let world = World::new();
    let address = world.line.address().unwrap();
    // Both messages are already in the mailbox when the panic happens.
    address.do_send(crate::store::Crash);
    let error = world.store.increment("k", 1).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unknown { key } if key == "k"), "{error}");
    world.start();
    assert_eq!(world.store.get_public("k").await.unwrap(), None);
}

#[actix::test]
async fn the_pulse_beats_with_nothing_to_expire() {
    let World { clock, pulse, store, .. } = World::new();
    store.stats().await.unwrap();
    assert_eq!(pulse.age(&clock), Some(Duration::ZERO));
    clock.advance(60 * SECOND);
    while pulse.age(&clock) != Some(Duration::ZERO) {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn an_actor_that_nobody_can_reach_stops_at_its_next_beat() {
    let mut world = World::new();
    world.store.stats().await.unwrap();
    world.line.disconnect();
    world.clock.advance(10 * SECOND);
    assert_eq!(world.deaths.recv().await, Some(Part::Store));
}

#[test]
fn requests_may_be_awaited_on_any_thread() {
    fn send<T: Send>(_: &T) {}
    let store = StoreHandle::new(RestartableAddr::new("store"));
    send(&store.set_public("k", 1, None));
    send(&store.increment("k", 1));
    send(&store.get_public("k"));
}
