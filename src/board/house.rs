//! The threads that a board lives on.

use std::sync::Arc;
use std::thread::JoinHandle;

use actix_rt::{Arbiter, System};
use parking_lot::Mutex;
use slog::warn;
use tokio::sync::oneshot;

use crate::core::Core;
use crate::error::StartError;
use crate::logging::keys;
use crate::supervise::Threads;

/// The threads that a board lives on.
pub(super) struct House {
    /// Nothing, once they have ended.
    pub(super) inner: Mutex<Option<Inner>>,
    /// Held by the stop that is under way.
    pub(super) stopped: tokio::sync::Mutex<()>,
}

/// Those that are there while the board runs; the workers' are the crew's.
pub(super) struct Inner {
    pub(super) threads: Option<Threads>,
    pub(super) arbiters: [Arbiter; 2],
    pub(super) own_system: Option<OwnSystem>,
}

/// A system made for a board that was started outside of any.
pub(super) struct OwnSystem {
    pub(super) system: System,
    thread: JoinHandle<()>,
}

impl House {
    pub(super) fn of(inner: Inner) -> Self {
        Self { inner: Mutex::new(Some(inner)), stopped: tokio::sync::Mutex::default() }
    }
}

impl OwnSystem {
    pub(super) async fn start() -> Result<Self, StartError> {
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

impl Inner {
    /// Ends them, and waits for those that may still run something of the application.
    pub(super) async fn end(self, core: &Arc<Core>) {
        if let Some(threads) = self.threads {
            threads.stop();
        }
        let leaving = core.crew.stop();
        core.chores.close();
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
        // Last: everything else is done, also when nobody waits for this any more.
        match leaving.left().await {
            Some(0) => {}
            Some(left) => warn!(core.log, "threads of workers are left behind: their handlers block";
                keys::COUNT => left),
            None => warn!(core.log, "the workers' threads could not be waited for: the system gave no thread"),
        }
    }
}
