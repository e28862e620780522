//! A process with a board, for the chaos tests, which start, stop, freeze and kill it.
//!
//! Its single argument is its plan as JSON. It reports events as JSON lines on standard output and takes commands as
//! lines on standard input. It ends when standard input is closed, so that it never outlives the test that started it.

#![allow(clippy::print_stderr, reason = "a program")]

mod handlers;
mod ledger;
mod load;
mod overload;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use callboard::{Board, Coalesce, NewTask, Overlap, Schedule, TaskState, Timestamp, Trigger};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use ledger::Ledger;

/// The plan of the node.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Plan {
    url: String,
    queues: Vec<(String, usize)>,
    lease_ms: u64,
    check_ms: u64,
    drain_ms: u64,
    grace_ms: u64,
    ledger: Option<PathBuf>,
    /// The number of producers; each awaits every push.
    producers: u64,
    /// Pushes of each producer; endless when 0.
    pushes: u64,
    seed: u64,
    /// Opens storage only after the command to go.
    wait_for_go: bool,
    /// Ends when the producers are done and no task is left to run.
    leave_when_empty: bool,
    /// Reports every event of a task.
    tell: bool,
    /// How far its clock is ahead of the machine's clock, in milliseconds.
    clock_ahead_ms: i64,
    /// Number of schedules that it defines, all with the interval `every_ms`, each a little later than its predecessor.
    schedules: u64,
    every_ms: u64,
    /// Only measures memory under overload, in place of all other work.
    overload: bool,
    /// Only takes part in the torture, in place of all other work.
    torture: Option<torture::Plan>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            url: "memory:".into(),
            queues: vec![("default".into(), 16)],
            lease_ms: 15_000,
            check_ms: 1_000,
            drain_ms: 2_000,
            grace_ms: 500,
            ledger: None,
            producers: 0,
            pushes: 0,
            seed: 0,
            wait_for_go: false,
            leave_when_empty: false,
            tell: false,
            clock_ahead_ms: 0,
            schedules: 0,
            every_ms: 1_000,
            overload: false,
            torture: None,
        }
    }
}

fn main() -> ExitCode {
    let plan = std::env::args().nth(1).unwrap_or_default();
    let plan: Plan = match serde_json::from_str(&plan) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("chaos_node is started by the chaos tests, with a plan in JSON: {error}");
            return ExitCode::FAILURE;
        }
    };
    match actix_rt::System::new().block_on(run(plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Reports to the parent process. Errors are ignored, because a parent that no longer reads needs no answer.
fn tell(what: &Value) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{what}").ok();
}

async fn run(plan: Plan) -> Result<(), Box<dyn std::error::Error>> {
    if plan.overload {
        tell(&overload::measure(&plan.url).await?);
        return Ok(());
    }
    let mut commands = commands();
    let mut terminate = std::pin::pin!(terminated());
    if let Some(plan) = &plan.torture {
        return be_tortured(plan, commands, terminate).await;
    }
    tell(&json!({"opening": plan.url}));
    if plan.wait_for_go && commands.recv().await.is_none() {
        return Ok(());
    }
    let ledger = Arc::new(Ledger::open(plan.ledger.as_deref())?);
    let board = start(&plan, &ledger).await?;
    tell(&json!({"ready": board.node()}));
    let load = actix_rt::spawn(load::produce(board.clone(), plan.clone(), Arc::clone(&ledger)));
    let left = leave_when_empty(&plan, &board, load);
    tokio::pin!(left);
    loop {
        tokio::select! {
            () = &mut terminate => break,
            () = &mut left => break,
            command = commands.recv() => match command {
                Some(command) => drop(actix_rt::spawn(obey(board.clone(), command))),
                None => break,
            },
        }
    }
    board.stop().await;
    tell(&json!({"stopped": board.node()}));
    Ok(())
}

/// Runs a node of the torture program.
async fn be_tortured(
    plan: &torture::Plan,
    mut orders: mpsc::UnboundedReceiver<String>,
    mut terminate: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let log = callboard::logging::terminal_or_json(slog::Level::Warning);
    let member = torture::Member::start(plan, || Board::builder().logger(log.clone())).await?;
    tell(&json!({"ready": member.board.node()}));
    let (board, loads) = (member.board.clone(), plan.producers > 0);
    let left = async move { if loads { std::future::pending().await } else { torture::nothing_left(&board).await } };
    tokio::pin!(left);
    loop {
        tokio::select! {
            () = &mut terminate => break,
            () = &mut left => break,
            order = orders.recv() => match order {
                Some(order) if order == "health" => drop(actix_rt::spawn(obey(member.board.clone(), order))),
                Some(order) => {
                    let (board, ledger) = (member.board.clone(), Arc::clone(&member.ledger));
                    actix_rt::spawn(async move {
                        match torture::Member::obey(&board, &ledger, &order).await {
                            Ok(()) => tell(&json!({"done": order})),
                            Err(error) => tell(&json!({"refused": error.to_string(), "order": order})),
                        }
                    });
                }
                None => break,
            },
        }
    }
    member.stop().await;
    Ok(())
}

async fn start(plan: &Plan, ledger: &Arc<Ledger>) -> Result<Board, Box<dyn std::error::Error>> {
    let ms = Duration::from_millis;
    // A test reads the log only when it fails.
    let log = callboard::logging::terminal_or_json(slog::Level::Warning);
    let mut builder = Board::builder().logger(log).url(&plan.url).lease(ms(plan.lease_ms)).drain(ms(plan.drain_ms));
    for (queue, concurrency) in &plan.queues {
        builder = builder.queue(queue.clone(), *concurrency);
    }
    let told = plan.tell;
    let facts = Arc::clone(ledger);
    // A long deadline, because a busy machine is not a failure.
    let (check, push) = (ms(plan.check_ms), ms(60_000));
    builder = builder
        .cancel_grace(ms(plan.grace_ms))
        .configure(|c| (c.check_interval, c.push_deadline) = (check, push))
        .on_event(move |event| {
            match event {
                callboard::Event::Rescued(fact) => facts.note("rescued", &[fact.task_id]),
                callboard::Event::Fenced(fact) => facts.note("fenced", &[fact.task_id]),
                _ => {}
            }
            if told {
                tell(&json!(event));
            }
        });
    if plan.clock_ahead_ms != 0 {
        builder = builder.clock(callboard::testing::skewed(plan.clock_ahead_ms * 1_000));
    }
    for number in 0..plan.schedules {
        builder = builder.schedule(schedule(plan, number)?);
    }
    Ok(handlers::register(builder, ledger).start().await?)
}

/// A schedule of which no time may be left out.
fn schedule(plan: &Plan, number: u64) -> Result<Schedule, callboard::TriggerError> {
    let offset = Timestamp::from_micros(i64::try_from(number * 1_237).unwrap_or(0));
    let trigger = Trigger::every(Duration::from_millis(plan.every_ms))?.anchored_at(offset)?;
    let task = NewTask::new("plain", &json!({"at": "{{nominal_time}}"}));
    let schedule = Schedule::new(format!("schedule {number}"), trigger, task);
    Ok(schedule.coalesce(Coalesce::All(1_000)).overlap(Overlap::Allow).keep_firings(10_000))
}

/// Resolves when the process is asked to end. It listens from the call on, not from the first await, because a test may
/// send the signal as soon as the node is ready.
fn terminated() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let mut asked = {
        use actix_rt::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).ok()
    };
    async move {
        #[cfg(unix)]
        if let Some(asked) = &mut asked {
            asked.recv().await;
            return;
        }
        std::future::pending().await
    }
}

/// Lines from standard input; the channel closes with standard input.
fn commands() -> mpsc::UnboundedReceiver<String> {
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

async fn obey(board: Board, command: String) {
    let (verb, rest) = command.split_once(' ').unwrap_or((&command, ""));
    match verb {
        "push" => {
            let task: Value = serde_json::from_str(rest).unwrap_or_default();
            match board.push(task).await {
                Ok(pushed) => tell(&json!({"pushed": pushed.task_id})),
                Err(error) => tell(&json!({"refused": error.to_string()})),
            }
        }
        "health" => tell(&json!({"health": board.health().await})),
        other => tell(&json!({"unknown command": other})),
    }
}

/// Resolves when the load is pushed and all tasks in storage are in a terminal state.
async fn leave_when_empty(plan: &Plan, board: &Board, load: actix_rt::task::JoinHandle<()>) {
    drop(load.await);
    if !plan.leave_when_empty {
        return std::future::pending().await;
    }
    tell(&json!({"pushed all": plan.pushes * plan.producers}));
    loop {
        if let Ok(counts) = board.counts().await
            && counts.iter().all(|count| TaskState::is_terminal(count.state))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
