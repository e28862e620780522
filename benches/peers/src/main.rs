//! Measures other task queues with the scenarios of `examples/bench`, on the same server and with the same names in the
//! output: a line of JSON per scenario. It is a development tool, not part of the `callboard` crate. `README.md` beside
//! it lists the settings of each queue, with the reasons.
//!
//! ```text
//! peers SCENARIO --peer graphile_worker|apalis|fang --url URL [--tasks N] [--concurrency N] [--workers N] [--batch N]
//!                [--connections N] [--poll-ms N] [--pause-us N] [--payload BYTES] [--settings tuned|plain]
//! peers table < LINES
//! ```
//! Scenarios: `drain` (workers empty a full queue), `push` (single pushes, each awaited), `bulk` (1,000 at a time),
//! `latency` (push to start on an idle worker). `table` reads such lines, callboard's too, and prints medians.
//!
//! **It drops the peer's data in that database**: the schema `graphile_worker_bench`, the schema `apalis`, or the
//! tables `fang_tasks` and `__diesel_schema_migrations`.

mod apalis_peer;
mod fang_peer;
mod graphile_peer;
#[allow(dead_code, reason = "shared with examples/bench, which uses all of it")]
#[path = "../../../examples/bench/machine.rs"]
mod machine;
mod options;
mod probe;
mod scenarios;
mod table;

use options::{Options, PeerName};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// The operations of a queue that the scenarios need.
trait Peer: Sized {
    /// Whether finished tasks stay in the database.
    const KEEPS_HISTORY: bool;

    /// Whether there is a call that stores many tasks at once.
    const HAS_BULK: bool = true;

    /// The handle of running workers; they stop when it is dropped, or with the process.
    type Workers;

    /// Connects, and creates empty storage: existing data is dropped.
    async fn create(options: &Options) -> Result<Self>;

    /// Stores a task and waits until it is stored.
    async fn push(&self, payload: String) -> Result<()>;

    /// Stores many tasks, through the queue's bulk call if it has such a call.
    async fn push_many(&self, payloads: Vec<String>) -> Result<()>;

    /// Starts workers whose handler is [`probe::ran`].
    async fn start(&self, options: &Options) -> Result<Self::Workers>;

    /// How many tasks are stored and not yet finished.
    async fn unfinished(&self) -> Result<u64>;
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == "table").is_some() {
        return table::print(std::io::stdin().lines());
    }
    let options = Options::parse(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (measured, keeps_history) = runtime.block_on(async {
        match options.peer {
            PeerName::GraphileWorker => run::<graphile_peer::GraphileWorker>(&options).await,
            PeerName::Apalis => run::<apalis_peer::Apalis>(&options).await,
            PeerName::Fang => run::<fang_peer::Fang>(&options).await,
        }
    })?;
    let mut machine = machine::describe();
    if let Some(fields) = machine.as_object_mut() {
        // The version of this package, which is not callboard's.
        fields.remove("callboard");
    }
    let line = json!({
        "scenario": options.scenario,
        "peer": options.peer.as_str(),
        "plain": options.plain,
        "version": options.peer.version(),
        "backend": options.backend_name(),
        "durability": "the server's default",
        "history": if keeps_history { "kept" } else { "deleted" },
        "settings": options.to_json(),
        "measured": measured,
        "machine": machine,
    });
    println!("{line}");
    // The runtime is not dropped, because that would wait for workers that are not needed any more.
    runtime.shutdown_background();
    Ok(())
}

async fn run<P: Peer>(options: &Options) -> Result<(Value, bool)> {
    Ok((scenarios::run::<P>(options).await?, P::KEEPS_HISTORY))
}
