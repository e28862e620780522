//! Unique keys and rows that a different transaction has locked. The tests check which operations wait for such a lock,
//! and that all other operations go on.

use std::time::Duration;

use callboard::{
    Board, BoardBuilder, BoardError, EditAction, Health, Limit, NewTask, Outcome, PushError, Pushed, TaskFilter,
    TaskState, Unique, UniqueMode,
};
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use futures_util::future::{join, join_all, try_join_all};
use tokio::sync::mpsc;

use crate::place::{Place, on_both};
use crate::waiting::{eventually, soon};

on_both!(
    groups_in_both_orders_are_in_nobodys_way,
    hot_keys_on_three_nodes,
    only_the_push_of_an_awaited_key_waits,
    an_awaited_key_is_given_up_at_the_deadline,
    only_the_end_of_a_locked_task_waits,
    only_the_changes_of_a_locked_task_wait,
    only_tasks_under_a_locked_limit_wait,
    many_awaited_keys_starve_nothing_and_end_with_the_board,
);

const NEVER: Duration = Duration::from_secs(600);

fn keyed(key: impl Into<String>) -> NewTask {
    NewTask::new("work", &()).unique(Unique::key(key))
}

/// A board whose rounds of upkeep are too rare to find anything during a test.
fn builder<P: Place>(place: &P) -> BoardBuilder {
    let builder = Board::builder().url(place.url()).queue("default", 8).handler("work", |_, _| async { Ok(()) });
    builder.configure(|c| c.check_interval = NEVER)
}

async fn board<P: Place>(place: &P) -> Board {
    builder(place).start().await.unwrap()
}

/// PostgreSQL must report no conflicts. InnoDB also locks the neighbour of a key in its index, so on MariaDB some
/// transactions are rolled back and retried.
async fn check_conflicts<P: Place>(boards: &[Board]) {
    let health: Vec<Health> = join_all(boards.iter().map(Board::health)).await;
    let conflicts: u64 = health.iter().map(|health| health.storage_conflicts).sum();
    println!("{conflicts} conflicts");
    assert!(conflicts == 0 || !P::IS_POSTGRES, "{conflicts}");
}

/// Waits until a task has completed, on any board.
async fn completed(board: &Board, pushed: Pushed) {
    let look = async || board.get(pushed.task_id).await.unwrap().filter(|task| task.state.is_terminal());
    assert_eq!(eventually("its end", look).await.state, TaskState::Completed);
}

async fn groups_in_both_orders_are_in_nobodys_way<P: Place>() {
    let place = P::new();
    let boards = [board(&place).await, board(&place).await];
    // The delay outlasts the test, so the tasks hold their keys to the end.
    let keyed = |key: &str| keyed(key).delay(NEVER);
    for round in 0..40 {
        let [x, y] = ["x", "y"].map(|key| format!("{key} {round}"));
        let (one, other) =
            join(boards[0].push_many([keyed(&x), keyed(&y)]), boards[1].push_many([keyed(&y), keyed(&x)])).await;
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.iter().chain(&other).filter(|pushed| !pushed.duplicate).count(), 2, "{one:?} {other:?}");
    }
    check_conflicts::<P>(&boards).await;
    stop(&boards).await;
}

async fn hot_keys_on_three_nodes<P: Place>() {
    let place = P::new();
    let boards = [board(&place).await, board(&place).await, board(&place).await];
    let pushers = (0..60_usize).map(|pusher| {
        let board = &boards[pusher % boards.len()];
        async move {
            for push in 0..20 {
                board.push(keyed(format!("hot {}", (pusher * 7 + push * 3) % 10))).await?;
            }
            Ok::<_, PushError>(())
        }
    });
    soon("all pushes", try_join_all(pushers)).await.unwrap();
    check_conflicts::<P>(&boards).await;
    let live =
        ["waiting", "scheduled", "pending", "running", "retrying"].map(|state| format!("'{state}'")).join(", ");
    let none =
        format!("SELECT unique_key AS text FROM task_queue WHERE state IN ({live}) AND unique_key IS NOT NULL");
    eventually("all ends", async || place.texts(&none).is_empty().then_some(())).await;
    stop(&boards).await;
}

/// Pushes a task with a key in a transaction that stays open.
fn hold<P: Place>(conn: &mut P::Conn, board: &Board, task: NewTask) -> Pushed {
    AnsiTransactionManager::begin_transaction(conn).unwrap();
    board.push_in(conn, task).unwrap()
}

async fn state_of(boards: &[Board], held: Pushed) -> TaskState {
    boards[0].get(held.task_id).await.unwrap().unwrap().state
}

/// A board that is only dropped keeps its connections, and the shared server has no more than it needs.
async fn stop(boards: &[Board]) {
    join_all(boards.iter().map(Board::stop)).await;
}

/// Checks that plain tasks and tasks with other keys still complete, on each board.
async fn go_on(boards: &[Board]) {
    for round in 0..10 {
        for board in boards {
            let other = keyed(format!("other {}", uuid::Uuid::now_v7()));
            for task in [NewTask::new("work", &round), other] {
                let pushed = board.push(task).await.unwrap();
                completed(board, pushed).await;
            }
        }
    }
}

async fn only_the_push_of_an_awaited_key_waits<P: Place>() {
    let place = P::new();
    let boards = [board(&place).await, board(&place).await];
    // In the index, tasks without a key belong before the smallest key.
    let first = boards[0].push(keyed("b")).await.unwrap();
    completed(&boards[0], first).await;
    for key in ["a", "b", "c"] {
        let mut conn = place.by_hand();
        let held = hold::<P>(&mut conn, &boards[0], keyed(key));
        let waiting: Vec<_> = boards
            .iter()
            .cloned()
            .map(|board| actix_rt::spawn(async move { board.push(keyed(key)).await }))
            .collect();
        go_on(&boards).await;
        assert!(waiting.iter().all(|push| !push.is_finished()), "{key}: its holder has not ended");
        AnsiTransactionManager::commit_transaction(&mut conn).unwrap();
        for push in waiting {
            let pushed = soon("an answer", push).await.unwrap().unwrap();
            // Before this push looked at the key, the first task may have ended and a new task may have taken the key.
            assert!(
                pushed.task_id == held.task_id || state_of(&boards, held).await.is_terminal(),
                "{key}: {pushed:?}"
            );
        }
        completed(&boards[0], held).await;
    }
    check_conflicts::<P>(&boards).await;
    stop(&boards).await;
}

async fn an_awaited_key_is_given_up_at_the_deadline<P: Place>() {
    let place = P::new();
    let builder = Board::builder().url(place.url()).handler("work", |_, _| async { Ok(Outcome::done()) });
    let board = builder.configure(|c| c.push_deadline = Duration::from_millis(300)).start().await.unwrap();
    let mut conn = place.by_hand();
    hold::<P>(&mut conn, &board, keyed("a"));
    let refused = soon("an answer", board.push(keyed("a"))).await;
    assert!(matches!(&refused, Err(PushError::Storage(error)) if error.is_transient()), "{refused:?}");
    AnsiTransactionManager::rollback_transaction(&mut conn).unwrap();
    assert!(!soon("an answer", board.push(keyed("a"))).await.unwrap().duplicate);
    board.stop().await;
}

/// The row of a task is locked when its run ends: by an application that replaces the task, or by hand.
async fn only_the_end_of_a_locked_task_waits<P: Place>() {
    let place = P::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let (end, ended) = tokio::sync::watch::channel(false);
    let board = builder(&place)
        .handler("long", move |_: serde_json::Value, _| {
            let (tell, mut ended) = (tell.clone(), ended.clone());
            async move {
                tell.send(()).ok();
                ended.wait_for(|ended| *ended).await.ok();
                Ok(())
            }
        })
        .start()
        .await
        .unwrap();
    let long = || NewTask::new("long", &()).unique(Unique::key("long").mode(UniqueMode::KeepLatest));
    let running = board.push(long()).await.unwrap();
    soon("its begin", told.recv()).await.unwrap();
    let mut conn = place.by_hand();
    let next = hold::<P>(&mut conn, &board, long());
    assert_eq!(next.state, TaskState::Waiting, "the running one is locked now");
    end.send(true).unwrap();
    go_on(std::slice::from_ref(&board)).await;
    assert_eq!(board.get(running.task_id).await.unwrap().unwrap().state, TaskState::Running);
    AnsiTransactionManager::commit_transaction(&mut conn).unwrap();
    for pushed in [running, next] {
        completed(&board, pushed).await;
    }
    board.stop().await;
}

/// Locks rows, like a program that left its transaction open.
fn lock_rows<P: Place>(place: &P, updates: &[String]) -> P::Conn {
    let mut conn = place.by_hand();
    conn.batch_execute("BEGIN").unwrap();
    for update in updates {
        conn.batch_execute(update).expect(update);
    }
    conn
}

async fn only_the_changes_of_a_locked_task_wait<P: Place>() {
    let place = P::new();
    let boards = [board(&place).await, board(&place).await];
    let later = || NewTask::new("work", &()).delay(NEVER).tag("later");
    let pushed = boards[0].push_many((0..5).map(|_| later())).await.unwrap();
    let tasks: Vec<_> = pushed.iter().map(|pushed| pushed.task_id).collect();
    // Each row in a statement of its own. For a list of ids InnoDB would also lock the gap where the next tasks are
    // inserted.
    let lock = |task_id| format!("UPDATE task_queue SET priority = priority WHERE task_id = '{task_id}'");
    let mut conn = lock_rows(&place, &tasks[..3].iter().map(lock).collect::<Vec<_>>());
    // The filter matches all five tasks, and the first three of them are locked.
    let all = actix_rt::spawn({
        let (board, filter) = (boards[1].clone(), TaskFilter { tag: Some("later".into()), ..TaskFilter::default() });
        async move { board.edit_all(filter, EditAction::Reprioritise(3)).await }
    });
    let changes = tasks[..3].iter().enumerate().map(|(number, task_id)| {
        let (board, task_id) = (boards[number % 2].clone(), *task_id);
        actix_rt::spawn(async move {
            match number {
                0 => board.cancel(task_id, "no").await,
                1 => board.reprioritise(task_id, 7).await,
                _ => board.delete(task_id).await,
            }
        })
    });
    let mut changes: Vec<_> = changes.collect();
    go_on(&boards).await;
    for (number, change) in changes.iter_mut().enumerate() {
        let answer = futures_util::FutureExt::now_or_never(change);
        assert!(answer.is_none(), "its task is locked, and change {number} is answered: {answer:?}");
    }
    assert!(!all.is_finished(), "some of its tasks are locked");
    conn.batch_execute("COMMIT").unwrap();
    for change in changes {
        let changed: Result<bool, BoardError> = soon("an answer", change).await.unwrap();
        assert!(changed.unwrap());
    }
    soon("an answer", all).await.unwrap().unwrap();
    let after = async |place: usize| boards[0].get(tasks[place]).await.unwrap();
    assert_eq!(after(0).await.unwrap().state, TaskState::Cancelled);
    // The two changes race, and the later change wins.
    assert!(matches!(after(1).await.unwrap().priority, 3 | 7));
    assert!(after(2).await.is_none());
    for place in [3, 4] {
        assert_eq!(after(place).await.unwrap().priority, 3);
    }
    stop(&boards).await;
}

async fn only_tasks_under_a_locked_limit_wait<P: Place>() {
    let place = P::new();
    let start = async || builder(&place).queue("limited", 2).start().await.unwrap();
    let boards = [start().await, start().await];
    boards[0].set_limit(Limit::of_queue("limited").running(2).rate(1_000, Duration::from_secs(1))).await.unwrap();
    let limited = || NewTask::new("work", &()).queue("limited");
    for board in &boards {
        let first = board.push(limited()).await.unwrap();
        completed(board, first).await;
    }
    let lock = "UPDATE task_limit SET running = running WHERE name = 'limited'".to_owned();
    let mut conn = lock_rows(&place, &[lock]);
    let pushes: Vec<_> =
        boards.iter().cloned().map(|board| actix_rt::spawn(async move { board.push(limited()).await })).collect();
    go_on(&boards).await;
    conn.batch_execute("COMMIT").unwrap();
    for push in pushes {
        let pushed = soon("an answer", push).await.unwrap().unwrap();
        completed(&boards[0], pushed).await;
    }
    stop(&boards).await;
}

/// Deferred pushes take turns with all other work, and a stop answers them.
async fn many_awaited_keys_starve_nothing_and_end_with_the_board<P: Place>() {
    const KEYS: usize = 40;
    let place = P::new();
    // No push is given up before the stop.
    let patient = async || {
        let builder = builder(&place).configure(|c| (c.push_deadline, c.drain) = (NEVER, Duration::from_secs(1)));
        builder.start().await.unwrap()
    };
    let boards = [patient().await, patient().await];
    let key = |number: usize| format!("held {number}");
    let mut conn = place.by_hand();
    AnsiTransactionManager::begin_transaction(&mut conn).unwrap();
    for number in 0..KEYS {
        boards[0].push_in(&mut conn, keyed(key(number))).unwrap();
    }
    let waiting: Vec<_> = (0..KEYS)
        .map(|number| {
            let board = boards[0].clone();
            actix_rt::spawn(async move { board.push(keyed(key(number))).await })
        })
        .collect();
    go_on(&boards).await;
    assert!(waiting.iter().all(|push| !push.is_finished()), "their keys are held");
    soon("the stop", boards[0].stop()).await;
    for push in waiting {
        let answer = soon("an answer", push).await.unwrap();
        assert!(answer.is_err(), "the key is held until after the stop: {answer:?}");
    }
    AnsiTransactionManager::rollback_transaction(&mut conn).unwrap();
    assert!(!soon("an answer", boards[1].push(keyed(key(0)))).await.unwrap().duplicate);
    stop(&boards[1..]).await;
}
