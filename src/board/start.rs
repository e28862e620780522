//! Starts and stops a board.
//!
//! Where there is an actix system, the board lives in it, on arbiters of its own, so that the application's services
//! are the handlers' services. Where there is none, it makes one on a thread of its own.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle, System};
use parking_lot::Mutex;
use slog::{info, warn};
use tokio::sync::{oneshot, watch};

use super::{Board, BoardBuilder};
use crate::backend::{self, BackendError, OpenOptions};
use crate::clock::Timestamp;
use crate::core::{Alarm, Awaited, Core, Counters, Lease, Stage};
use crate::error::{BoardError, StartError};
use crate::events::{Event, Events};
use crate::logging::keys;
use crate::name::Name;
use crate::persistence::{Persistence, ReleaseClaims};
use crate::queue::{AwaitIdle, desk::Desk, settings::Looks};
use crate::store::{Kept, StoreHandle};
use crate::supervise::{Guardian, Line, Part, Parts, Threads, beat, start_part};
use crate::task::NodeId;
use crate::worker::log::{TaskLogOptions, TaskLogs};
use crate::worker::{CancelReason, Crew, Registry};

/// The threads that a board lives on.
pub(super) struct House {
    inner: Mutex<Option<Inner>>,
    stopped: tokio::sync::Mutex<()>,
}

struct Inner {
    threads: Option<Threads>,
    arbiters: [Arbiter; 2],
    own_system: Option<OwnSystem>,
}

/// A system made for a board that was started outside of any.
struct OwnSystem {
    system: System,
    thread: JoinHandle<()>,
}

pub(super) async fn start(builder: BoardBuilder) -> Result<Board, StartError> {
    let faults = builder.config.faults();
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
        // The starter may have been dropped; then the arbiters end with it.
        drop(tell.send(arbiters));
    });
    let (core_arbiter, events_arbiter) = told.await.map_err(|_| StartError::Part("core arbiter"))?;
    let home = core.home.get_or_init(|| core_arbiter.handle()).clone();
    core.events_home.get_or_init(|| events_arbiter.handle());
    let mut inner = Inner { threads: None, arbiters: [core_arbiter, events_arbiter], own_system };
    match start_parts(&core, &home).await {
        Ok(threads) => inner.threads = Some(threads),
        Err(error) => {
            core.stage.send_replace(Stage::Stopped);
            core.disconnect_all();
            inner.end(&core);
            return Err(error);
        }
    }
    let house = House { inner: Mutex::new(Some(inner)), stopped: tokio::sync::Mutex::default() };
    Ok(Board { core, house: Arc::new(house) })
}

async fn open_core(builder: BoardBuilder) -> Result<Arc<Core>, StartError> {
    let BoardBuilder { config, backend, log, handlers, data, callbacks, .. } = builder;
    let registry = Registry::new(handlers)?;
    let clock = config.clock.clone();
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
        let options = TaskLogOptions { max_bytes: config.task_log_bytes, ..TaskLogOptions::default() };
        TaskLogs::new(dir, options, clock.clone(), log.clone())
    });
    let core = Core {
        desk: Desk::new(config.max_waiting_pushes, queue.clone()),
        benches: names().map(|name| (name, Arc::default())).collect::<HashMap<Name, _>>(),
        crew: Crew::new(names(), config.blocking_threads),
        persistence: Persistence::new(Arc::clone(&backend), config.readers, log.clone(), pulse),
        events,
        store: StoreHandle::new(store_line.clone()),
        store_line,
        kept: Kept::new(config.store_limits),
        queue,
        maintenance: Line::new("maintenance"),
        guardian: Line::new("guardian"),
        parts,
        home: OnceLock::new(),
        lease: Lease::default(),
        alarm: Alarm::default(),
        deliveries: Mutex::default(),
        awaited: Awaited::default(),
        counters: Counters::default(),
        looks: Looks::default(),
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

async fn start_parts(core: &Arc<Core>, home: &ArbiterHandle) -> Result<Threads, StartError> {
    let started_at = core.clock.now();
    start_part(core, Part::Persistence, home);
    // The first sign of life comes before the first claim.
    let (inner, (tell, told)) = (Arc::clone(core), oneshot::channel());
    std::thread::Builder::new().name("callboard-first-beat".into()).spawn(move || {
        drop(tell.send(first_beat(&inner, started_at)));
    })?;
    told.await.map_err(|_| StartError::Part("heartbeat"))??;
    for part in [Part::Events, Part::Store, Part::Queue, Part::Maintenance] {
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
fn first_beat(core: &Core, started_at: Timestamp) -> Result<(), BackendError> {
    let deadline = core.clock.elapsed() + core.config.push_deadline;
    loop {
        match beat(core, started_at) {
            Err(error) if error.is_transient() && core.clock.elapsed() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

impl OwnSystem {
    async fn start() -> Result<Self, StartError> {
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new().name("callboard-system".into()).spawn(move || {
            let runner = System::new();
            let system = System::current();
            if tell.send(system).is_ok()
                && let Err(error) = runner.run()
            {
                // There is no logger on this thread; the parts that it held report as down.
                drop(error);
            }
        })?;
        let system = told.await.map_err(|_| StartError::Part("actix system"))?;
        Ok(Self { system, thread })
    }
}

impl House {
    pub(super) async fn stop(&self, core: &Arc<Core>) {
        // A second caller waits for the first, and finds nothing to do.
        let _turn = self.stopped.lock().await;
        if self.inner.lock().is_none() {
            return;
        }
        info!(core.log, "the board is stopping");
        core.events.publish(|| Event::NodeStopping { node: core.node, at: core.clock.now() });
        core.stage.send_if_modified(|stage| {
            let running = *stage == Stage::Running;
            if running {
                *stage = Stage::Stopping;
            }
            running
        });
        core.desk.close();
        drain(core).await;
        retire(core).await;
        core.stage.send_if_modified(|stage| {
            let changed = *stage < Stage::Stopped;
            *stage = (*stage).max(Stage::Stopped);
            changed
        });
        core.desk.turn_away();
        core.awaited.close();
        core.disconnect_all();
        // Only now: a stop whose future was dropped half-way can be called again.
        if let Some(inner) = self.inner.lock().take() {
            inner.end(core);
        }
        info!(core.log, "the board has stopped");
    }
}

impl Inner {
    fn end(self, core: &Arc<Core>) {
        if let Some(threads) = self.threads {
            threads.stop();
        }
        core.crew.stop();
        core.persistence.stop();
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        if let Some(own) = self.own_system {
            own.system.stop();
            if own.thread.join().is_err() {
                warn!(core.log, "the board's own system ended with a panic");
            }
        }
    }
}

/// Lets what runs come to its end: first by itself, then on request.
async fn drain(core: &Arc<Core>) {
    for bench in core.benches.values() {
        for claimed in bench.clear() {
            core.give_back(claimed, crate::queue::desk::Holder::Worker);
        }
    }
    if core.within(core.config.drain, idle(core, None)).await {
        return;
    }
    core.crew.cancel_all(&CancelReason::Shutdown);
    // The workers themselves drop a run that outlasts the grace; their settlements take a moment more.
    let grace = core.config.cancel_grace + Duration::from_secs(2);
    if !core.within(grace, idle(core, None)).await {
        warn!(core.log, "some runs did not end; their claims are given back");
    }
}

/// Resolves when nothing of a queue, or of any, runs on this node and every settlement is stored.
pub(super) async fn idle(core: &Arc<Core>, queue: Option<Name>) -> Result<(), BoardError> {
    loop {
        match core.queue.ask(AwaitIdle(queue.clone())).await {
            Ok(mut told) => {
                core.poke_queue();
                if told.try_recv().is_ok() {
                    return Ok(());
                }
                // An error means that the actor was replaced: ask the new one.
                drop(told.await);
            }
            Err(error) if core.stage() >= Stage::Stopped => return Err(error),
            Err(_) => core.timeout(Duration::from_millis(10)).await,
        }
    }
}

/// Gives the claims back and takes the node's row away, so that nobody has to wait for the lease to end.
async fn retire(core: &Arc<Core>) {
    let release = || ReleaseClaims { node: core.node, keep: Vec::new(), retire: true, now: core.clock.now() };
    for _ in 0..3 {
        match core.persistence.ask(release()).await {
            Ok(_) => return,
            Err(error) => {
                warn!(core.log, "the node is not retired yet"; keys::ERROR => %error);
                core.timeout(Duration::from_millis(100)).await;
            }
        }
    }
}
