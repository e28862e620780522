//! What every handler does: count, or tell when it started. In statics, for not every queue hands its handlers state.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

static RAN: AtomicU64 = AtomicU64::new(0);
static TELL: OnceLock<(Instant, UnboundedSender<Duration>)> = OnceLock::new();

/// From here on the payload is the time of the push in nanoseconds since `clock`, and every start is told.
pub(crate) fn listen(clock: Instant) -> UnboundedReceiver<Duration> {
    let (tell, told) = unbounded_channel();
    TELL.get_or_init(|| (clock, tell));
    told
}

/// The first line of every handler.
pub(crate) fn ran(payload: &str) {
    RAN.fetch_add(1, Ordering::Relaxed);
    if let Some((clock, tell)) = TELL.get() {
        let sent = Duration::from_nanos(payload.parse().unwrap_or(0));
        // Nobody listens once the measurement is over.
        tell.send(clock.elapsed().saturating_sub(sent)).ok();
    }
}

/// How often a handler has run.
pub(crate) fn runs() -> u64 {
    RAN.load(Ordering::Relaxed)
}
