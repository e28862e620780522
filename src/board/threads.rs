//! The threads on which a board runs, all of them its own.
//!
//! A board has an actix system of its own, so that events in the caller's system do not reach it: actix-web stops its
//! caller's system when it ends, and a caller may block its thread or have no system at all.

use std::sync::Arc;
use std::thread::JoinHandle;

use actix_rt::{Arbiter, System};
use slog::warn;
use tokio::sync::oneshot;

use super::leaving::{Leaving, Patience};
use crate::actor::Part;
use crate::error::StartError;
use crate::logging::keys;
use crate::runtime::core::Core;
use crate::runtime::supervise::{Threads, start_part};

/// The threads of a running board. The worker pool owns its own threads, and the storage threads end with their
/// address.
pub(super) struct BoardThreads {
    pub(super) watched: Option<Threads>,
    /// The arbiter of the core actors, and the arbiter of the events.
    arbiters: [Arbiter; 2],
    system: System,
    thread: JoinHandle<()>,
}

impl BoardThreads {
    /// Starts the system with its arbiters, and the threads of storage and workers.
    pub(super) async fn build(core: &Arc<Core>) -> Result<Self, StartError> {
        let (tell, told) = oneshot::channel();
        let inner = Arc::clone(core);
        let thread = std::thread::Builder::new().name("callboard-system".into()).spawn(move || {
            let runner = System::new();
            let arbiters = [Arbiter::new(), Arbiter::new()];
            let home = inner.home.get_or_init(|| arbiters[0].handle());
            inner.events_home.get_or_init(|| arbiters[1].handle());
            inner.workers.start_arbiters(inner.config.worker_threads);
            inner.workers.call_roll(&inner.clock);
            start_part(&inner, Part::Persistence, home);
            drop(inner);
            // The caller of `build` waits for this message. If it has panicked, the system ends with its thread. Only
            // `System::stop` reports how the system ends, and this thread has no logger.
            if tell.send((System::current(), arbiters)).is_ok() {
                runner.run().ok();
            }
        })?;
        // `System` and `Arbiter` panic when the operating system gives them no thread or no runtime.
        let (system, arbiters) = told.await.map_err(|_| StartError::Part("actix system"))?;
        Ok(Self { watched: None, arbiters, system, thread })
    }

    /// Ends the threads, and waits for them until `patience` is used up.
    pub(super) fn end(self, core: &Core, patience: &Patience) {
        let mut own = self.watched.map_or_else(Vec::new, Threads::stop);
        let workers = core.workers.stop();
        core.chores.close();
        core.persistence.stop();
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        self.system.stop();
        own.push(self.thread);
        let workers = Leaving::of(workers, Arbiter::join);
        let (own, arbiters) = (Leaving::of(own, JoinHandle::join), Leaving::of(self.arbiters.into(), Arbiter::join));
        let (workers, own) = (workers.left(patience), own.left(patience) + arbiters.left(patience));
        if workers > 0 {
            warn!(core.log, "threads of workers are left behind: their handlers block"; keys::COUNT => workers);
        }
        if own > 0 {
            warn!(core.log, "threads of the board are left behind: storage, a callback or the logger blocks them";
                keys::COUNT => own);
        }
    }
}
