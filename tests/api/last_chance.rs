//! Tasks whose node has died twice during their run. A single such task runs at a time, and every such task runs.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::{OpenOptions, Opened, open};
use callboard::testing::World;
use callboard::{Board, NewTask, Outcome, TaskId, TaskState};
use serde_json::json;

/// Pushes tasks to the backend. Twice, the node of each task dies while the task runs.
fn crashed_twice(backend: &Opened, tasks: usize) -> Vec<TaskId> {
    let world = World::on(Arc::clone(backend));
    let all = world.push_all((0..tasks).map(|number| NewTask::new("work", &json!(number))));
    for _ in 0..2 {
        // Each task has a node of its own, because a node runs a single task at a time if it is on its last chance.
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
                // The run does not end at once, so that the other tasks come up for a claim during it.
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
