//! Notes when this process was not scheduled in time. On a busy machine a node may lose its lease without any fault,
//! and the judge has to know this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callboard::Board;

use super::note::{Ledger, Note};

const BETWEEN: Duration = Duration::from_millis(100);
/// A longer delay than this is noted.
const LATE: Duration = Duration::from_millis(700);

pub(crate) async fn watch(board: Board, ledger: Arc<Ledger>, ended: Arc<AtomicBool>) {
    while !ended.load(Ordering::Acquire) {
        let asked = Instant::now();
        tokio::time::sleep(BETWEEN).await;
        let health = tokio::time::timeout(LATE, board.health()).await;
        let (late, lease) = (asked.elapsed(), health.is_ok_and(|health| health.lease_holds));
        if late > LATE || !lease {
            ledger.note(Note::Unwell { late_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX), lease });
        }
    }
}
