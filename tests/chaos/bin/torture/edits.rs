//! Cancels, retries and changes of priority, for single tasks and for many tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callboard::{Board, BoardError, EditAction, TaskFilter, TaskId};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::load::Lately;
use super::note::{Edit, Ledger, Note};
use super::tasks::TAG;

const PACE_MS: u64 = 300;
/// A single edit in this many changes many tasks; the rest change a single task.
const RARE: u32 = 20;

pub(crate) async fn produce(board: Board, seed: u64, ledger: Arc<Ledger>, lately: Lately, ended: Arc<AtomicBool>) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xED17);
    while !ended.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..PACE_MS))).await;
        let edit = *[Edit::Cancel, Edit::Retry, Edit::Reprioritise].choose(&mut rng).expect("three");
        let priority = rng.random_range(-3..3);
        let done = if rng.random_ratio(1, RARE) {
            all(&board, &ledger, edit, priority).await
        } else {
            let id = lately.lock().expect("nobody panics with it").iter().copied().collect::<Vec<_>>();
            let Some(id) = id.choose(&mut rng) else { continue };
            one(&board, &ledger, edit, *id, priority).await
        };
        match done {
            Ok(()) | Err(BoardError::Closed | BoardError::NotAnswering { .. }) => {}
            // Storage was unavailable, or its answer was lost.
            Err(BoardError::Storage(error)) if error.is_transient() => {}
            Err(error) => ledger.error("edit", &error),
        }
    }
}

async fn one(board: &Board, ledger: &Ledger, edit: Edit, id: TaskId, priority: i32) -> Result<(), BoardError> {
    ledger.note(Note::Editing { edit, task: id });
    match edit {
        Edit::Cancel => board.cancel(id, "by the load").await,
        Edit::Retry => board.retry(id).await,
        Edit::Reprioritise => board.reprioritise(id, priority).await,
    }
    .map(drop)
}

async fn all(board: &Board, ledger: &Ledger, edit: Edit, priority: i32) -> Result<(), BoardError> {
    ledger.note(Note::EditingAll { edit });
    let action = match edit {
        Edit::Cancel => EditAction::Cancel("by the load".into()),
        Edit::Retry => EditAction::Retry,
        Edit::Reprioritise => EditAction::Reprioritise(priority),
    };
    // Only tasks of the last few seconds, because a retry of all tasks so far would become the whole load.
    let from = board.clock().now() - Duration::from_secs(3);
    let filter = TaskFilter { tag: Some(TAG.into()), created_from: Some(from), ..TaskFilter::default() };
    board.edit_all(filter, action).await.map(drop)
}
