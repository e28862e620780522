//! Tasks whose node has died under them twice run one at a time, and every one of them runs.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::{OpenOptions, Opened, open};
use callboard::testing::World;
use callboard::{Board, NewTask, Outcome, TaskId, TaskState};
use serde_json::json;

/// A backend with tasks that were running when their node died, twice.
fn crashed_twice(backend: &Opened, tasks: usize) -> Vec<TaskId> {
    let world = World::on(Arc::clone(backend));
    let all = world.push_all((0..tasks).map(|number| NewTask::new("work", &json!(number))));
    for _ in 0..2 {
        // One node for each: on their last chance a node runs one at a time.
        all.iter().for_each(|_| assert_eq!(world.mortal(0).claim(1).len(), 1));
        world.advance(Duration::from_secs(1));
        assert_eq!(world.rescue().rescued.len(), tasks);
    }
    all
}

#[actix_rt::test]
async fn every_task_on_its_last_chance_has_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("tasks.db").display());
    for url in ["memory:", file.as_str()] {
        let backend = open(url, &OpenOptions::default()).unwrap();
        let tasks = crashed_twice(&backend, 5);
        let board = Board::builder()
            .backend(backend)
            .handler("work", |_, _| async {
                // Not done at once: the others come up for a claim while it runs.
                actix_rt::task::yield_now().await;
                Ok(Outcome::done())
            })
            .start()
            .await
            .unwrap();
        for task in tasks {
            let ended = actix_rt::time::timeout(Duration::from_secs(120), board.wait(task)).await;
            assert_eq!(ended.expect("it has its turn").unwrap().state, TaskState::Completed, "{url}");
        }
        board.stop().await;
    }
}
