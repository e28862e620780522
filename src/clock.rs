//! The only reader of time.
//!
//! Everything that asks "what time is it" or waits for a time does so through a [`Clock`], so that a test can
//! hold the hands: [`Clock::manual`] stands still until it is moved, and what sleeps on it wakes when its
//! moment has come, whatever the wall clock of the machine says.
//!
//! A clock has two hands. [`Clock::now`] is wall time, which an administrator or NTP may set back and forth;
//! it is what is written to storage. [`Clock::elapsed`] only ever grows; leases, back-off and sleeps use it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A moment: microseconds since 1970-01-01T00:00:00Z, as stored in every backend.
///
/// ```
/// use callboard::Timestamp;
/// use std::time::Duration;
/// let start = Timestamp::from_micros(1_000_000);
/// assert_eq!((start + Duration::from_millis(500)).to_string(), "1970-01-01T00:00:01.500000Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// As a chrono date and time; the far ends of the range are cut to what chrono can hold.
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DateTime::<Utc>::deserialize(deserializer).map(Self::from)
    }
}

/// A span in whole microseconds, cut at the largest that an `i64` holds (292,000 years).
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The machine's moment `span` from now. One that it cannot show is a hundred years away.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) fn moment_after(span: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(span).unwrap_or_else(|| now + CENTURY)
}

/// Where time comes from: the system, or a test's hand. Cloning is cheap and shares the hands.
///
/// ```
/// use callboard::{Clock, Timestamp};
/// use std::time::Duration;
/// let clock = Clock::manual(Timestamp::from_micros(0));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), Timestamp::from_micros(60_000_000));
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System(Instant, Arc<Followed>),
    Manual(Arc<Manual>),
}

/// What another clock says: its wall time when this one's growing hand was at zero, in microseconds.
struct Followed(AtomicI64);

/// No other clock is followed.
const NONE: i64 = i64::MIN;

struct Manual {
    hands: Mutex<Hands>,
    announce: watch::Sender<Duration>,
}

#[derive(Clone, Copy)]
struct Hands {
    wall: Timestamp,
    elapsed: Duration,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System(Instant::now(), Arc::new(Followed(AtomicI64::new(NONE)))))
    }

    /// The same clock, that can [`follow`](Self::follow) another one by itself.
    pub(crate) fn own(&self) -> Self {
        match &self.0 {
            Source::System(start, followed) => {
                let followed = followed.0.load(Ordering::Acquire);
                Self(Source::System(*start, Arc::new(Followed(AtomicI64::new(followed)))))
            }
            Source::Manual(_) => self.clone(),
        }
    }

    /// From now on the wall hand goes on from `wall`, which was the time when the growing hand was at `elapsed`, with the
    /// speed of the growing hand: the time of a database, which all its nodes share. A manual clock follows nobody.
    pub(crate) fn follow(&self, wall: Timestamp, elapsed: Duration) {
        if let Source::System(_, followed) = &self.0 {
            followed.0.store((wall - elapsed).as_micros(), Ordering::Release);
        }
    }

    /// A clock that stands at `start` until it is moved.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Manual {
            hands: Mutex::new(Hands { wall: start, elapsed: Duration::ZERO }),
            announce: watch::Sender::new(Duration::ZERO),
        })))
    }

    /// Wall time; may go backwards when the machine's clock is set. On a board whose database has a clock of its own, the
    /// board's clock shows that one's time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System(start, followed) => {
                let followed = followed.0.load(Ordering::Acquire);
                if followed != NONE {
                    return Timestamp(followed) + start.elapsed();
                }
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                Timestamp(since.map_or(0, micros))
            }
            Source::Manual(manual) => manual.hands.lock().wall,
        }
    }

    /// The time since this clock was made; never goes backwards.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System(start, _) => start.elapsed(),
            Source::Manual(manual) => manual.hands.lock().elapsed,
        }
    }

    /// What [`elapsed`](Self::elapsed) will show after `span`; one that is too long for it ends with the range.
    pub(crate) fn after(&self, span: Duration) -> Duration {
        self.elapsed().saturating_add(span)
    }

    /// A mark from which others can tell how long ago this was; nothing on a clock whose hands are held.
    pub(crate) fn mark(&self) -> Option<Instant> {
        matches!(self.0, Source::System(..)).then(Instant::now)
    }

    /// Moves both hands forward and wakes what waited for a moment up to there. Does nothing on the system's
    /// clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let elapsed = {
                let mut hands = manual.hands.lock();
                hands.wall = hands.wall + by;
                hands.elapsed = hands.elapsed.saturating_add(by);
                hands.elapsed
            };
            manual.announce.send_replace(elapsed);
        }
    }

    /// Sets the wall hand alone, forwards or back, as an administrator would. Does nothing on the system's
    /// clock.
    pub fn set_wall(&self, to: Timestamp) {
        if let Source::Manual(manual) = &self.0 {
            manual.hands.lock().wall = to;
        }
    }

    /// Resolves when `span` has passed since the call. On the system's clock it must be polled inside a tokio or actix
    /// runtime.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + 'static {
        // Read now, not at the first poll: the span counts from the call.
        self.sleep_until(self.after(span))
    }

    /// Resolves when the growing hand, [`elapsed`](Self::elapsed), has come to `until`. Else as [`sleep`](Self::sleep).
    pub fn sleep_until(&self, until: Duration) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        async move {
            match &clock.0 {
                Source::System(..) => tokio::time::sleep(until.saturating_sub(clock.elapsed())).await,
                Source::Manual(manual) => {
                    let mut moves = manual.announce.subscribe();
                    drop(clock);
                    // An error means that the clock is gone, and nobody is left to move it.
                    if moves.wait_for(|elapsed| *elapsed >= until).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// How many sleep on a manual clock.
    #[cfg(test)]
    pub(crate) fn sleepers(&self) -> usize {
        match &self.0 {
            Source::System(..) => 0,
            Source::Manual(manual) => manual.announce.receiver_count(),
        }
    }

    /// Blocks this thread until `span` has passed (false) or `signal` says stop (true).
    pub(crate) fn wait(&self, span: Duration, signal: &Signal) -> bool {
        let until = self.after(span);
        let mut stopped = signal.stopped.lock();
        while !*stopped {
            let left = until.saturating_sub(self.elapsed());
            if left.is_zero() {
                return false;
            }
            let nap = match &self.0 {
                Source::System(..) => left,
                // A manual clock cannot reach this condition variable; look at its hands often enough.
                Source::Manual(_) => Duration::from_millis(5),
            };
            signal.wake.wait_for(&mut stopped, nap);
        }
        true
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System(..) => f.write_str("Clock::system"),
            Source::Manual(_) => write!(f, "Clock::manual({})", self.now()),
        }
    }
}

/// Tells a thread that waits on a [`Clock`] to stop waiting, for good.
#[derive(Default)]
pub(crate) struct Signal {
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Signal {
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.wake.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }
}
