//! Signs of life: what a part leaves behind for the guardian and for `health()`.

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
        /// The thread that waits for other processes' changes.
        Watch = "watch",
    }
}

/// What a part shows of itself; survives its restarts.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    // Microseconds on the clock's growing hand, plus 1; 0 before the first tick.
    last_tick: AtomicU64,
    restarts: AtomicU32,
    /// A sign of life was asked for, and has not come yet.
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

    /// True when a sign of life is to be asked for: one question at a time, so that they do not pile up at a part that does
    /// not answer.
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

    /// Panics when told to.
    #[cfg(feature = "testing")]
    pub(crate) fn crash_when_told(&self) {
        assert!(!self.to_crash.swap(false, Ordering::AcqRel), "told to crash");
    }

    pub(crate) fn age(&self, clock: &Clock) -> Option<Duration> {
        let at = self.last_tick.load(Ordering::Relaxed).checked_sub(1)?;
        Some(clock.elapsed().saturating_sub(Duration::from_micros(at)))
    }

    /// True while its rounds come to nothing.
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

/// Held by a thread that is a part of the board: whatever ends it, its part is then known to be gone.
#[derive(Debug)]
pub(crate) struct Presence(pub(crate) Arc<Liveness>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Release);
    }
}

/// Asks an actor for a sign of life: one that has nothing to do has no rounds that would show it.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Ping;

/// Held by an actor; when the actor goes, by a panic or by its own will, the guardian hears of it.
///
/// actix drops an actor whose handler panicked without calling `stopped()`, so a destructor is the one place
/// that always runs. It only sends on a channel, which cannot panic.
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

    /// Notes that the part has just done its round.
    pub(crate) fn tick(&self, clock: &Clock) {
        self.pulse.tick(clock);
    }

    /// Notes whether its last round failed.
    pub(crate) fn fails(&self, fails: bool) {
        self.pulse.fails.store(fails, Ordering::Relaxed);
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // An error means that the guardian is gone too: the board is stopping, and nobody needs to know.
        self.died.send(self.part).ok();
    }
}

/// Makes an actor panic, as a bug in it would: for tests of supervision.
#[cfg(feature = "testing")]
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Crash;

/// Lets an actor be told to crash.
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
