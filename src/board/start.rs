//! Starts a board.
//!
//! Where there is an actix system, the board lives in it, on arbiters of its own, so that the application's services
//! are the handlers' services. Where there is none, it makes one on a thread of its own.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle, System};
use parking_lot::Mutex;
use slog::info;
use tokio::sync::{oneshot, watch};

use super::house::{House, Inner, OwnSystem};
use super::{Board, BoardBuilder};
use crate::backend::{self, BackendError, Limits, OpenOptions};
use crate::clock::Timestamp;
use crate::core::{Alarm, Awaited, Core, Counters, HeldQueues, Lease, Stage};
use crate::error::{BoardError, StartError};
use crate::events::{Event, Events};
use crate::logging::keys;
use crate::name::Name;
use crate::persistence::Persistence;
use crate::queue::{desk::Desk, settings::Looks, shared::SharedLanes};
use crate::scheduler::operations::{Define, Operation};
use crate::scheduler::{Agenda, Schedule};
use crate::store::{Kept, StoreHandle};
use crate::supervise::{Guardian, Line, Part, Parts, Threads, beat, follow_storage, start_part};
use crate::task::NodeId;
use crate::worker::log::{TaskLogOptions, TaskLogs};
use crate::worker::{BlockingPool, Crew, Registry};

pub(super) async fn start(mut builder: BoardBuilder) -> Result<Board, StartError> {
    let mut faults = builder.config.faults();
    let schedules = std::mem::take(&mut builder.schedules);
    if let Some(name) = name_of_two(&schedules) {
        return Err(StartError::TwoSchedules(name));
    }
    let (clock, most, zone) = (&builder.config.clock, builder.config.max_params_bytes, builder.config.default_zone);
    faults.extend(schedules.iter().filter_map(|schedule| schedule.clone().check(clock, most, zone).err()));
    if !faults.is_empty() {
        return Err(StartError::Config(faults));
    }
    let core = open_core(builder).await?;
    let (own_system, system) = match System::try_current() {
        Some(system) => (None, system),
        None => {
            let own = OwnSystem::start().await?;
            let system = own.system.clone();
            (Some(own), system)
        }
    };
    let (tell, told) = oneshot::channel();
    let inner = Arc::clone(&core);
    system.arbiter().spawn_fn(move || {
        let arbiters = (Arbiter::new(), Arbiter::new());
        inner.crew.start_arbiters(inner.config.worker_threads);
        inner.crew.call_roll(&inner.clock);
        // The starter may have been dropped; then the arbiters end with it.
        drop(tell.send(arbiters));
    });
    let (core_arbiter, events_arbiter) = told.await.map_err(|_| StartError::Part("core arbiter"))?;
    let home = core.home.get_or_init(|| core_arbiter.handle()).clone();
    core.events_home.get_or_init(|| events_arbiter.handle());
    let mut inner = Inner { threads: None, arbiters: [core_arbiter, events_arbiter], own_system };
    match start_parts(&core, &home, schedules).await {
        Ok(threads) => inner.threads = Some(threads),
        Err(error) => {
            core.stage.send_replace(Stage::Stopped);
            core.disconnect_all();
            inner.end(&core).await;
            return Err(error);
        }
    }
    Ok(Board { core, house: Arc::new(House::of(inner)) })
}

/// A name that two schedules have.
fn name_of_two(schedules: &[Schedule]) -> Option<String> {
    let mut names = HashSet::new();
    schedules.iter().find(|schedule| !names.insert(&schedule.name)).map(|schedule| schedule.name.to_string())
}

async fn open_core(builder: BoardBuilder) -> Result<Arc<Core>, StartError> {
    let BoardBuilder { config, backend, log, handlers, data, callbacks, .. } = builder;
    let registry = Registry::new(handlers)?;
    let clock = config.clock.own();
    let backend = match backend {
        Some(backend) => backend,
        None => open_backend(&config).await?,
    };
    let node = NodeId::new(clock.now());
    let log = log.new(slog::o!(keys::NODE => node.to_string()));
    let parts = Parts::new();
    let queue = Line::new("queue");
    let store_line = Line::new("store");
    let events = Arc::new(Events::new(config.event_buffer));
    for callback in callbacks {
        events.call(callback);
    }
    let names = || config.queues.iter().map(|(name, _)| name.clone());
    let pulse = Arc::clone(parts.pulse(Part::Persistence));
    let task_logs = config.task_logs.as_ref().map(|dir| {
        let options = TaskLogOptions { max_bytes: config.task_log_bytes, level: config.task_log_level };
        TaskLogs::new(dir, options, clock.clone(), log.clone())
    });
    let core = Core {
        desk: Desk::new(config.max_waiting_pushes, queue.clone()),
        lanes: SharedLanes::default(),
        benches: names().map(|name| (name, Arc::default())).collect::<HashMap<Name, _>>(),
        crew: Crew::new(names(), config.blocking_threads),
        chores: BlockingPool::new("callboard-chores", 1),
        persistence: Persistence::new(Arc::clone(&backend), config.readers, log.clone(), clock.clone(), pulse),
        events,
        store: StoreHandle::new(store_line.clone()),
        store_line,
        kept: Kept::new(config.store_limits),
        queue,
        maintenance: Line::new("maintenance"),
        scheduler: Line::new("scheduler"),
        agenda: Agenda::default(),
        guardian: Line::new("guardian"),
        parts,
        home: OnceLock::new(),
        lease: Lease::default(),
        alarm: Alarm::default(),
        deliveries: Mutex::default(),
        awaited: Awaited::default(),
        counters: Counters::default(),
        looks: Looks::default(),
        held: HeldQueues::default(),
        settings: Mutex::default(),
        limits: Mutex::default(),
        stage: watch::Sender::new(Stage::Running),
        hands: Mutex::default(),
        events_home: OnceLock::new(),
        task_logs,
        config,
        clock,
        log,
        node,
        backend,
        registry,
        data,
    };
    Ok(Arc::new(core))
}

/// Opening may block on the disk or on another process's migration, so it has a thread of its own.
async fn open_backend(config: &crate::config::Config) -> Result<backend::Opened, StartError> {
    let options = OpenOptions {
        clock: config.clock.clone(),
        readers: config.readers,
        writers: config.writers,
        synchronous: config.synchronous,
        ..OpenOptions::default()
    };
    let url = config.url.clone();
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("callboard-open".into()).spawn(move || {
        // The starter may have been dropped meanwhile.
        drop(tell.send(backend::open(&url, &options)));
    })?;
    Ok(told.await.map_err(|_| StartError::Part("storage"))??)
}

async fn start_parts(
    core: &Arc<Core>,
    home: &ArbiterHandle,
    schedules: Vec<Schedule>,
) -> Result<Threads, StartError> {
    start_part(core, Part::Persistence, home);
    // The first sign of life comes before the first claim.
    let (inner, (tell, told)) = (Arc::clone(core), oneshot::channel());
    std::thread::Builder::new().name("callboard-first-beat".into()).spawn(move || {
        drop(tell.send(first_beat(&inner)));
    })?;
    let started_at = told.await.map_err(|_| StartError::Part("heartbeat"))??;
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
        core.crew.ensure(core, name, *concurrency);
    }
    core.guardian.connect(Guardian::start_at(core, home));
    let threads = Threads::start(core, home, started_at)?;
    info!(core.log, "the board is running"; keys::QUEUES => core.config.queues.len(),
        keys::TYPES => core.registry.types().len());
    core.events.publish(|| Event::NodeStarted { node: core.node, at: started_at });
    Ok(threads)
}

/// Tries for as long as a push would: another process may hold the lock for a while.
fn first_beat(core: &Core) -> Result<Timestamp, BackendError> {
    let deadline = core.clock.elapsed() + core.config.push_deadline;
    loop {
        let first = follow_storage(core).and_then(|()| {
            let started_at = core.clock.now();
            beat(core, started_at)?;
            // What others have set holds for the first claim already.
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
