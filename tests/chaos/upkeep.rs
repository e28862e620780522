//! A pause and a push while upkeep runs without a break.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::memory::Memory;
use callboard::testing::Faulty;
use callboard::{Board, Outcome, TaskState};
use serde_json::json;

use crate::support::soon;

#[actix_rt::test]
async fn a_pause_holds_although_upkeep_has_just_read_that_there_is_none() {
    const PAUSES: usize = 1_000;
    let board = Board::builder()
        // With threads for storage, so that upkeep reads the settings in parallel with the pause made here.
        .backend(Faulty::new(Arc::new(Memory::new()), true))
        .configure(|c| c.check_interval = Duration::from_micros(100))
        .handler("n", |_, _| async { Ok(Outcome::done()) })
        .start()
        .await
        .unwrap();
    for round in 0..PAUSES {
        board.pause("default").await.unwrap();
        let pushed = board.push(json!({"type": "n"})).await.unwrap();
        assert_eq!(pushed.state, TaskState::Pending, "in round {round}");
        assert_eq!(board.get(pushed.task_id).await.unwrap().unwrap().state, TaskState::Pending, "in round {round}");
        board.resume("default").await.unwrap();
        assert_eq!(soon("a run", board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
    }
    println!("{PAUSES} pauses held");
    soon("the stop", board.stop()).await;
}
