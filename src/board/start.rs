//! Starts a board, on its keeper's thread. Calls may block here, because nothing else runs on that thread.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use slog::{info, warn};
use tokio::sync::watch;

use super::leaving::Patience;
use super::threads::BoardThreads;
use super::{BoardBuilder, warning};
use crate::actor::{Part, RestartableAddr};
use crate::backend::{self, BackendError, Limits, OpenOptions};
use crate::clock::Timestamp;
use crate::error::{BoardError, StartError};
use crate::logging::guarded::Guarded;
use crate::logging::keys;
use crate::name::{Name, name_fault};
use crate::runtime::core::{Alarm, Awaited, CodeSchedule, Core, Counters, Lease, Stage, ThrottledQueues, Unrun};
use crate::runtime::events::{Event, Events};
use crate::runtime::persistence::Persistence;
use crate::runtime::queue::{fast_path::SharedLanes, inbox::Inbox, settings::Looks};
use crate::runtime::scheduler::DueList;
use crate::runtime::scheduler::Operation;
use crate::runtime::scheduler::operations::Define;
use crate::runtime::supervise::{Guardian, Parts, Threads, beat, follow_storage, start_part};
use crate::runtime::worker::log::{TaskLogOptions, TaskLogs};
use crate::runtime::worker::{BlockingPool, Registry, WorkerPool};
use crate::schedule::Schedule;
use crate::store::{Kept, StoreHandle};
use crate::task::NodeId;

/// How long to wait for the threads of a board that failed to start. No task has run on them yet.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn start(mut builder: BoardBuilder) -> Result<(Arc<Core>, BoardThreads), StartError> {
    let mut faults = builder.config.faults();
    let schedules = std::mem::take(&mut builder.schedules);
    if let Some(name) = name_of_two(&schedules) {
        return Err(StartError::TwoSchedules(name));
    }
    let (clock, bounds, zone) = (&builder.config.clock, builder.config.bounds(), builder.config.default_zone);
    faults.extend(schedules.iter().filter_map(|schedule| schedule.clone().check(clock, bounds, zone).err()));
    faults.extend(builder.handlers.iter().filter_map(|(kind, _)| name_fault("the type of a handler", kind)));
    if !faults.is_empty() {
        return Err(StartError::Config(faults));
    }
    let core = open_core(builder)?;
    let code = schedules.iter().filter_map(|schedule| {
        let (kind, queue) = schedule.target()?;
        Some(CodeSchedule { schedule: schedule.name.clone(), queue: queue.clone(), kind: kind.clone() })
    });
    core.unrun.code.get_or_init(|| code.collect());
    let mut threads = BoardThreads::build(&core).await?;
    match start_parts(&core, schedules).await {
        Ok(watched) => {
            threads.watched = Some(watched);
            Ok((core, threads))
        }
        Err(error) => {
            core.stage.send_replace(Stage::Stopped);
            core.disconnect_all();
            threads.end(&core, &Patience::of(PATIENCE));
            Err(error)
        }
    }
}

/// A name that two schedules share.
fn name_of_two(schedules: &[Schedule]) -> Option<String> {
    let mut names = HashSet::new();
    schedules.iter().find(|schedule| !names.insert(&schedule.name)).map(|schedule| schedule.name.to_string())
}

fn open_core(builder: BoardBuilder) -> Result<Arc<Core>, StartError> {
    let BoardBuilder { config, backend, log, handlers, data, callbacks, .. } = builder;
    let registry = Registry::new(handlers)?;
    let clock = config.clock.own();
    let backend = match backend {
        Some(backend) => backend,
        None => open_backend(&config)?,
    };
    let node = NodeId::new(clock.now());
    let app_log = Guarded::new(log.new(slog::o!(keys::NODE => node.to_string())));
    let log = app_log.logger();
    let parts = Parts::new();
    let queue = RestartableAddr::new("queue");
    let store_line = RestartableAddr::new("store");
    let events = Arc::new(Events::new(config.event_buffer));
    for callback in callbacks {
        events.call(callback);
    }
    let names = || config.queues.iter().map(|(name, _)| name.clone());
    let pulse = Arc::clone(parts.pulse(Part::Persistence));
    let task_logs = config.task_logs.as_ref().map(|dir| {
        let options = TaskLogOptions { max_bytes: config.task_log_bytes, level: config.task_log_level };
        TaskLogs::guarded(dir, options, clock.clone(), app_log.clone())
    });
    let core = Core {
        inbox: Inbox::new(config.max_waiting_pushes, queue.clone()),
        lanes: SharedLanes::default(),
        ready_queues: names().map(|name| (name, Arc::default())).collect::<HashMap<Name, _>>(),
        workers: WorkerPool::new(names(), config.blocking_threads),
        chores: BlockingPool::new("callboard-chores", 1),
        persistence: Persistence::new(Arc::clone(&backend), config.readers, log.clone(), clock.clone(), pulse),
        events,
        store: StoreHandle::new(store_line.clone()),
        store_line,
        kept: Kept::new(config.store_limits),
        queue,
        maintenance: RestartableAddr::new("maintenance"),
        scheduler: RestartableAddr::new("scheduler"),
        due_list: DueList::default(),
        guardian: RestartableAddr::new("guardian"),
        parts,
        home: OnceLock::new(),
        lease: Lease::default(),
        alarm: Alarm::default(),
        deliveries: Mutex::default(),
        awaited: Awaited::default(),
        counters: Counters::default(),
        looks: Looks::default(),
        throttled: ThrottledQueues::default(),
        unrun: Unrun::default(),
        settings: Mutex::default(),
        limits: Mutex::default(),
        stage: watch::Sender::new(Stage::Running),
        hands: Mutex::default(),
        events_home: OnceLock::new(),
        task_logs,
        config,
        clock,
        log,
        app_log,
        node,
        backend,
        registry,
        data,
    };
    Ok(Arc::new(core))
}

fn open_backend(config: &crate::config::Config) -> Result<backend::Opened, BackendError> {
    let options = OpenOptions {
        clock: config.clock.clone(),
        readers: config.readers,
        writers: config.writers,
        synchronous: config.synchronous,
        memory_bytes: config.max_memory_bytes,
        ..OpenOptions::default()
    };
    backend::open(&config.url, &options)
}

async fn start_parts(core: &Arc<Core>, schedules: Vec<Schedule>) -> Result<Threads, StartError> {
    let home = core.home.get().ok_or(StartError::Part("core arbiter"))?;
    // The first heartbeat comes before the first claim.
    let started_at = first_beat(core)?;
    for schedule in schedules {
        Define(schedule).apply(core).await.map_err(|error| match error {
            BoardError::Storage(error) => StartError::Storage(error),
            other => StartError::Config(vec![other.to_string()]),
        })?;
    }
    for part in [Part::Events, Part::Store, Part::Queue, Part::Maintenance, Part::Scheduler] {
        start_part(core, part, home);
    }
    for (name, concurrency) in &core.config.queues {
        core.workers.ensure(core, name, *concurrency);
    }
    core.guardian.connect(Guardian::start_at(core, home));
    let threads = Threads::start(core, home, started_at)?;
    for warning in warning::warnings(core) {
        warn!(core.log, "{warning}");
    }
    info!(core.log, "the board is running"; keys::QUEUES => core.config.queues.len(),
        keys::TYPES => core.registry.types().len());
    core.events.publish(|| Event::NodeStarted { node: core.node, at: started_at });
    Ok(threads)
}

/// Retries for as long as a push would, because a concurrent process may hold the lock for a while.
fn first_beat(core: &Core) -> Result<Timestamp, BackendError> {
    let deadline = core.clock.after(core.config.push_deadline);
    loop {
        let first = follow_storage(core).and_then(|()| {
            let started_at = core.clock.now();
            beat(core, started_at)?;
            // Limits and settings of other nodes apply from the first claim on.
            *core.limits.lock() = Limits::new(core.backend.limits()?);
            *core.settings.lock() = core.backend.queues()?;
            Ok(started_at)
        });
        match first {
            Err(error) if error.is_transient() && core.clock.elapsed() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}
