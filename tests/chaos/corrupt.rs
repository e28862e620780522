//! Rows that callboard would never write.

use std::time::Duration;

use callboard::{Board, BoardBuilder, NewTask, Outcome, Task, TaskFilter, TaskId, TaskOrder, TaskResult, TaskState};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Place, soon, sql};

#[derive(Serialize, Deserialize)]
struct Typed {
    number: u32,
}

impl Task for Typed {
    const TYPE: &'static str = "typed";
    type Output = Outcome;
    async fn run(self, _: &callboard::Context) -> TaskResult {
        Ok(Outcome::from(json!(self.number)))
    }
}

fn builder(place: &Place) -> BoardBuilder {
    Board::builder().url(place.url())
}

/// Makes a column of a task invalid.
fn spoil(place: &Place, task_id: TaskId, change: &str) {
    sql::execute(&place.file(), &format!("UPDATE task_queue SET {change} WHERE task_id = '{task_id}'"));
}

#[actix_rt::test]
async fn spoilt_rows_are_set_aside_and_everything_else_runs() {
    let place = Place::new();
    let writer = builder(&place).start().await.unwrap();
    let sound = writer.push_many((0..20).map(|number| Typed { number })).await.unwrap();
    let push = async |priority: i32| {
        // These priorities put the task ahead of the sound tasks. So code that fails on a spoilt row never reaches the
        // sound tasks.
        writer.push(NewTask::of(&Typed { number: 1 }).priority(priority)).await.unwrap().task_id
    };
    let (broken, foreign, policy) = (push(-9).await, push(-8).await, push(-7).await);
    let (state, stranger) = (push(-6).await, push(-5).await);
    spoil(&place, broken, r#"params = '{"number": 1'"#);
    spoil(&place, foreign, r#"params = '{"number": "one"}'"#);
    spoil(&place, policy, "retry = 'whenever'");
    spoil(&place, state, "state = 'exploded'");
    spoil(&place, stranger, "type = 'stranger'");

    let board = builder(&place).task::<Typed>().start().await.unwrap();
    for (task, number) in sound.iter().zip(0..) {
        let task = soon("a sound task", board.wait(task.task_id)).await.unwrap();
        assert_eq!((task.state, task.result), (TaskState::Completed, Some(json!(number))));
    }
    for (task_id, reason) in
        [(broken, "params are no JSON"), (foreign, "cannot be decoded"), (policy, "retry policy")]
    {
        let task = soon("a spoilt task", board.wait(task_id)).await.unwrap();
        println!("{}: {}", task.state, task.last_error.as_deref().unwrap_or_default());
        assert_eq!(task.state, TaskState::Dead);
        assert!(task.last_error.as_deref().unwrap_or_default().contains(reason), "{task:?}");
    }
    // A task of a type unknown to this node is left for nodes that know the type.
    let left = board.get(stranger).await.unwrap().unwrap();
    assert_eq!((left.state, left.attempt, left.crash_count), (TaskState::Pending, 0, 0));
    // A list of all tasks shows the row as well as possible.
    let page = board.list(TaskFilter::default(), TaskOrder::OldestFirst, None, 100).await.unwrap();
    assert_eq!(page.tasks.len(), 25);
    let odd = page.tasks.iter().find(|task| task.task_id == state).unwrap();
    println!("a state that is none is shown as {}", odd.state);
    assert!(!board.counts().await.unwrap().is_empty());

    let knows = builder(&place)
        .handler("stranger", |_, _| async { Ok(Outcome::from(json!("at last"))) })
        .start()
        .await
        .unwrap();
    let task = soon("the stranger", knows.wait(stranger)).await.unwrap();
    assert_eq!((task.state, task.result), (TaskState::Completed, Some(json!("at last"))));
    // A dead task can be retried after its row is repaired.
    spoil(&place, broken, r#"params = '{"number": 7}'"#);
    assert!(board.retry(broken).await.unwrap());
    let task = tokio::time::timeout(Duration::from_secs(180), board.wait(broken)).await.unwrap().unwrap();
    assert_eq!((task.state, task.result), (TaskState::Completed, Some(json!(7))));
    for board in [writer, board, knows] {
        soon("the stop", board.stop()).await;
    }
}

#[actix_rt::test]
async fn what_is_set_aside_is_told_with_the_reason() {
    let place = Place::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let board = builder(&place)
        .task::<Typed>()
        // So that the event comes from the claim and not from a round of upkeep.
        .configure(|c| c.check_interval = Duration::from_secs(3600))
        .on_dead("typed", move |fact| tell.send(fact.clone()).unwrap_or(()))
        .start()
        .await
        .unwrap();
    board.pause("default").await.unwrap();
    for (change, reason) in
        [(r#"params = '{"number": 1'"#, "params are no JSON"), ("retry = 'never'", "retry policy")]
    {
        let task_id = board.push(Typed { number: 1 }).await.unwrap().task_id;
        spoil(&place, task_id, change);
        let waiter = actix_rt::spawn({
            let board = board.clone();
            async move { board.wait(task_id).await }
        });
        board.resume("default").await.unwrap();
        let fact = soon("the event", told.recv()).await.unwrap();
        assert_eq!((fact.task_id, fact.state, &*fact.queue), (task_id, TaskState::Dead, "default"));
        assert!(fact.error.as_deref().unwrap_or_default().contains(reason), "{fact:?}");
        let task = soon("the waiter", waiter).await.unwrap().unwrap();
        assert_eq!((task.state, task.last_error), (TaskState::Dead, fact.error));
        board.pause("default").await.unwrap();
    }
    soon("the stop", board.stop()).await;
}
