//! Limits over all nodes, through the calls of a board.

use std::collections::BTreeMap;
use std::time::Duration;

use callboard::testing::TestBoard;
use callboard::{Board, BoardError, Limit, LimitScope, NewTask, Outcome, PushError, TaskState, Timestamp};
use serde_json::json;

use crate::{Held, count, ids, soon, start};

const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

fn mailer() -> callboard::BoardBuilder {
    Board::builder().handler("mail", |_, _| async { Ok(Outcome::done()) })
}

fn mails(tasks: usize) -> impl Iterator<Item = NewTask> {
    (0..tasks).map(|number| NewTask::new("mail", &number))
}

async fn done(board: &TestBoard) -> u64 {
    count(board, TaskState::Completed).await
}

#[actix_rt::test]
async fn exactly_five_of_twenty_start_in_each_second() {
    let board = start(mailer().queue("default", 50)).await;
    board.set_limit(Limit::of_type("mail").rate(5, SECOND)).await.unwrap();
    let pushed = ids(&board.push_many(mails(20)).await.unwrap());
    board.settle().await;
    assert_eq!(done(&board).await, 5);
    board.advance(SECOND - MICRO).await;
    assert_eq!(done(&board).await, 5);
    board.advance(MICRO).await;
    assert_eq!(done(&board).await, 10);
    // However far the clock moves in a single call, exactly five tasks start in each second.
    board.advance(10 * SECOND).await;
    let mut starts: BTreeMap<Timestamp, u32> = BTreeMap::new();
    for task in pushed {
        *starts.entry(board.executions(task).await.unwrap()[0].started_at).or_default() += 1;
    }
    assert_eq!(starts.values().copied().collect::<Vec<_>>(), [5; 4]);
    let times: Vec<_> = starts.into_keys().collect();
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + SECOND), "{times:?}");
}

#[actix_rt::test]
async fn a_limit_of_running_tasks_lets_the_next_start_when_one_has_ended() {
    let (mut held, builder) = Held::new();
    let board = start(builder.queue("default", 10).queue("other", 10)).await;
    board.set_limit(Limit::of_key("customer").running(1)).await.unwrap();
    let push = |key: &str, queue| NewTask::new("held", &()).limit_key(key).queue(queue);
    let anna = [push("customer:anna", "default"), push("customer:anna", "other")];
    let anna = ids(&board.push_many(anna).await.unwrap());
    assert_eq!(held.begun().await, anna[0]);
    let bert = board.push(push("customer:bert", "default")).await.unwrap().task_id;
    assert_eq!(held.begun().await, bert, "held up by nobody");
    board.assert_state(anna[1], TaskState::Pending);
    held.let_go(2);
    // This task is in a different lane than the run that ended.
    assert_eq!(held.begun().await, anna[1]);
    held.let_go(1);
    board.settle().await;
    assert_eq!(done(&board).await, 3);
}

#[actix_rt::test]
async fn what_a_limit_held_back_starts_when_it_is_loosened_or_removed() {
    let (mut held, builder) = Held::new();
    let board = start(builder.queue("default", 10)).await;
    board.set_limit(Limit::of_queue("default").running(1)).await.unwrap();
    board.push_many((0..6).map(|_| json!({"type": "held"}))).await.unwrap();
    held.begun().await;
    board.set_limit(Limit::of_queue("default").running(2)).await.unwrap();
    held.begun().await;
    assert_eq!(count(&board, TaskState::Running).await, 2);
    // A single task per day.
    board.set_limit(Limit::of_type("held").rate(1, 86_400 * SECOND)).await.unwrap();
    assert!(board.remove_limit(LimitScope::Queue, "default").await.unwrap());
    held.begun().await;
    assert_eq!((count(&board, TaskState::Running).await, count(&board, TaskState::Pending).await), (3, 3));
    assert!(board.remove_limit(LimitScope::Type, "held").await.unwrap());
    assert!(!board.remove_limit(LimitScope::Type, "held").await.unwrap());
    for _ in 0..3 {
        held.begun().await;
    }
    held.let_go(6);
    board.settle().await;
    assert_eq!(board.limits().await.unwrap(), []);
}

#[actix_rt::test]
async fn who_pulls_obeys_the_same_limits() {
    let board = start(Board::builder()).await;
    board.set_limit(Limit::of_type("x").running(1).rate(2, 60 * SECOND)).await.unwrap();
    let pushed = ids(&board.push_many((0..3).map(|_| json!({"type": "x"}))).await.unwrap());
    let pop = || async { soon(board.pop("default", Some(Duration::ZERO))).await.unwrap() };
    let first = pop().await.unwrap();
    assert!(pop().await.is_none(), "one runs");
    let waiting = board.board().clone();
    let waiting = actix_rt::spawn(async move { waiting.pop("default", None).await });
    first.ack().await.unwrap();
    let second = soon(waiting).await.unwrap().unwrap().unwrap();
    second.reject(true).await.unwrap();
    assert!(pop().await.is_none(), "two have started");
    board.advance(60 * SECOND).await;
    let third = pop().await.unwrap();
    assert_eq!((third.task_id(), third.attempt()), (pushed[1], 2), "a retry is a start of its own");
    third.ack().await.unwrap();
    board.leave_rest();
}

#[actix_rt::test]
async fn tasks_that_no_limit_is_for_are_not_held_up() {
    let builder = mailer().handler("quick", |_, _| async { Ok(Outcome::done()) });
    let board = start(builder.queue("default", 2)).await;
    board.set_limit(Limit::of_type("mail").rate(1, 3_600 * SECOND)).await.unwrap();
    board.push_many(mails(3)).await.unwrap();
    let quick = board.push_many((0..50).map(|_| json!({"type": "quick"}))).await.unwrap();
    board.settle().await;
    assert_eq!(done(&board).await, 51);
    for task in quick {
        board.assert_state(task.task_id, TaskState::Completed);
    }
    board.advance(2 * 3_600 * SECOND).await;
    assert_eq!(done(&board).await, 53);
}

#[actix_rt::test]
async fn limits_and_keys_that_are_none_are_refused() {
    let board = start(mailer()).await;
    for limit in [
        Limit::of_queue("default"),
        Limit::of_queue("default").running(0),
        Limit::of_type("mail").rate(0, SECOND),
        Limit::of_key("api").rate(1, MICRO),
        Limit::of_key("api").rate(1, Duration::from_micros(1 << 63)),
        Limit::of_key("api").rate(1, Duration::MAX),
        serde_json::from_value(json!({"scope": "key", "name": "api", "rate": {"tasks": 1, "period_us": u64::MAX}}))
            .unwrap(),
        Limit::of_key("").running(1),
    ] {
        assert!(matches!(board.set_limit(limit).await, Err(BoardError::Invalid(_))));
    }
    assert_eq!(board.limits().await.unwrap(), []);
    let keyed = NewTask::new("mail", &()).limit_key("");
    assert!(matches!(board.push(keyed).await, Err(PushError::Invalid(_))));
    let task = board.push(json!({"type": "mail", "limit_key": "api:anna"})).await.unwrap().task_id;
    assert_eq!(board.wait(task).await.unwrap().limit_key.as_deref(), Some("api:anna"));
}
