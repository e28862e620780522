//! Several processes on the same SQLite file.

use std::time::{Duration, Instant};

use callboard::{Board, ExecutionStatus, NewTask, Outcome, TaskState};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::ledger::{Ledger, Stored};
use crate::support::node::Node;
use crate::support::{Place, eventually, soon, sql};

/// Far longer than any test. So an event seen within a test was not found by the periodic check.
const NEVER_MS: u64 = 60_000;
/// Far below `NEVER_MS`, and longer than any delay of a busy machine.
const AT_ONCE: Duration = Duration::from_secs(20);

/// The promised time within which a node notices a push by a different process.
const NOTICED: Duration = Duration::from_millis(250);
const TRIES: usize = 10;

/// A board without handlers.
async fn pusher(place: &Place) -> Board {
    let check = Duration::from_millis(NEVER_MS);
    Board::builder().url(place.url()).configure(|c| c.check_interval = check).start().await.unwrap()
}

fn under_load(processes: u64, pushes: u64) {
    let started = Instant::now();
    let place = Place::new();
    let notes = place.folder().join("ledger");
    let plan = |seed: u64| {
        json!({"url": place.url(), "ledger": notes, "producers": 3, "pushes": pushes, "seed": seed,
            "queues": [["default", 8]], "leave_when_empty": true})
    };
    let mut nodes: Vec<Node> = (0..processes).map(|seed| Node::start(&plan(seed))).collect();
    for node in &mut nodes {
        let status = node.end();
        assert!(status.success(), "{status}: {}", node.errors());
    }
    let (ledger, stored) = (Ledger::read(&notes), Stored::at(&place.url()));
    let extra = stored.check(&ledger);
    println!(
        "{processes} processes, {} tasks, {} runs in {:.1?}",
        stored.tasks.len(),
        ledger.runs.values().sum::<usize>(),
        started.elapsed()
    );
    assert_eq!((extra, stored.runs(ExecutionStatus::Lost)), (0, 0), "runs more than once, lost runs");
    assert_eq!((ledger.rescued, ledger.fenced), (0, 0), "rescued, fenced");
    assert!(stored.tasks.len() as u64 >= processes * pushes, "there was little load");
}

#[test]
fn two_processes_run_each_task_once() {
    under_load(2, 150);
}

#[test]
fn four_processes_run_each_task_once() {
    under_load(4, 80);
}

#[actix_rt::test]
async fn a_lock_that_another_program_holds_for_long_makes_callers_wait_and_no_more() {
    let place = Place::new();
    let board =
        Board::builder().url(place.url()).handler("n", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
    let later = NewTask::new("n", &()).delay(Duration::from_secs(3_600));
    let [one, two] = [board.push(later.clone()).await.unwrap(), board.push(later).await.unwrap()];
    let locked = sql::Locked::new(&place.file());
    // Longer than SQLite itself waits for a lock.
    let held = Duration::from_millis(2_500);
    let (begun, unlock) = (
        Instant::now(),
        std::thread::spawn(move || {
            std::thread::sleep(held);
            drop(locked);
        }),
    );
    let work = async {
        tokio::join!(
            board.push(NewTask::new("n", &())),
            board.cancel(one.task_id, "no longer wanted"),
            board.retry(two.task_id),
            board.pause("other"),
        )
    };
    let (pushed, cancelled, retried, paused) = soon("the answers", work).await;
    println!("answered {:.1?} after the lock was taken", begun.elapsed());
    assert!(begun.elapsed() >= held, "nobody had to wait");
    paused.unwrap();
    assert!(cancelled.unwrap() && retried.unwrap());
    for (task_id, state) in [
        (pushed.unwrap().task_id, TaskState::Completed),
        (one.task_id, TaskState::Cancelled),
        (two.task_id, TaskState::Completed),
    ] {
        assert_eq!(soon("an end", board.wait(task_id)).await.unwrap().state, state);
    }
    unlock.join().unwrap();
    soon("the stop", board.stop()).await;
}

#[actix_rt::test]
async fn a_push_wakes_the_other_process_and_its_end_wakes_this_one() {
    let place = Place::new();
    let mut node = Node::ready(&json!({"url": place.url(), "check_ms": NEVER_MS, "tell": true}));
    let board = pusher(&place).await;
    // Retry, because the machine may be busy. If the node checked too seldom, no retry would succeed.
    for _ in 0..TRIES {
        if median_of_pushes(&mut node, &board).await < NOTICED {
            return;
        }
    }
    panic!("a push by another process is not noticed within {NOTICED:?}");
}

/// The median time from a push in this process to the start of the run in the node.
async fn median_of_pushes(node: &mut Node, board: &Board) -> Duration {
    let mut spans = Vec::new();
    for _ in 0..20 {
        let pushed = Instant::now();
        let task_id = board.push(json!({"type": "plain"})).await.unwrap().task_id;
        node.hear_event("running", task_id);
        let started = pushed.elapsed();
        let task = soon("the end", board.wait(task_id)).await.unwrap();
        assert_eq!(task.state, TaskState::Completed);
        spans.push((started, pushed.elapsed()));
    }
    spans.sort_unstable();
    let ((begun, _), (_, longest)) = (spans[10], spans[19]);
    println!("pushed here, begun there and known here after {:?}, at most {longest:?}", spans[10]);
    assert!(longest < AT_ONCE, "{longest:?}");
    begun
}

/// A node looks for pushes of foreign processes all the time; this must cost almost nothing.
#[test]
fn a_process_at_rest_is_not_busy_looking() {
    let place = Place::new();
    let node = Node::ready(&json!({"url": place.url()}));
    let (before, span) = (node.busy(), Duration::from_secs(3));
    // The processor time is measured over this span.
    std::thread::sleep(span);
    let busy = node.busy() - before;
    println!("busy for {busy:?} of {span:?}");
    assert!(busy < span / 10, "{busy:?}");
}

#[actix_rt::test]
async fn a_cancel_reaches_a_run_in_the_other_process() {
    let place = Place::new();
    let mut node = Node::ready(&json!({"url": place.url(), "check_ms": NEVER_MS, "tell": true}));
    let board = pusher(&place).await;
    let gate = json!({"type": "gate", "params": {"path": place.folder().join("gate")}});
    let task_id = board.push(gate).await.unwrap().task_id;
    node.hear_event("running", task_id);
    let asked = Instant::now();
    assert!(board.cancel(task_id, "no longer wanted").await.unwrap());
    let task = soon("the end", board.wait(task_id)).await.unwrap();
    println!("cancelled in the other process after {:?}", asked.elapsed());
    assert_eq!(task.state, TaskState::Cancelled);
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
}

#[actix_rt::test]
async fn a_pause_reaches_the_other_process_and_holds_until_resumed() {
    let place = Place::new();
    let queues = json!([["default", 4], ["other", 4]]);
    let _node = Node::ready(&json!({"url": place.url(), "check_ms": NEVER_MS, "queues": queues}));
    let board = pusher(&place).await;
    board.pause("default").await.unwrap();
    // Each probe is pushed together with a task in a queue that is not paused. When that task has run, the probe has
    // been considered too: it was either left or claimed.
    let probe = async || {
        let push = |queue: &str| json!({"type": "plain", "queue": queue});
        let pushed = board.push_many([push("default"), push("other")]).await.unwrap();
        soon("the other queue", board.wait(pushed[1].task_id)).await.unwrap();
        let probe = board.get(pushed[0].task_id).await.unwrap().unwrap();
        (probe.task_id, probe.state)
    };
    // One or two probes may be claimed before the pause arrives.
    let mut in_a_row = 0;
    let arrived = Instant::now();
    eventually("the pause arrives", async || {
        in_a_row = if probe().await.1 == TaskState::Pending { in_a_row + 1 } else { 0 };
        (in_a_row == 3).then_some(())
    })
    .await;
    println!("paused in the other process within {:?}", arrived.elapsed());
    let mut held = Vec::new();
    for _ in 0..10 {
        let (task_id, state) = probe().await;
        assert_eq!(state, TaskState::Pending, "run although its queue is paused");
        held.push(task_id);
    }
    board.resume("default").await.unwrap();
    for task_id in held {
        assert_eq!(soon("after the pause", board.wait(task_id)).await.unwrap().state, TaskState::Completed);
    }
    assert!(arrived.elapsed() < AT_ONCE, "{:?}", arrived.elapsed());
}

#[actix_rt::test]
async fn a_node_that_is_asked_to_stop_hands_its_tasks_over_at_once() {
    let place = Place::new();
    let gate = place.folder().join("gate");
    // With this lease a rescue would come too late for the test.
    let plan = json!({"url": place.url(), "lease_ms": NEVER_MS, "check_ms": NEVER_MS, "drain_ms": 50,
        "grace_ms": 100, "tell": true});
    let mut first = Node::ready(&plan);
    let board = pusher(&place).await;
    // Two tasks end when they are asked to end; two must be dropped.
    let push = |stubborn: bool| json!({"type": "gate", "params": {"path": gate, "stubborn": stubborn}});
    let pushed = board.push_many([push(false), push(true), push(false), push(true)]).await.unwrap();
    for task in &pushed {
        first.hear_event("running", task.task_id);
    }
    let mut second = Node::ready(&plan);
    let asked = Instant::now();
    first.signal(Signal::SIGTERM);
    assert!(first.end().success(), "{}", first.errors());
    for task in &pushed {
        second.hear_event("running", task.task_id);
    }
    println!("handed over {:?} after SIGTERM", asked.elapsed());
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    std::fs::write(gate, "").unwrap();
    for task in &pushed {
        let task = soon("the end", board.wait(task.task_id)).await.unwrap();
        assert_eq!((task.state, task.attempt, task.crash_count), (TaskState::Completed, 1, 0));
        let runs: Vec<_> = board.executions(task.task_id).await.unwrap().iter().map(|run| run.status).collect();
        assert_eq!(runs, [ExecutionStatus::Success]);
    }
    assert!(board.nodes().await.unwrap().iter().all(|node| node.node_id != first.id()), "it is still listed");
}
