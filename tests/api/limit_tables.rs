//! Limits over two boards that share a database file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard::{Board, BoardBuilder, BoxError, Limit, NewTask, TaskState};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};

/// Awaits `work`, and fails the test at a time limit. The limit is generous: work that exceeds it would never end.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(90), work).await.expect("no answer in time")
}

/// The runs of all types on all boards. Each run reports its start, is counted, and ends when the test grants a permit.
struct Runs {
    begun: mpsc::UnboundedReceiver<&'static str>,
    tell: mpsc::UnboundedSender<&'static str>,
    go: Arc<Semaphore>,
    at_once: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    file: TempDir,
}

impl Runs {
    fn new() -> Self {
        let (tell, begun) = mpsc::unbounded_channel();
        let (at_once, most) = (Arc::default(), Arc::default());
        Self { begun, tell, go: Arc::new(Semaphore::new(0)), at_once, most, file: TempDir::new().unwrap() }
    }

    /// A board that runs a single type.
    fn board(&self, kind: &'static str) -> BoardBuilder {
        let (tell, go) = (self.tell.clone(), Arc::clone(&self.go));
        let (at_once, most) = (Arc::clone(&self.at_once), Arc::clone(&self.most));
        let url = format!("sqlite:{}", self.file.path().join("tasks.db").display());
        Board::builder().url(url).queue("default", 10).handler(kind, move |_, _| {
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tell.send(kind).ok();
            let (go, at_once) = (Arc::clone(&go), Arc::clone(&at_once));
            async move {
                go.acquire().await?.forget();
                at_once.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, BoxError>(())
            }
        })
    }
}

async fn completed(board: &Board) -> u64 {
    board.counts().await.unwrap().iter().filter(|c| c.state == TaskState::Completed).map(|c| c.tasks).sum()
}

#[actix_rt::test]
async fn a_limit_holds_from_the_first_claim_of_a_node_that_comes_later() {
    let mut runs = Runs::new();
    let first = runs.board("work").start().await.unwrap();
    first.set_limit(Limit::of_queue("default").running(1)).await.unwrap();
    let pushed = first.push_many((0..6).map(|number| NewTask::new("work", &number))).await.unwrap();
    soon(runs.begun.recv()).await.unwrap();
    let second = runs.board("work").start().await.unwrap();
    runs.go.add_permits(6);
    for task in pushed {
        let task = soon(second.wait(task.task_id)).await.unwrap();
        assert_eq!(task.state, TaskState::Completed);
    }
    assert_eq!(runs.most.load(Ordering::SeqCst), 1);
    assert_eq!(completed(&first).await, 6);
    first.stop().await;
    second.stop().await;
}

#[actix_rt::test]
async fn the_end_of_a_run_makes_room_on_another_node() {
    let mut runs = Runs::new();
    let (first, second) = (runs.board("one").start().await.unwrap(), runs.board("two").start().await.unwrap());
    first.set_limit(Limit::of_key("api").running(1)).await.unwrap();
    first.push(NewTask::new("one", &()).limit_key("api:a")).await.unwrap();
    assert_eq!(soon(runs.begun.recv()).await, Some("one"));
    // The second board learns of the first limit now at the latest. This call returns only after that board has looked
    // at the limits itself.
    second.set_limit(Limit::of_key("unused").running(1)).await.unwrap();
    let waits = second.push(NewTask::new("two", &()).limit_key("api:a")).await.unwrap();
    assert_eq!(waits.state, TaskState::Pending);
    let other = second.push(NewTask::new("two", &()).limit_key("api:b")).await.unwrap();
    assert_eq!(soon(runs.begun.recv()).await, Some("two"));
    assert_eq!(second.get(waits.task_id).await.unwrap().unwrap().state, TaskState::Pending);
    runs.go.add_permits(3);
    assert_eq!(soon(runs.begun.recv()).await, Some("two"));
    for task in [waits, other] {
        soon(second.wait(task.task_id)).await.unwrap();
    }
    assert_eq!(runs.most.load(Ordering::SeqCst), 2);
    first.stop().await;
    second.stop().await;
}
