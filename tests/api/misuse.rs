//! Storage that refuses a single item, or stays away longer than a caller waits. All other work must go on.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::{BackendError, memory::Memory};
use callboard::testing::{Fault, Faulty};
use callboard::{Board, BoardBuilder, BoardError, NewTask, Outcome, PushError, Retry, TaskError, TaskId, TaskState};
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Notify;

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(90), work).await.expect("no answer in time")
}

/// Storage that refuses every item with the text "poison", and a board on it. The handlers return or fail with a text
/// that their params choose.
fn poisoned(blocks: bool) -> (Arc<Faulty>, BoardBuilder) {
    let storage = Faulty::new(Arc::new(Memory::new()), blocks);
    storage.refuse("poison");
    let builder = Board::builder()
        .backend(storage.clone())
        .queue("default", 16)
        .handler("say", |params, _| async move {
            // The text is put together here, so that the push itself does not contain the refused text.
            Ok(Outcome::from(json!(format!("poi{}", params["end"].as_str().unwrap_or_default()))))
        })
        .handler("fail", |params, cx| {
            let second = cx.attempt() > 1;
            async move {
                if second {
                    return Ok(Outcome::done());
                }
                Err(TaskError::new(format!("poi{}", params["end"].as_str().unwrap_or_default())).into())
            }
        });
    (storage, builder)
}

#[actix_rt::test]
async fn one_push_that_storage_refuses_takes_no_other_with_it() {
    for blocks in [true, false] {
        let (storage, builder) = poisoned(blocks);
        let board = builder.start().await.unwrap();
        if blocks {
            // Commits are slow, so that several pushes share a commit.
            storage.slow_down(Duration::from_millis(5));
        }
        let pushes = (0..40).map(|n| {
            let note = if n % 13 == 5 { "poison" } else { "fine" };
            board.push(json!({"type": "say", "params": {"end": "nt", "note": note}}))
        });
        let answers = soon(join_all(pushes)).await;
        for (n, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(pushed) => {
                    assert_ne!(n % 13, 5);
                    assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
                }
                Err(PushError::Storage(BackendError::Permanent { .. })) => assert_eq!(n % 13, 5),
                Err(error) => panic!("push {n}: {error}"),
            }
        }
        soon(board.stop()).await;
    }
}

#[actix_rt::test]
async fn a_result_that_storage_refuses_makes_its_task_dead_and_stops_nothing() {
    for blocks in [true, false] {
        let (_storage, builder) = poisoned(blocks);
        let board = builder.start().await.unwrap();
        let pushes = (0..20).map(|n| {
            let end = if n == 7 { "son" } else { "nt" };
            board.push(json!({"type": "say", "params": {"end": end}}))
        });
        let pushed: Vec<_> = soon(join_all(pushes)).await.into_iter().map(Result::unwrap).collect();
        for (n, pushed) in pushed.into_iter().enumerate() {
            let task = soon(board.wait(pushed.task_id)).await.unwrap();
            let state = if n == 7 { TaskState::Dead } else { TaskState::Completed };
            assert_eq!(task.state, state, "{task:?}");
            if n == 7 {
                let error = task.last_error.unwrap();
                assert!(error.contains("could not be stored") && error.contains("made to refuse"), "{error}");
            }
        }
        soon(board.stop()).await;
    }
}

#[actix_rt::test]
async fn an_error_that_storage_refuses_is_replaced_and_its_task_tried_again() {
    let (_storage, builder) = poisoned(true);
    let board = builder.start().await.unwrap();
    let task = callboard::NewTask::new("fail", &json!({"end": "son"})).retry(Retry::fixed(Duration::ZERO));
    let pushed = soon(board.push(task)).await.unwrap();
    assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
    let runs = board.executions(pushed.task_id).await.unwrap();
    assert!(runs[0].error_message.as_deref().unwrap().contains("could not be stored"), "{runs:?}");
    soon(board.stop()).await;
}

#[actix_rt::test]
async fn a_push_is_given_up_in_time_though_an_end_waits_for_storage_as_well() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let board = Board::builder()
        .backend(storage.clone())
        .configure(|c| c.push_deadline = Duration::from_millis(50))
        .handler("gated", move |_, _| {
            let gate = Arc::clone(&opened);
            async move {
                gate.notified().await;
                Ok(Outcome::done())
            }
        })
        .start()
        .await
        .unwrap();
    let gated = soon(board.push(json!({"type": "gated"}))).await.unwrap();
    storage.next_commits([Fault::Away; 12]);
    gate.notify_one();
    // The first push meets the failure. The second push comes while the end of the run is sent again and again.
    for _ in 0..2 {
        let error = soon(board.push(json!({"type": "gated"}))).await.unwrap_err();
        assert!(matches!(error, PushError::Storage(_)), "{error}");
    }
    assert_eq!(soon(board.wait(gated.task_id)).await.unwrap().state, TaskState::Completed);
    soon(board.stop()).await;
}

#[actix_rt::test]
async fn a_push_waits_no_longer_for_a_place_than_for_storage() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let board = Board::builder()
        .backend(storage.clone())
        .configure(|c| (c.max_waiting_pushes, c.push_deadline) = (1, Duration::from_millis(40)))
        .start()
        .await
        .unwrap();
    // A commit takes longer than all of these pushes may wait.
    storage.slow_down(Duration::from_millis(400));
    let pushes = (0..3).map(|_| board.push(json!({"type": "x"})));
    let answers = soon(join_all(pushes)).await;
    let given_up = |answer: &Result<_, PushError>| matches!(answer, Err(error) if error.to_string().contains("max_waiting_pushes"));
    assert_eq!(answers.iter().filter(|answer| given_up(answer)).count(), 2, "{answers:?}");
    storage.slow_down(Duration::ZERO);
    soon(board.stop()).await;
}

#[actix_rt::test]
async fn a_pop_that_does_not_want_to_wait_does_not_wait_for_storage_either() {
    let storage = Faulty::new(Arc::new(Memory::new()), true);
    let board = Board::builder().backend(storage.clone()).start().await.unwrap();
    storage.next_commits([Fault::Away; 1_000]);
    assert!(soon(board.pop("default", Some(Duration::ZERO))).await.unwrap().is_none());
    assert!(storage.left() > 900, "it waited for storage");
    board.stop().await;
}

#[actix_rt::test]
async fn a_claim_that_storage_refuses_takes_no_push_with_it() {
    for blocks in [true, false] {
        let storage = Faulty::new(Arc::new(Memory::new()), blocks);
        storage.refuse_claims(Some("sick"));
        let builder = Board::builder().backend(storage.clone()).queue("sick", 2).queue("well", 4);
        let board = builder.handler("x", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
        let pops = join_all((0..2).map(|_| board.pop("sick", None)));
        let pushes = join_all((0..20).map(|_| board.push(NewTask::new("x", &()).queue("well"))));
        let others = async {
            for pushed in pushes.await {
                let task = board.wait(pushed.unwrap().task_id).await.unwrap();
                assert_eq!(task.state, TaskState::Completed);
            }
        };
        let (pops, ()) = soon(async { tokio::join!(pops, others) }).await;
        for pop in pops {
            let error = pop.unwrap_err();
            assert!(matches!(error, BoardError::Storage(BackendError::Permanent { .. })), "{error}");
        }
        // Storage accepts claims again. The board claims from the queue as soon as the queue may contain a task.
        storage.refuse_claims(None);
        let pushed = soon(board.push(NewTask::new("x", &()).queue("sick"))).await.unwrap();
        assert_eq!(soon(board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
        soon(board.stop()).await;
    }
}

#[actix_rt::test]
async fn the_rest_of_a_refused_batch_does_not_wait_for_the_next_look() {
    let (storage, builder) = poisoned(true);
    let hours = |config: &mut callboard::Config| {
        (config.check_interval, config.push_deadline) = (Duration::from_secs(36_000), Duration::from_secs(36_000));
    };
    let board = builder.configure(hours).start().await.unwrap();
    // A paused queue claims nothing, so it sends nothing to storage. So no other request brings the rest of the batch
    // forward.
    board.pause("default").await.unwrap();
    // Commits are slow, so that several pushes share a commit.
    storage.slow_down(Duration::from_millis(5));
    for _ in 0..5 {
        let pushes = (0..40).map(|n| {
            let note = if n % 13 == 5 { "poison" } else { "fine" };
            board.push(json!({"type": "nobody knows it", "params": {"note": note}}))
        });
        let answers = soon(join_all(pushes)).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 3, "{answers:?}");
    }
    soon(board.stop()).await;
}

#[actix_rt::test]
async fn a_push_whose_first_sending_got_through_is_not_told_that_it_failed() {
    for later in [Fault::Away, Fault::Refuse] {
        let storage = Faulty::new(Arc::new(Memory::new()), true);
        let deadline = |config: &mut callboard::Config| config.push_deadline = Duration::from_millis(50);
        let board = Board::builder().backend(storage.clone()).configure(deadline).start().await.unwrap();
        storage.next_commits([Fault::AnswerLost].into_iter().chain([later; 1_000]));
        let task_id = TaskId::new(board.clock().now());
        let error = soon(board.push(NewTask::new("x", &()).task_id(task_id))).await.unwrap_err();
        assert!(matches!(error, PushError::Storage(BackendError::Unknown { .. })), "{later:?}: {error}");
        assert!(board.get(task_id).await.unwrap().is_some());
        board.stop().await;
    }
}
