//! Liveness: signs of life of each part, for the guardian and for `health()`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Clock;
use crate::task::spelled;

spelled! {
    /// A part of the board that the guardian watches.
    Part ("part") {
        /// Pushes, claims and settlements.
        Queue = "queue",
        /// The threads that talk to storage.
        Persistence = "persistence",
        /// The public store.
        Store = "store",
        /// Promotes, rescues, prunes.
        Maintenance = "maintenance",
        /// Fires schedules.
        Scheduler = "scheduler",
        /// Fan-out of facts.
        Events = "events",
        /// A worker.
        Worker = "worker",
        /// The guardian itself.
        Guardian = "guardian",
        /// The thread that renews the lease.
        Heartbeat = "heartbeat",
        /// The thread that waits for changes by other processes.
        Watch = "watch",
    }
}

/// The liveness state of a part; it survives restarts of the part.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    // Monotonic time in microseconds, plus 1; 0 before the first tick.
    last_tick: AtomicU64,
    restarts: AtomicU32,
    /// A ping was sent, and has not been answered yet.
    asked: AtomicBool,
    /// Its thread has ended.
    gone: AtomicBool,
    #[cfg(feature = "testing")]
    to_crash: AtomicBool,
    fails: AtomicBool,
}

impl Liveness {
    pub(crate) fn tick(&self, clock: &Clock) {
        let at = u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.last_tick.store(at + 1, Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
    }

    /// True when a ping should be sent. Only a single ping is open at a time, so that pings do not pile up at a part
    /// that does not answer.
    pub(crate) fn ask(&self) -> bool {
        !self.asked.swap(true, Ordering::Relaxed)
    }

    /// True when its thread has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Makes its thread panic once, as a bug in it would.
    #[cfg(feature = "testing")]
    pub(crate) fn crash(&self) {
        self.to_crash.store(true, Ordering::Release);
    }

    /// Panics when [`crash`](Self::crash) was called.
    #[cfg(feature = "testing")]
    pub(crate) fn crash_when_told(&self) {
        assert!(!self.to_crash.swap(false, Ordering::AcqRel), "told to crash");
    }

    pub(crate) fn age(&self, clock: &Clock) -> Option<Duration> {
        let at = self.last_tick.load(Ordering::Relaxed).checked_sub(1)?;
        Some(clock.elapsed().saturating_sub(Duration::from_micros(at)))
    }

    /// True while its rounds fail.
    pub(crate) fn is_failing(&self) -> bool {
        self.fails.load(Ordering::Relaxed)
    }

    pub(crate) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }
}

/// Held by a thread that is a part of the board. When the thread ends for any reason, the part is known to be gone.
#[derive(Debug)]
pub(crate) struct Presence(pub(crate) Arc<Liveness>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Release);
    }
}

/// A ping: asks an actor for a sign of life, because an idle actor has no rounds that would show it.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Ping;

/// Held by an actor. When the actor ends, by a panic or on its own, the guardian is notified.
///
/// actix drops an actor whose handler panicked without calling `stopped()`, so a destructor is the only place that
/// always runs. It only sends on a channel, which cannot panic.
#[derive(Debug)]
pub(crate) struct Supervised {
    part: Part,
    died: UnboundedSender<Part>,
    pulse: Arc<Liveness>,
}

impl Supervised {
    pub(crate) fn new(part: Part, died: UnboundedSender<Part>, pulse: Arc<Liveness>) -> Self {
        Self { part, died, pulse }
    }

    /// Records that the part has just finished a round.
    pub(crate) fn tick(&self, clock: &Clock) {
        self.pulse.tick(clock);
    }

    /// Records whether its last round failed.
    pub(crate) fn fails(&self, fails: bool) {
        self.pulse.fails.store(fails, Ordering::Relaxed);
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // An error means that the guardian has ended too: the board is stopping, and no part needs this message.
        self.died.send(self.part).ok();
    }
}

/// Makes an actor panic, as a bug in it would: for tests of supervision.
#[cfg(feature = "testing")]
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Crash;

/// Makes an actor handle [`Crash`].
#[cfg(feature = "testing")]
macro_rules! crash_on_request {
    ($actor:ty) => {
        impl actix::Handler<crate::actor::Crash> for $actor {
            type Result = ();

            fn handle(&mut self, _: crate::actor::Crash, _: &mut Self::Context) {
                panic!("told to crash");
            }
        }
    };
}
#[cfg(feature = "testing")]
pub(crate) use crash_on_request;
