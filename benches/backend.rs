//! The cost of a commit in a backend: tasks are inserted as claimed and settled with their history, batch after batch.
//!
//! `cargo bench --bench backend` prints a line of JSON for each backend and batch size. For the whole runtime see
//! `scripts/bench`.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::sync::Arc;
use std::time::Instant;

use callboard::backend::{
    self, Backend, Commit, ExecutionEnd, InsertGroup, Inserted, Insertion, OpenOptions, Settlement,
};
use callboard::{Clock, ExecutionStatus, Name, NodeId, Retry, TaskId, TaskSpec, TaskState, Timestamp};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    for (batch, rounds) in [(1, 2_000), (64, 500), (1_024, 100)] {
        let sqlite = format!("sqlite:{}", dir.path().join(format!("bench-{batch}.db")).display());
        for url in ["memory:", &sqlite] {
            let storage = backend::open(url, &OpenOptions::default())?;
            let begin = Instant::now();
            run(&*storage, batch, rounds)?;
            let seconds = begin.elapsed().as_secs_f64();
            println!(
                "{}",
                serde_json::json!({
                    "backend": storage.capabilities().name,
                    "batch": batch,
                    "commits_per_s": (f64::from(rounds) / seconds).round(),
                    "tasks_per_s": (f64::from(rounds) * batch as f64 / seconds).round(),
                })
            );
        }
    }
    Ok(())
}

/// Each commit settles the tasks of the commit before it and inserts the next tasks.
fn run(storage: &dyn Backend, batch: usize, rounds: u32) -> Outcome<()> {
    let clock = Clock::system();
    let node = NodeId::new(clock.now());
    let mut settle = Vec::new();
    for _ in 0..rounds {
        let mut commit = Commit::new(node, clock.now());
        commit.settle = std::mem::take(&mut settle);
        commit.insert = (0..batch).map(|_| InsertGroup { tasks: vec![insertion(commit.now)] }).collect();
        let receipt = storage.commit(&commit)?;
        for (group, inserted) in commit.insert.iter().zip(&receipt.inserted) {
            let Inserted::Claimed { seq } = inserted else { return Err("a new task was not claimed".into()) };
            settle.push(success(*seq, &group.tasks[0].spec, &commit));
        }
    }
    Ok(())
}

fn insertion(now: Timestamp) -> Insertion {
    let spec = TaskSpec {
        task_id: TaskId::new(now),
        kind: Name::from("noop"),
        queue: Name::from("default"),
        params: "{\"url\":\"https://example.org/a.wav\"}".into(),
        priority: 0,
        run_at: now,
        max_attempts: 5,
        timeout: None,
        retry: Retry::default(),
        created_at: now,
        extras: None,
    };
    Insertion { spec: Arc::new(spec), state: TaskState::Pending, claim: true }
}

fn success(seq: i64, spec: &TaskSpec, commit: &Commit) -> Settlement {
    Settlement {
        seq,
        task_id: spec.task_id,
        token: commit.token,
        state: TaskState::Completed,
        run_at: spec.run_at,
        attempt: 1,
        execution: Some(ExecutionEnd {
            attempt: 1,
            status: ExecutionStatus::Success,
            started_at: commit.now,
            finished_at: commit.now,
            result: None,
            error: None,
        }),
    }
}
