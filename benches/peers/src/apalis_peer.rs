//! apalis with apalis-postgres: PostgreSQL, in the schema `apalis`; finished jobs stay, as `Done`.

use std::time::Duration;

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::options::Options;
use crate::{Peer, Result, probe};

const QUEUE: &str = "bench";

pub(crate) struct Apalis {
    pool: PgPool,
    storage: PostgresStorage<String>,
}

async fn noop(payload: String) -> std::result::Result<(), BoxDynError> {
    probe::ran(&payload);
    Ok(())
}

fn config(options: &Options) -> Config {
    if options.plain {
        return Config::default().queue(QUEUE);
    }
    // The fetch has marked a job as taken; a second mark when its handler starts would cost an additional update per
    // job.
    Config::default().queue(QUEUE).batch_size(options.batch.max(1)).lock_tasks(false)
}

impl Peer for Apalis {
    const KEEPS_HISTORY: bool = true;
    /// Dropping it aborts them.
    type Workers = JoinSet<()>;

    async fn create(options: &Options) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(options.connections).connect(&options.url).await?;
        sqlx::query("DROP SCHEMA IF EXISTS apalis CASCADE").execute(&pool).await?;
        PostgresStorage::setup(&pool).await?;
        let storage = PostgresStorage::new(&pool).with_config(config(options));
        Ok(Self { pool, storage })
    }

    async fn push(&self, payload: String) -> Result<()> {
        self.storage.clone().push(payload).await?;
        Ok(())
    }

    async fn push_many(&self, payloads: Vec<String>) -> Result<()> {
        self.storage.clone().push_bulk(payloads).await?;
        Ok(())
    }

    async fn start(&self, options: &Options) -> Result<JoinSet<()>> {
        let mut running = JoinSet::new();
        if options.plain {
            let storage = self.storage.clone();
            let worker = WorkerBuilder::new("bench").backend(storage).build(noop);
            running.spawn(async move {
                if let Err(error) = worker.run().await {
                    eprintln!("the apalis worker stopped: {error}");
                }
            });
            return Ok(running);
        }
        for number in 0..options.workers {
            let backend = PostgresStorage::<String>::new(&self.pool)
                .with_config(config(options))
                .with_pubsub()
                .poll_with_interval(Duration::from_millis(options.poll_ms));
            let worker = WorkerBuilder::new(format!("bench-{number}"))
                .backend(backend)
                .concurrency((options.concurrency / options.workers).max(1))
                .build(noop);
            running.spawn(async move {
                if let Err(error) = worker.run().await {
                    eprintln!("apalis worker {number} stopped: {error}");
                }
            });
        }
        Ok(running)
    }

    async fn unfinished(&self) -> Result<u64> {
        let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'")
            .fetch_one(&self.pool)
            .await?;
        Ok(jobs.try_into()?)
    }
}
