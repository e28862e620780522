//! Lesson: any actix actor of the application can be a handler. Its messages then survive a restart and are retried,
//! and the actor keeps its state between them without a lock.
//!
//! Command: `cargo run --example level2_own_actor`
//!
//! Expected output:
//! ```text
//! the till holds 5
//! the till holds 12
//! refused: only 12 there, 20 wanted
//! dead: only 12 there, 20 wanted
//! asked directly, the till holds 12
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use actix::prelude::*;
use callboard::{Board, Run, Task, TaskError, TaskResult};
use serde::{Deserialize, Serialize};

/// A task without a `run` of its own: the actor does the work.
#[derive(Serialize, Deserialize)]
struct Pay {
    amount: i64,
}

impl Task for Pay {
    const TYPE: &'static str = "pay";
    type Output = i64;
    // The order of payments matters here, so the actor gets a single payment at a time.
    const QUEUE: &'static str = "payments";
}

/// An ordinary message, for comparison: it is lost when the process ends.
#[derive(Message)]
#[rtype(result = "i64")]
struct Balance;

#[derive(Default)]
struct Till {
    balance: i64,
}

impl Actor for Till {
    type Context = Context<Self>;
}

impl Handler<Run<Pay>> for Till {
    /// For asynchronous work, a future of type `ResponseActFuture<Self, TaskResult<i64>>` works as well.
    type Result = TaskResult<i64>;

    fn handle(&mut self, run: Run<Pay>, _: &mut Self::Context) -> TaskResult<i64> {
        let after = self.balance + run.task.amount;
        if after < 0 {
            let reason = format!("only {} there, {} wanted", self.balance, -run.task.amount);
            println!("refused: {reason}");
            return Err(TaskError::fatal(reason).into());
        }
        self.balance = after;
        println!("the till holds {after}");
        Ok(after)
    }
}

impl Handler<Balance> for Till {
    type Result = i64;

    fn handle(&mut self, _: Balance, _: &mut Self::Context) -> i64 {
        self.balance
    }
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let till = Till::default().start();
    let board = Board::builder().queue("payments", 1).actor::<Pay>(till.clone()).start().await?;
    for amount in [5, 7, -20] {
        let pushed = board.push(Pay { amount }).await?;
        let task = board.wait(pushed.task_id).await?;
        if let Some(error) = task.last_error {
            println!("{}: {error}", task.state);
        }
    }
    println!("asked directly, the till holds {}", till.send(Balance).await?);
    board.stop().await;
    Ok(())
}
