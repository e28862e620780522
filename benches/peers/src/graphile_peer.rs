//! graphile_worker: PostgreSQL, in a schema of its own; finished jobs are deleted.

use std::sync::Arc;
use std::time::Duration;

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, Worker, WorkerContext, WorkerOptions, WorkerUtils,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::options::Options;
use crate::{Peer, Result, probe};

const SCHEMA: &str = "graphile_worker_bench";

#[derive(Clone, Serialize, Deserialize)]
struct Noop(String);

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _ctx: WorkerContext) -> impl IntoTaskHandlerResult {
        probe::ran(&self.0);
        Ok::<(), String>(())
    }
}

pub(crate) struct GraphileWorker {
    pool: PgPool,
    utils: WorkerUtils,
}

/// Asks the worker to stop when dropped.
pub(crate) struct Running(Arc<Worker>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.request_shutdown();
    }
}

impl Peer for GraphileWorker {
    const KEEPS_HISTORY: bool = false;
    type Workers = Running;

    async fn create(options: &Options) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(options.connections).connect(&options.url).await?;
        sqlx::query("DROP SCHEMA IF EXISTS graphile_worker_bench CASCADE").execute(&pool).await?;
        let utils = WorkerUtils::new(pool.clone(), SCHEMA);
        utils.migrate().await?;
        Ok(Self { pool, utils })
    }

    async fn push(&self, payload: String) -> Result<()> {
        self.utils.add_job(Noop(payload), JobSpec::default()).await?;
        Ok(())
    }

    async fn push_many(&self, payloads: Vec<String>) -> Result<()> {
        let spec = JobSpec::default();
        let jobs: Vec<_> = payloads.into_iter().map(|payload| (Noop(payload), &spec)).collect();
        self.utils.add_jobs(&jobs).await?;
        Ok(())
    }

    async fn start(&self, options: &Options) -> Result<Running> {
        let mut builder = WorkerOptions::default()
            .pg_pool(self.pool.clone())
            .schema(SCHEMA)
            .listen_os_shutdown_signals(false)
            .define_job::<Noop>();
        if !options.plain {
            builder =
                builder.concurrency(options.concurrency).poll_interval(Duration::from_millis(options.poll_ms));
        }
        if options.batch > 0 && !options.plain {
            builder = builder
                .complete_job_batch_delay(Duration::from_millis(5))
                .local_queue(LocalQueueConfig::default().with_size(options.batch).with_queue_count(options.workers));
        }
        let worker = Arc::new(builder.init().await?);
        let running = Arc::clone(&worker);
        tokio::spawn(async move {
            if let Err(error) = running.run().await {
                eprintln!("graphile_worker stopped: {error}");
            }
        });
        Ok(Running(worker))
    }

    async fn unfinished(&self) -> Result<u64> {
        let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM graphile_worker_bench._private_jobs")
            .fetch_one(&self.pool)
            .await?;
        Ok(jobs.try_into()?)
    }
}
