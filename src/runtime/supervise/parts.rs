//! The parts of a board, as the guardian and `health()` see them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::actor::{Liveness, Part, Supervised};

/// The liveness of all parts, and the channel on which their deaths are reported.
pub(crate) struct Parts {
    pulses: Vec<Arc<Liveness>>,
    died: UnboundedSender<Part>,
    // The guardian holds the lock while it lives, and the next guardian finds the channel here.
    deaths: Arc<tokio::sync::Mutex<UnboundedReceiver<Part>>>,
    recent: Mutex<Vec<std::time::Duration>>,
}

impl Parts {
    pub(crate) fn new() -> Self {
        let (died, deaths) = unbounded_channel();
        Self {
            pulses: Part::ALL.iter().map(|_| Arc::default()).collect(),
            died,
            deaths: Arc::new(tokio::sync::Mutex::new(deaths)),
            recent: Mutex::default(),
        }
    }

    pub(crate) fn pulse(&self, part: Part) -> &Arc<Liveness> {
        let index = Part::ALL.iter().position(|other| *other == part);
        &self.pulses[index.expect("ALL lists every part")]
    }

    /// The value that an actor holds so that its death is noticed.
    pub(crate) fn life(&self, part: Part) -> Supervised {
        Supervised::new(part, self.died.clone(), Arc::clone(self.pulse(part)))
    }

    pub(super) fn deaths(&self) -> Arc<tokio::sync::Mutex<UnboundedReceiver<Part>>> {
        Arc::clone(&self.deaths)
    }

    /// Notes a restart at `now`; returns how many there were within `window`.
    pub(super) fn note_restart(&self, now: std::time::Duration, window: std::time::Duration) -> usize {
        let mut recent = self.recent.lock();
        recent.retain(|at| now.saturating_sub(*at) < window);
        recent.push(now);
        recent.len()
    }
}
