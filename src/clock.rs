//! The only reader of time.
//!
//! All code that reads the time or waits for a time uses a [`Clock`], so that a test can control it. A
//! [`Clock::manual`] stands still until the test moves it. A sleep on it ends when the manual clock reaches its time,
//! whatever the machine's clock shows.
//!
//! A clock has two times. [`Clock::now`] is wall time, which an administrator or NTP may set forwards or back; it is
//! the time written to storage. [`Clock::elapsed`] is monotonic time; leases, back-off and sleeps use it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A point in time: microseconds since 1970-01-01T00:00:00Z, in the form that every backend stores.
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
    /// A timestamp from microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to this timestamp; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// The timestamp as a chrono date and time. A time outside chrono's range becomes the nearest end of that range.
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

/// A span in whole microseconds, cut at the largest value of an `i64` (292,000 years).
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The machine's time after `span`. If an [`Instant`] cannot hold it, the result is a hundred years from now.
#[cfg(feature = "sql")]
pub(crate) fn moment_after(span: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(span).unwrap_or_else(|| now + CENTURY)
}

/// The source of time: the system, or a test. Cloning is cheap, and all clones share their times.
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

/// The followed clock: its wall time when this clock's monotonic time was zero, in microseconds.
struct Followed(AtomicI64);

/// No clock is followed.
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

    /// A copy of this clock that can [`follow`](Self::follow) a clock independently. It shares the monotonic time. A
    /// manual clock returns a plain clone.
    pub(crate) fn own(&self) -> Self {
        match &self.0 {
            Source::System(start, followed) => {
                let followed = followed.0.load(Ordering::Acquire);
                Self(Source::System(*start, Arc::new(Followed(AtomicI64::new(followed)))))
            }
            Source::Manual(_) => self.clone(),
        }
    }

    /// Follows the clock of a database, which all its nodes share. Wall time becomes `wall` plus the monotonic time
    /// since `elapsed`, where `wall` was the database's time when the monotonic time was `elapsed`. A manual clock
    /// ignores this call.
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

    /// Wall time; it may go backwards when the machine's clock is set. If a board's database has its own clock, the
    /// board's clock shows the database's time.
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

    /// Monotonic time: the time since this clock was made. It never goes backwards.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System(start, _) => start.elapsed(),
            Source::Manual(manual) => manual.hands.lock().elapsed,
        }
    }

    /// The monotonic time ([`elapsed`](Self::elapsed)) after `span`, cut at the end of its range.
    pub(crate) fn after(&self, span: Duration) -> Duration {
        self.elapsed().saturating_add(span)
    }

    /// The present [`Instant`], for measuring a duration later. `None` on a manual clock, because its times do not
    /// follow the machine.
    pub(crate) fn mark(&self) -> Option<Instant> {
        matches!(self.0, Source::System(..)).then(Instant::now)
    }

    /// Moves both times forward, and wakes each sleep whose time has been reached. Does nothing on the system's clock.
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

    /// Sets the wall time alone, forwards or back, like an administrator who sets the clock. Does nothing on the
    /// system's clock.
    pub fn set_wall(&self, to: Timestamp) {
        if let Source::Manual(manual) = &self.0 {
            manual.hands.lock().wall = to;
        }
    }

    /// Resolves when `span` has passed since the call. On the system's clock it must be polled inside a tokio or actix
    /// runtime.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + 'static {
        // Read the time now, not at the first poll, because the span counts from the call.
        self.sleep_until(self.after(span))
    }

    /// Resolves when the monotonic time ([`elapsed`](Self::elapsed)) reaches `until`. Otherwise like
    /// [`sleep`](Self::sleep).
    pub fn sleep_until(&self, until: Duration) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        async move {
            match &clock.0 {
                Source::System(..) => tokio::time::sleep(until.saturating_sub(clock.elapsed())).await,
                Source::Manual(manual) => {
                    let mut moves = manual.announce.subscribe();
                    drop(clock);
                    // An error means that the clock was dropped, so that it cannot be moved any more.
                    if moves.wait_for(|elapsed| *elapsed >= until).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// The number of sleeps on a manual clock.
    #[cfg(test)]
    pub(crate) fn sleepers(&self) -> usize {
        match &self.0 {
            Source::System(..) => 0,
            Source::Manual(manual) => manual.announce.receiver_count(),
        }
    }

    /// Blocks this thread until `span` has passed (returns false) or `signal` is stopped (returns true).
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
                // A manual clock cannot notify this condition variable, so its time is read every 5 ms.
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

/// Ends the wait of a thread on a [`Clock`], permanently.
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
