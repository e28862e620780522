//! fang: MySQL and MariaDB through its async feature, in the table `fang_tasks`; finished tasks are kept
//! (`RetentionMode::KeepAll`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::sql_types::BigInt;
use diesel::{Connection, MysqlConnection, RunQueryDsl};
use fang::asynk::async_queue::{AsyncQueue, AsyncQueueable};
use fang::asynk::async_worker_pool::AsyncWorkerPool;
use fang::serde::{Deserialize, Serialize};
use fang::{AsyncRunnable, FangError, RetentionMode, SleepParams, async_trait, typetag};

use crate::options::Options;
use crate::{Peer, Result, probe};

#[derive(Serialize, Deserialize)]
#[serde(crate = "fang::serde")]
struct Noop {
    payload: String,
}

#[typetag::serde]
#[async_trait]
impl AsyncRunnable for Noop {
    async fn run(&self, _queue: &dyn AsyncQueueable) -> std::result::Result<(), FangError> {
        probe::ran(&self.payload);
        Ok(())
    }
}

pub(crate) struct Fang {
    queue: AsyncQueue,
    /// For operations without a call in fang: creating its table, and counting the tasks in it.
    connection: Mutex<MysqlConnection>,
}

impl Peer for Fang {
    const KEEPS_HISTORY: bool = true;
    const HAS_BULK: bool = false;
    /// fang's workers cannot be stopped; they end with the process.
    type Workers = ();

    async fn create(options: &Options) -> Result<Self> {
        let mut connection = MysqlConnection::establish(&options.url)?;
        connection
            .batch_execute("DROP TABLE IF EXISTS fang_tasks; DROP TABLE IF EXISTS __diesel_schema_migrations")?;
        fang::run_migrations_mysql(&mut connection)?;
        let mut queue = AsyncQueue::builder().uri(options.url.clone()).max_pool_size(options.connections).build();
        queue.connect().await?;
        Ok(Self { queue, connection: Mutex::new(connection) })
    }

    async fn push(&self, payload: String) -> Result<()> {
        self.queue.insert_task(&Noop { payload }).await?;
        Ok(())
    }

    /// In turn, because fang has no call for many tasks.
    async fn push_many(&self, payloads: Vec<String>) -> Result<()> {
        for payload in payloads {
            self.push(payload).await?;
        }
        Ok(())
    }

    async fn start(&self, options: &Options) -> Result<()> {
        let pause = Duration::from_millis(options.poll_ms);
        let mut pool: AsyncWorkerPool<AsyncQueue> = AsyncWorkerPool::builder()
            .number_of_workers(u32::try_from(options.concurrency)?)
            .queue(self.queue.clone())
            .sleep_params(SleepParams {
                sleep_period: pause,
                max_sleep_period: pause,
                min_sleep_period: pause,
                sleep_step: Duration::ZERO,
            })
            .retention_mode(RetentionMode::KeepAll)
            .build();
        pool.start().await;
        Ok(())
    }

    async fn unfinished(&self) -> Result<u64> {
        let count = sql::<BigInt>("SELECT count(*) FROM fang_tasks WHERE state IN ('new', 'in_progress', 'retried')");
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks: i64 = tokio::task::block_in_place(|| count.get_result(&mut *connection))?;
        Ok(tasks.try_into()?)
    }
}
