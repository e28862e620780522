//! Limits are exact, even if a claim is late and many processes claim.

use std::time::{Duration, Instant};

use callboard::backend::{ClaimRequest, Commit, Limits, OpenOptions, open};
use callboard::testing::World;
use callboard::{Board, Limit, NewTask, TaskState, Timestamp};
use diesel::connection::SimpleConnection;
use serde_json::json;

use crate::node::Node;
use crate::place::{Place, on_both};
use crate::waiting::{soon, until};

on_both!(a_late_claim_counts_from_when_it_holds_its_limits, processes_keep_to_limits_together);

/// True if a session waits for a limit that a different session has locked.
fn waits_for_a_limit<P: Place>(place: &P) -> bool {
    let name = place.name();
    let waiting = if P::IS_POSTGRES {
        place.text(&format!(
            "SELECT count(*)::text AS text FROM pg_stat_activity WHERE wait_event_type = 'Lock'
            AND query LIKE '%FROM task_limit WHERE%' AND pid IN (SELECT l.pid FROM pg_locks AS l
                JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = '{name}')"
        ))
    } else {
        place.text(
            "SELECT CAST(count(*) AS CHAR) AS text FROM information_schema.processlist
            WHERE db = DATABASE() AND id <> CONNECTION_ID() AND info LIKE '%FROM task_limit WHERE%'",
        )
    };
    waiting != "0"
}

/// The claim is composed, and then waits longer than the period for the limit. It starts its task at the end of that
/// wait, and every later claim must count that start.
async fn a_late_claim_counts_from_when_it_holds_its_limits<P: Place>() {
    // Shorter than a claim waits for a limit on any server.
    let period = Duration::from_millis(400);
    let place = P::new();
    let world = World::on(open(&place.url(), &OpenOptions::default()).unwrap());
    world.set_limit(&Limit::of_queue("default").rate(1, period));
    let all = world.push_all((0..2).map(|_| NewTask::new("work", &json!({})).run_at(Timestamp::from_micros(0))));
    let backend = world.backend.clone();
    let claim = move || {
        let now = backend.time().unwrap().unwrap();
        let request = ClaimRequest { queue: "default".into(), types: None, limit: 5 };
        let limits = Limits::new(backend.limits().unwrap());
        let claim = vec![request];
        let commit = Commit { sent: Some(Instant::now()), limits, claim, ..Commit::new(world.node, now) };
        let receipt = backend.commit(&commit).unwrap();
        receipt.claimed[0].iter().map(|claimed| claimed.spec.task_id).collect::<Vec<_>>()
    };
    let late_claim = || {
        let mut holder = place.by_hand();
        holder.batch_execute("BEGIN; SELECT name FROM task_limit FOR UPDATE").unwrap();
        std::thread::scope(|scope| {
            let late = scope.spawn(&claim);
            until("the claim waits", || waits_for_a_limit(&place).then_some(()));
            let waiting = Instant::now();
            until("longer than the period", || (waiting.elapsed() > period).then_some(()));
            holder.batch_execute("COMMIT").unwrap();
            late.join().unwrap()
        })
    };
    // On a busy machine the claim may give up its wait before the lock is free. It has then taken nothing.
    let first = until("a claim that waited long enough", || Some(late_claim()).filter(|claimed| !claimed.is_empty()));
    assert_eq!(first, all[..1]);
    assert_eq!(claim(), [], "two starts in one period");
    let second = until("the next start", || claim().first().copied());
    assert_eq!(second, all[1]);
}

const TASKS: usize = 60;
const RUNNING: u32 = 3;
const STARTS: u32 = 12;
const PERIOD: Duration = Duration::from_secs(2);
/// Largest distance between the clocks of processes on a busy machine. Each process reads the time of the server and
/// adds half of the round trip.
const APART: Duration = Duration::from_millis(25);
/// Longest time from the commit that counts a start to the handler that notes the time of that start.
const ON_THE_WAY: Duration = Duration::from_millis(500);

async fn processes_keep_to_limits_together<P: Place>() {
    let place = P::new();
    let board = Board::builder().url(place.url()).start().await.unwrap();
    board.set_limit(Limit::of_queue("default").running(RUNNING).rate(STARTS, PERIOD)).await.unwrap();
    let plan = json!({"url": place.url(), "queues": [["default", 8]], "check_ms": 100});
    let nodes: Vec<Node> = (0..4).map(|_| Node::ready(&plan)).collect();
    let tasks = (0..TASKS).map(|number| NewTask::new("plain", &json!({"ms": 60 + number % 7 * 10})));
    let pushed = board.push_many(tasks).await.unwrap();
    let mut runs = Vec::new();
    for task in &pushed {
        assert_eq!(soon("its end", board.wait(task.task_id)).await.unwrap().state, TaskState::Completed);
        let executions = board.executions(task.task_id).await.unwrap();
        assert_eq!(executions.len(), 1, "{executions:?}");
        runs.push((executions[0].node, executions[0].started_at, executions[0].finished_at.unwrap()));
    }
    drop(nodes);
    let mut who: Vec<_> = runs.iter().map(|(node, ..)| *node).collect();
    who.sort_unstable();
    who.dedup();
    let at_once = most(&runs, |at, (_, start, end)| *start <= at && at < *end - APART);
    let in_a_period = most(&runs, |at, (_, start, _)| *start <= at && at < *start + PERIOD - ON_THE_WAY);
    println!("{} nodes ran {TASKS} tasks, {at_once} at once, {in_a_period} starts in a period", who.len());
    assert!(
        at_once <= RUNNING as usize && in_a_period <= STARTS as usize,
        "{at_once} at once, {in_a_period} started"
    );
    assert!(who.len() > 1 && at_once > 1, "the limit met no crowd");
    soon("the stop", board.stop()).await;
}

/// Counts at the start of each run the runs that satisfy `counts`, and returns the highest count.
fn most<N>(
    runs: &[(N, Timestamp, Timestamp)],
    counts: impl Fn(Timestamp, &(N, Timestamp, Timestamp)) -> bool,
) -> usize {
    runs.iter().map(|(_, at, _)| runs.iter().filter(|run| counts(*at, run)).count()).max().unwrap_or(0)
}
