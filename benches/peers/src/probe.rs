//! The body of every handler: it counts, or reports its start. Statics, because not every queue passes state to its
//! handlers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

static RAN: AtomicU64 = AtomicU64::new(0);
static TELL: OnceLock<(Instant, UnboundedSender<Duration>)> = OnceLock::new();

/// From this call on the payload is the time of the push in nanoseconds since `clock`, and every start is reported.
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
        // After the measurement the receiver is gone, so an error is ignored.
        tell.send(clock.elapsed().saturating_sub(sent)).ok();
    }
}

/// The number of runs of the handler.
pub(crate) fn runs() -> u64 {
    RAN.load(Ordering::Relaxed)
}
