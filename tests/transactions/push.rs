//! A push is stored if and only if its transaction commits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callboard::{
    Board, Context, NewTask, Outcome, PushError, Pushed, Task, TaskError, TaskFilter, TaskId, TaskOrder, TaskResult,
    TaskState, Unique, UniqueMode,
};
use diesel::connection::{Connection, SimpleConnection};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Place, numbered, on_each, regret, working};

on_each!(
    a_committed_push_runs_and_one_that_is_rolled_back_never_was,
    a_typed_task_keeps_its_options,
    a_key_or_an_id_that_is_there_answers_as_in_any_push,
    a_commit_is_noticed_soon,
    of_many_transactions_those_that_commit_run,
);

#[derive(Serialize, Deserialize)]
struct Invoice {
    order: u32,
}

impl Task for Invoice {
    const TYPE: &'static str = "invoice";
    type Output = Outcome;
    const QUEUE: &'static str = "letters";
    const MAX_ATTEMPTS: u32 = 3;
    fn unique(&self) -> Option<Unique> {
        Some(Unique::key(format!("invoice:{}", self.order)))
    }
    async fn run(self, _: &Context) -> TaskResult {
        Outcome::output(&self.order)
    }
}

async fn a_committed_push_runs_and_one_that_is_rolled_back_never_was<P: Place>() {
    let place = P::new();
    let board = place.start(working()).await;
    let mut conn = place.connect();
    let pushed = P::transaction(&mut conn, |conn| {
        conn.batch_execute(&place.order())?;
        Ok(board.push_in(conn, numbered(1))?)
    });
    let pushed = pushed.unwrap();
    assert_eq!((pushed.duplicate, pushed.state), (false, TaskState::Pending));
    assert_eq!(board.wait(pushed.task_id).await.unwrap().state, TaskState::Completed);

    let regretted: Result<(), _> = P::transaction(&mut conn, |conn| {
        conn.batch_execute(&place.order())?;
        // A nested transaction, that is a savepoint. It must leave nothing behind either.
        conn.transaction(|conn| {
            board.push_many_in(conn, [numbered(2).tag("many"), numbered(3)]).map_err(TaskError::from)
        })?;
        regret()
    });
    assert_eq!(regretted.unwrap_err().message(), "regretted");
    for id in [2, 3] {
        assert!(board.get(TaskId::from(uuid::Uuid::from_u128(id))).await.unwrap().is_none());
    }
    assert_eq!(place.count(), 1);
    board.stop().await;
}

async fn a_typed_task_keeps_its_options<P: Place>() {
    let place = P::new();
    let board = place.start(Board::builder().queue("letters", 1).task::<Invoice>()).await;
    let mut conn = place.connect();
    let (now, later) = P::transaction(&mut conn, |conn| {
        let later = NewTask::of(&Invoice { order: 2 }).delay(Duration::from_millis(300)).priority(-7).tag("late");
        Ok((board.push_in(conn, Invoice { order: 1 })?, board.push_in(conn, later)?))
    })
    .unwrap();
    assert_eq!(later.state, TaskState::Scheduled);
    let task = board.wait(now.task_id).await.unwrap();
    assert_eq!((task.result, task.max_attempts, &*task.queue), (Some(1.into()), 3, "letters"));
    let task = board.wait(later.task_id).await.unwrap();
    assert_eq!((task.state, task.priority, task.tags), (TaskState::Completed, -7, vec!["late".to_owned()]));
    assert!(task.run_at >= task.created_at + Duration::from_millis(300));
    board.stop().await;
}

fn with_key(id: u128, mode: UniqueMode) -> NewTask {
    numbered(id).unique(Unique::key("key").mode(mode))
}

async fn a_key_or_an_id_that_is_there_answers_as_in_any_push<P: Place>() {
    let place = P::new();
    let board = place.start(working()).await;
    board.pause("default").await.unwrap();
    let holder = board.push(with_key(1, UniqueMode::ReturnExisting)).await.unwrap().task_id;
    let mut conn = place.connect();
    P::transaction(&mut conn, |conn| {
        let same = |pushed: Pushed| assert_eq!((pushed.task_id, pushed.duplicate), (holder, true));
        same(board.push_in(conn, with_key(2, UniqueMode::ReturnExisting))?);
        same(board.push_in(conn, with_key(2, UniqueMode::Replace).priority(5))?);
        same(board.push_in(conn, numbered(1))?);
        let refused = board.push_in(conn, with_key(2, UniqueMode::Reject));
        assert!(matches!(refused, Err(PushError::UniqueKeyHeld { existing, .. }) if existing == holder));
        let group = board.push_many_in(conn, [numbered(3), with_key(2, UniqueMode::Reject)]);
        assert!(matches!(group, Err(PushError::UniqueKeyHeld { .. })));
        // The pushes above were refused, and the transaction goes on.
        assert!(!board.push_in(conn, numbered(4))?.duplicate);
        assert!(board.push_in(conn, numbered(4))?.duplicate);
        Ok(())
    })
    .unwrap();
    assert_eq!(board.get(holder).await.unwrap().unwrap().priority, 5);
    board.resume("default").await.unwrap();
    board.wait(holder).await.unwrap();
    let after = P::transaction(&mut conn, |conn| Ok(board.push_in(conn, with_key(5, UniqueMode::Reject))?)).unwrap();
    assert!(!after.duplicate, "its last holder has ended");
    board.wait(after.task_id).await.unwrap();
    let all = board.list(TaskFilter::default(), TaskOrder::OldestFirst, None, 10).await.unwrap().tasks;
    assert_eq!(all.len(), 3, "{all:?}");
    board.stop().await;
}

/// The shortest of several times counts, because the machine may be busy now and then.
async fn a_commit_is_noticed_soon<P: Place>() {
    let place = P::new();
    let board = place.start(working()).await;
    let mut conn = place.connect();
    let mut shortest = Duration::MAX;
    for id in 1..=5 {
        P::transaction(&mut conn, |conn| Ok(board.push_in(conn, numbered(id))?)).unwrap();
        let committed = Instant::now();
        board.wait(TaskId::from(uuid::Uuid::from_u128(id))).await.unwrap();
        shortest = shortest.min(committed.elapsed());
    }
    assert!(shortest < P::NOTICED, "{shortest:?}");
    board.stop().await;
}

async fn of_many_transactions_those_that_commit_run<P: Place>() {
    let ran: Arc<Mutex<Vec<u128>>> = Arc::default();
    let seen = Arc::clone(&ran);
    let builder = Board::builder().handler("work", move |_, cx: Context| {
        seen.lock().push(cx.task_id().as_uuid().as_u128());
        async { Ok(()) }
    });
    let place = Arc::new(P::new());
    let board = place.start(builder).await;
    let threads: Vec<_> = (0..4_u128).map(|thread| spawn(Arc::clone(&place), board.clone(), thread * 50)).collect();
    let by_board = (1_000..1_050).map(|id| board.push(numbered(id)));
    futures_util::future::try_join_all(by_board).await.unwrap();
    let committed: BTreeSet<u128> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let committed: Vec<u128> = committed.into_iter().chain(1_000..1_050).collect();
    assert_eq!(committed.len(), 150);
    for id in &committed {
        board.wait(TaskId::from(uuid::Uuid::from_u128(*id))).await.unwrap();
    }
    let mut ran = ran.lock().clone();
    ran.sort_unstable();
    assert_eq!(ran, committed);
    assert_eq!(place.count(), 100);
    let counts = board.counts().await.unwrap();
    assert_eq!(counts.iter().map(|count| count.tasks).sum::<u64>(), 150, "{counts:?}");
    board.stop().await;
}

/// Runs 50 transactions on a thread. Every second transaction is rolled back. Returns the ids of the committed pushes.
fn spawn<P: Place>(place: Arc<P>, board: Board, first: u128) -> std::thread::JoinHandle<Vec<u128>> {
    std::thread::spawn(move || {
        let mut conn = place.connect();
        let committed = (first..first + 50).filter(|id| {
            let commit = id % 2 == 0;
            let outcome = P::transaction(&mut conn, |conn| {
                conn.batch_execute(&place.order())?;
                // Every third task has a tag, which needs a lookup.
                let task = if id % 3 == 0 { numbered(*id).tag("third") } else { numbered(*id) };
                board.push_in(conn, task)?;
                if commit { Ok(()) } else { regret() }
            });
            assert_eq!(outcome.is_ok(), commit, "{outcome:?}");
            commit
        });
        committed.collect()
    })
}
