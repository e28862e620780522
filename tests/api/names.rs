//! All names follow the same rule, on every storage: the names of queues, types, limits and schedules.

use std::time::Duration;

use callboard::{
    BackfillOrder, Board, BoardError, EditAction, Limit, LimitScope, Outcome, PushError, Resume, Schedule,
    ScheduleFilter, StartError, TaskFilter, TaskOrder, Trigger,
};
use serde_json::json;

use crate::start;

/// Names that are refused before storage is asked.
fn bad_names() -> [String; 4] {
    ["bad\0name".into(), "two\nlines".into(), String::new(), "n".repeat(201)]
}

fn refused<T>(what: &str, name: &str, answer: Result<T, BoardError>) {
    let answer = answer.map(drop);
    let refused = matches!(&answer, Err(BoardError::Invalid(text)) if text.contains("200 bytes"));
    assert!(refused, "{what} with {name:?}: {answer:?}");
}

#[actix_rt::test]
async fn every_call_refuses_what_is_no_name() {
    let board = start(Board::builder()).await;
    for name in bad_names() {
        let new = || name.clone();
        refused("pop", &name, board.pop(new(), Some(Duration::ZERO)).await);
        refused("pause", &name, board.pause(new()).await);
        refused("resume", &name, board.resume(new()).await);
        refused("drain", &name, board.drain(new()).await);
        refused("set_concurrency", &name, board.set_concurrency(new(), Some(1)).await);
        refused("set_limit", &name, board.set_limit(Limit::of_queue(new()).running(1)).await);
        for scope in [LimitScope::Queue, LimitScope::Type, LimitScope::Key] {
            refused("remove_limit", &name, board.remove_limit(scope, new()).await);
        }
        let schedules = board.schedules();
        let now = board.clock().now();
        let plan = |name: String| {
            Schedule::new(name, Trigger::cron("@hourly", None).unwrap(), callboard::NewTask::new("x", &()))
        };
        refused("create", &name, schedules.create(plan(new())).await);
        refused("update", &name, schedules.update(new(), plan("good".into())).await);
        refused("upsert", &name, schedules.upsert(plan(new())).await);
        refused("schedules.pause", &name, schedules.pause(new()).await);
        refused("pause_until", &name, schedules.pause_until(new(), now + crate::HOUR).await);
        refused("schedules.resume", &name, schedules.resume(new(), Resume::FromNow).await);
        refused("trigger", &name, schedules.trigger(new()).await);
        refused("delete", &name, schedules.delete(new()).await);
        refused("backfill", &name, schedules.backfill(new(), now, now, BackfillOrder::default()).await);
        refused("move_cursor", &name, schedules.move_cursor(new(), now).await);
        refused("get", &name, schedules.get(new()).await);
        refused("firings", &name, schedules.firings(new(), None, 1).await);
        refused("preview", &name, schedules.preview(new(), 1).await);
        for push in [json!({"type": name}), json!({"type": "x", "queue": name})] {
            assert!(matches!(board.push(push).await, Err(PushError::Invalid(_))), "{name:?}");
        }
    }
    assert!(board.queue_settings().await.unwrap().is_empty() && board.limits().await.unwrap().is_empty());
}

#[actix_rt::test]
async fn texts_that_are_looked_for_have_no_nul() {
    let board = start(Board::builder()).await;
    let nul = || "a\0b".to_owned();
    let filters = [
        TaskFilter { queues: vec![nul()], ..TaskFilter::default() },
        TaskFilter { types: vec![nul()], ..TaskFilter::default() },
        TaskFilter { tag: Some(nul()), ..TaskFilter::default() },
        TaskFilter { text: Some(nul()), ..TaskFilter::default() },
    ];
    for filter in filters {
        let listed = board.list(filter.clone(), TaskOrder::NewestFirst, None, 1).await.map(drop);
        let edited = board.edit_all(filter, EditAction::Retry).await.map(drop);
        for answer in [listed, edited] {
            assert!(matches!(answer, Err(BoardError::Invalid(_))), "{answer:?}");
        }
    }
    let schedules = board.schedules();
    let filters = [
        ScheduleFilter { types: vec![nul()], ..ScheduleFilter::default() },
        ScheduleFilter { text: Some(nul()), ..ScheduleFilter::default() },
    ];
    for filter in filters {
        assert!(matches!(schedules.list(filter, None, 1).await, Err(BoardError::Invalid(_))));
    }
    let after = schedules.list(ScheduleFilter::default(), Some(nul()), 1).await;
    assert!(matches!(after, Err(BoardError::Invalid(_))), "{after:?}");
    let trigger = Trigger::cron("@hourly", None).unwrap();
    let described = Schedule::new("s", trigger, callboard::NewTask::new("x", &())).description(nul());
    assert!(matches!(schedules.create(described).await, Err(BoardError::Invalid(_))));
}

#[actix_rt::test]
async fn a_board_does_not_start_with_a_handler_whose_type_is_no_name() {
    for name in bad_names() {
        let builder = Board::builder().handler(name.clone(), |_, _| async { Ok(Outcome::done()) });
        match builder.start().await {
            Err(StartError::Config(faults)) => assert!(faults[0].contains("200 bytes"), "{faults:?}"),
            other => panic!("{name:?}: {other:?}"),
        }
    }
}
