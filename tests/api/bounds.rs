//! Bounds of every field. A call checks the size of each field before it sends anything to storage. It refuses a value
//! that cannot be stored unchanged.

use std::time::Duration;

use callboard::{
    Board, BoardError, EditAction, NewTask, Outcome, PushError, Retry, Schedule, TaskError, TaskFilter, TaskState,
    Trigger, Unique, Zone,
};
use serde_json::{Value, json};

use crate::{Held, soon, start};

const KIB: usize = 1 << 10;

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| json!([inner]))
}

fn task() -> NewTask {
    NewTask::new("n", &())
}

#[actix_rt::test]
async fn each_field_of_a_push_has_its_bound_and_its_neighbours_do_not_suffer() {
    let board = start(Board::builder()).await;
    let tags = |tags: usize| (0..tags).fold(task(), |task, tag| task.tag(format!("{tag}")));
    for (fits, too_large, named) in [
        (NewTask::new("n", &text((1 << 20) - 2)), NewTask::new("n", &text((1 << 20) - 1)), "`max_params_bytes`"),
        (task().meta(json!(text(64 * KIB - 2))), task().meta(json!(text(64 * KIB - 1))), "`max_meta_bytes`"),
        (task().tag(text(200)), task().tag(text(201)), "a tag has 1 to 200 bytes"),
        (task().tag("a"), task().tag(""), "a tag has 1 to 200 bytes"),
        (tags(100), tags(101), "at most 100 tags"),
        (task().unique(Unique::key(text(250))), task().unique(Unique::key(text(251))), "1 to 250 bytes"),
        (task().limit_key(text(250)), task().limit_key(text(251)), "limit_key"),
        (task().queue(text(200)), task().queue(text(201)), "queue"),
        (NewTask::new(text(200), &()), NewTask::new(text(201), &()), "type"),
        (NewTask::new("n", &nested(127)), NewTask::new("n", &nested(128)), "128 levels"),
        (task().meta(nested(127)), task().meta(nested(128)), "128 levels"),
        (NewTask::new("n", &f64::MAX), NewTask::new("n", &f64::NAN), "NaN"),
    ] {
        let (fits, refused) = (board.push(fits), board.push(too_large));
        let (pushed, refused) = futures_util::future::join(fits, refused).await;
        assert!(pushed.is_ok(), "{named}: {pushed:?}");
        assert!(matches!(&refused, Err(PushError::Invalid(text)) if text.contains(named)), "{named}: {refused:?}");
    }
    board.leave_rest();
}

#[actix_rt::test]
async fn what_is_said_of_a_task_has_its_bound() {
    let board = start(Board::builder()).await;
    let task_id = board.push(task()).await.unwrap().task_id;
    let invalid = |error: BoardError| matches!(&error, BoardError::Invalid(text) if text.contains("10000"));
    assert!(invalid(board.cancel(task_id, text(10_001)).await.unwrap_err()));
    let filter = TaskFilter { states: vec![TaskState::Pending], ..TaskFilter::default() };
    assert!(invalid(board.edit_all(filter, EditAction::Cancel(text(10_001))).await.unwrap_err()));
    board.assert_state(task_id, TaskState::Pending);
    assert!(board.cancel(task_id, text(10_000)).await.unwrap());
    let schedule = |description| {
        let hourly = Trigger::cron("@hourly", Zone::UTC).unwrap();
        Schedule::new("s", hourly, task()).description(description)
    };
    assert!(invalid(board.schedules().create(schedule(text(10_001))).await.unwrap_err()));
    board.schedules().create(schedule(text(10_000))).await.unwrap();
    board.leave_rest();
}

#[actix_rt::test]
async fn what_a_run_says_is_cut_and_what_it_returns_is_refused() {
    let builder = Board::builder()
        .handler("fails", |_, _| async { Err::<Outcome, _>(TaskError::fatal("ä".repeat(100_000)).into()) })
        .handler("reports", |_, cx| async move {
            cx.progress(0.5, text(100 * KIB));
            Ok(Outcome::done())
        })
        .handler("returns", |_, _| async { Ok(Outcome::from(json!(text((1 << 20) - 1)))) });
    let board = start(builder).await;
    let end = async |kind: &'static str| {
        let pushed = board.push(NewTask::new(kind, &())).await.unwrap();
        soon(board.wait(pushed.task_id)).await.unwrap()
    };
    let failed = end("fails").await.last_error.unwrap();
    assert!(failed.len() <= 64 * KIB && failed.ends_with("[cut: 200000 bytes in all]"), "{}", failed.len());
    assert_eq!(end("reports").await.progress.unwrap().message.len(), 4 * KIB);
    let returned = end("returns").await;
    assert_eq!(returned.state, TaskState::Dead);
    assert!(returned.last_error.unwrap().contains("`max_result_bytes`"));
}

#[actix_rt::test]
async fn a_result_is_kept_as_it_was_written_or_refused_by_the_call_that_brings_it() {
    let builder = Board::builder()
        .handler("large", |_, _| async { Outcome::output(&u128::MAX) })
        .handler("short", |_, _| async { Outcome::output(&1.1_f32) })
        .handler("set", |_, cx| async move {
            cx.set_result(&u128::MAX)?;
            Ok(Outcome::done())
        })
        .handler("deep", |_, _| async { Outcome::output(&nested(127)) })
        .handler("deeper", |_, _| async { Outcome::output(&nested(128)) })
        .handler("value", |_, _| async { Ok(Outcome::Done(Some(nested(128)))) })
        .handler("nan", |_, cx| async move {
            assert!(cx.set_result(&[f64::NAN]).is_err());
            Outcome::output(&json!(f32::MIN)).and(Outcome::output(&f32::NAN))
        });
    let board = start(builder).await;
    for (kind, state) in [
        ("large", TaskState::Completed),
        ("short", TaskState::Completed),
        ("set", TaskState::Completed),
        ("deep", TaskState::Completed),
        ("deeper", TaskState::Dead),
        ("value", TaskState::Dead),
        ("nan", TaskState::Dead),
    ] {
        let pushed = board.push(NewTask::new(kind, &())).await.unwrap();
        let ended = soon(board.wait(pushed.task_id)).await.unwrap();
        assert_eq!(ended.state, state, "{kind}: {:?}", ended.last_error);
        match kind {
            "short" => assert_eq!(ended.result, Some(json!(1.1))),
            "deep" => assert_eq!(ended.result, Some(nested(127))),
            _ => assert_eq!(ended.result.is_some(), state == TaskState::Completed, "{kind}"),
        }
    }
    board.leave_rest();
}

#[actix_rt::test]
async fn memory_refuses_pushes_above_its_bound_and_lets_everything_else_come_to_its_end() {
    let (mut held, builder) = Held::new();
    let builder = builder.queue("default", 4).configure(|config| config.max_memory_bytes = 100_000);
    let board = start(builder).await;
    let mut pushed = Vec::new();
    let refused = loop {
        match board.push(NewTask::new("held", &text(1_000))).await {
            Ok(task) => pushed.push(task.task_id),
            Err(error) => break error.to_string(),
        }
    };
    assert!((50..100).contains(&pushed.len()), "{}", pushed.len());
    assert!(refused.contains("`max_memory_bytes` allows 100000") && refused.contains("retention"), "{refused}");
    assert!(matches!(board.try_push(task()).await, Err(PushError::NoRoom(_))));
    for _ in 0..4 {
        held.begun().await;
    }
    held.let_go(1_000);
    for task_id in &pushed {
        assert_eq!(soon(board.wait(*task_id)).await.unwrap().state, TaskState::Completed);
    }
    // Finished tasks count towards the bound until they are deleted.
    assert!(matches!(board.push(task()).await, Err(PushError::NoRoom(_))));
    board.delete(pushed[0]).await.unwrap();
    let again = board.push(NewTask::new("held", &())).await.unwrap();
    assert_eq!(soon(board.wait(again.task_id)).await.unwrap().state, TaskState::Completed);
}

const SPANS: [Duration; 4] =
    [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(u64::MAX), Duration::MAX];

fn span(params: &Value) -> Duration {
    SPANS[usize::try_from(params.as_u64().unwrap()).unwrap()]
}

#[actix_rt::test]
async fn spans_at_the_ends_of_their_range_are_taken() {
    let builder = Board::builder()
        .handler("snoozes", |params, _| async move { Ok(Outcome::Snooze(span(&params))) })
        .handler("fails", |params, _| async move {
            Err::<Outcome, _>(TaskError::new("no").retry_after(span(&params)).into())
        })
        .handler("n", |_, _| async { Ok(Outcome::done()) });
    let board = builder.start().await.unwrap();
    for (place, span) in SPANS.into_iter().enumerate() {
        for task in [
            task().delay(span),
            task().timeout(span),
            task().expires_in(span),
            task().unique(Unique::key(format!("{place}")).period(span)),
            task().retry(Retry::fixed(span)),
            task().retry(Retry::exponential(span).cap(span)),
            NewTask::new("snoozes", &place).timeout(Duration::MAX),
            NewTask::new("fails", &place).max_attempts(2),
        ] {
            let pushed = board.push(task).await;
            assert!(matches!(pushed, Ok(_) | Err(PushError::Invalid(_))), "{pushed:?}");
        }
        board.push(NewTask::new("any", &()).queue("pulled").timeout(Duration::MAX)).await.unwrap();
        let delivery = soon(board.pop("pulled", Some(Duration::MAX))).await.unwrap().unwrap();
        delivery.extend(span).unwrap_or(());
        drop(delivery.snooze(span).await);
        board.store().set(&format!("{place}"), &1, Some(span)).await.unwrap_or(());
    }
    // All parts of the board still work.
    let last = board.push(task()).await.unwrap();
    assert_eq!(soon(board.wait(last.task_id)).await.unwrap().state, TaskState::Completed);
    assert!(board.health().await.healthy);
    soon(board.stop()).await;
}
