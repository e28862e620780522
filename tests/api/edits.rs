//! Changes to stored tasks.

use std::time::Duration;

use callboard::{
    Board, BoardError, Context, EditAction, Edited, LogForm, NewTask, Outcome, ScheduleFilter, TaskError, TaskFilter,
    TaskState,
};
use serde_json::json;
use slog::Level;

use crate::{HOUR, Held, count, ids, soon, start};

fn tagged(tag: &str) -> TaskFilter {
    TaskFilter { tag: Some(tag.into()), ..TaskFilter::default() }
}

#[actix_rt::test]
async fn an_edit_by_filter_changes_what_matches_and_nothing_else() {
    let board = start(Board::builder()).await;
    let tasks = ["a", "b", "a"].map(|tag| NewTask::new("x", &()).tag(tag).delay(HOUR));
    let pushed = ids(&board.push_many(tasks).await.unwrap());
    let edited = board.edit_all(tagged("a"), EditAction::Cancel("not wanted".into())).await.unwrap();
    assert_eq!(edited, Edited { changed: 2, cancelling: 0 });
    board.assert_state(pushed[0], TaskState::Cancelled);
    board.assert_state(pushed[1], TaskState::Scheduled);
    // A repeated edit changes nothing, because the first edit has already cancelled the task.
    let again = board.edit_all(tagged("a"), EditAction::Cancel("not wanted".into())).await.unwrap();
    assert_eq!(again, Edited::default());
    board.cancel(pushed[1], "the test ends").await.unwrap();
}

#[actix_rt::test]
async fn a_filter_that_matches_everything_is_refused_and_changes_nothing() {
    let board = start(Board::builder()).await;
    let task = board.push(NewTask::new("x", &()).delay(HOUR)).await.unwrap().task_id;
    for action in [EditAction::Delete, EditAction::Cancel(String::new()), EditAction::Retry] {
        let refused = board.edit_all(TaskFilter::default(), action).await.unwrap_err();
        assert!(matches!(&refused, BoardError::Invalid(why) if why.contains("edit_everything")), "{refused}");
    }
    board.assert_state(task, TaskState::Scheduled);
    board.cancel(task, "the test ends").await.unwrap();
}

#[actix_rt::test]
async fn everything_is_edited_on_purpose_in_more_than_one_transaction() {
    let board = start(Board::builder()).await;
    board.push_many((0..2_500).map(|n| NewTask::new("x", &n))).await.unwrap();
    let edited = board.edit_everything(EditAction::Delete).await.unwrap();
    assert_eq!(edited, Edited { changed: 2_500, cancelling: 0 });
    assert!(board.counts().await.unwrap().is_empty());
}

#[actix_rt::test]
async fn tasks_that_die_again_at_once_are_retried_once_and_the_others_have_their_turn() {
    let dies = |_, _| async { Err::<(), _>(TaskError::fatal("again").into()) };
    let board = start(Board::builder().handler("dies", dies)).await;
    let pushed = ids(&board.push_many((0..2_500).map(|n| NewTask::new("dies", &n))).await.unwrap());
    board.settle().await;
    let dead = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
    let edited = soon(board.edit_all(dead, EditAction::Retry)).await.unwrap();
    assert_eq!(edited, Edited { changed: 2_500, cancelling: 0 });
    board.settle().await;
    for task in [pushed[0], pushed[2_499]] {
        assert_eq!(board.executions(task).await.unwrap().len(), 2, "once as pushed, and once more");
    }
}

#[actix_rt::test]
async fn running_tasks_of_an_edit_are_asked_to_end() {
    let (tell, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let board = start(Board::builder().handler("ends", move |_, cx: Context| {
        tell.send(cx.task_id()).ok();
        async move {
            cx.cancelled().await;
            Err::<(), _>(TaskError::new("as asked").into())
        }
    }))
    .await;
    let task = board.push(NewTask::new("ends", &()).tag("a")).await.unwrap().task_id;
    assert_eq!(soon(begun.recv()).await, Some(task));
    let edited = board.edit_all(tagged("a"), EditAction::Cancel("not wanted".into())).await.unwrap();
    assert_eq!(edited, Edited { changed: 0, cancelling: 1 });
    let ended = soon(board.wait(task)).await.unwrap();
    assert_eq!((ended.state, ended.last_error.as_deref()), (TaskState::Cancelled, Some("not wanted")));
}

#[actix_rt::test]
async fn a_task_with_a_new_priority_runs_before_the_others() {
    let (mut held, builder) = Held::new();
    let board = start(builder.queue("default", 1)).await;
    let pushed = ids(&board.push_many((0..3).map(|_| json!({"type": "held"}))).await.unwrap());
    assert_eq!(held.begun().await, pushed[0]);
    assert!(board.reprioritise(pushed[2], -5).await.unwrap());
    assert!(!board.reprioritise(pushed[0], -5).await.unwrap(), "it runs already");
    held.let_go(3);
    assert_eq!([held.begun().await, held.begun().await], [pushed[2], pushed[1]]);
    board.settle().await;
    assert_eq!(board.get(pushed[2]).await.unwrap().unwrap().priority, -5);
}

#[actix_rt::test]
async fn a_task_runs_at_the_time_that_it_was_moved_to() {
    let board = start(Board::builder().handler("n", |_, _| async { Ok(Outcome::done()) })).await;
    let task = board.push(NewTask::new("n", &()).delay(24 * HOUR)).await.unwrap().task_id;
    let now = board.clock().now();
    assert!(board.reschedule(task, now + HOUR).await.unwrap());
    board.advance(HOUR - Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Scheduled);
    board.advance(Duration::from_secs(1)).await;
    board.assert_state(task, TaskState::Completed);
    assert!(!board.reschedule(task, now).await.unwrap(), "it has run");
}

#[actix_rt::test]
async fn a_task_is_moved_to_now_and_a_waiting_one_to_later() {
    let board = start(Board::builder().handler("n", |_, _| async { Ok(Outcome::done()) })).await;
    let later = board.push(NewTask::new("n", &()).delay(24 * HOUR)).await.unwrap().task_id;
    assert!(board.reschedule(later, board.clock().now()).await.unwrap());
    board.settle().await;
    board.assert_state(later, TaskState::Completed);
    board.pause("default").await.unwrap();
    let waits = board.push(json!({"type": "n"})).await.unwrap().task_id;
    assert!(board.reschedule(waits, board.clock().now() + HOUR).await.unwrap());
    board.assert_state(waits, TaskState::Scheduled);
    board.resume("default").await.unwrap();
    board.advance(HOUR).await;
    board.assert_state(waits, TaskState::Completed);
}

#[actix_rt::test]
async fn a_task_log_keeps_what_is_important_enough() {
    for (level, kept) in [(None, "info warning"), (Some(Level::Warning), "warning"), (Some(Level::Error), "")] {
        let logs = tempfile::tempdir().unwrap();
        let builder = Board::builder().task_logs(logs.path()).handler("writes", |_, cx: Context| async move {
            slog::trace!(cx.log(), "trace");
            slog::info!(cx.log(), "info");
            slog::warn!(cx.log(), "warning");
            Ok(Outcome::done())
        });
        let board = start(match level {
            Some(level) => builder.task_log_level(level),
            None => builder,
        })
        .await;
        let task = board.push(json!({"type": "writes"})).await.unwrap().task_id;
        board.settle().await;
        let log = board.task_logs().unwrap().read(task, 1, LogForm::Json, 0..u64::MAX).unwrap();
        let lines = log.map(|log| log.text).unwrap_or_default();
        let said = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let said: Vec<_> = said.map(|record| record["msg"].as_str().unwrap().to_owned()).collect();
        assert_eq!(said.join(" "), kept, "{level:?}");
    }
}

#[actix_rt::test]
async fn logs_are_removed_with_their_task_and_others_stay() {
    let logs = tempfile::tempdir().unwrap();
    let builder = Board::builder().task_logs(logs.path()).handler("writes", |_, cx: Context| async move {
        slog::info!(cx.log(), "here");
        Ok(Outcome::done())
    });
    let board = start(builder).await;
    let pushed = ids(&board.push_many((0..2).map(|_| json!({"type": "writes"}))).await.unwrap());
    board.settle().await;
    let folder = |task: usize| logs.path().join(pushed[task].to_string());
    assert!(folder(0).is_dir() && folder(1).is_dir());
    assert!(board.delete(pushed[0]).await.unwrap());
    assert!(!board.delete(pushed[0]).await.unwrap(), "it is gone");
    assert!(board.executions(pushed[0]).await.unwrap().is_empty());
    soon(async {
        while folder(0).exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(folder(1).is_dir());
    assert_eq!(count(&board, TaskState::Completed).await, 1);
}

#[actix_rt::test]
async fn what_is_not_kept_any_longer_is_pruned_and_its_logs_with_it() {
    let logs = tempfile::tempdir().unwrap();
    let builder = Board::builder()
        .task_logs(logs.path())
        .retention(TaskState::Completed, Some(HOUR), None)
        .handler("writes", |_, cx: Context| async move {
            slog::info!(cx.log(), "here");
            Ok(Outcome::done())
        })
        .handler("fails", |_, _| async { Err::<(), _>(TaskError::fatal("no").into()) });
    let board = start(builder).await;
    let done = board.push(json!({"type": "writes"})).await.unwrap().task_id;
    let dead = board.push(json!({"type": "fails"})).await.unwrap().task_id;
    board.settle().await;
    assert!(logs.path().join(done.to_string()).is_dir());
    board.jump(2 * HOUR).await;
    soon(async {
        while board.get(done).await.unwrap().is_some() || logs.path().join(done.to_string()).exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    board.assert_state(dead, TaskState::Dead);
}

#[actix_rt::test]
async fn more_text_than_a_database_can_look_for_is_refused() {
    let board = start(Board::builder()).await;
    let long = TaskFilter { text: Some("x".repeat(10_001)), ..TaskFilter::default() };
    let many = TaskFilter { types: vec!["some_type".into(); 2_000], ..TaskFilter::default() };
    for filter in [long, many] {
        let listed = board.list(filter.clone(), Default::default(), None, 10).await.unwrap_err();
        assert!(matches!(&listed, BoardError::Invalid(why) if why.contains("10000 are allowed")), "{listed}");
        let edited = board.edit_all(filter, EditAction::Retry).await.unwrap_err();
        assert!(matches!(&edited, BoardError::Invalid(why) if why.contains("10000 are allowed")), "{edited}");
    }
    let schedules = ScheduleFilter { text: Some("x".repeat(10_001)), ..ScheduleFilter::default() };
    let listed = board.schedules().list(schedules, None, 10).await.unwrap_err();
    assert!(matches!(&listed, BoardError::Invalid(why) if why.contains("10000 are allowed")), "{listed}");
}
