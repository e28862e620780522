//! The address of a core actor, as all parts except the guardian use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use parking_lot::RwLock;

/// Why an actor gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It was stopped on purpose.
    Closed,
    /// It has died, and its successor may not be there yet.
    NotAnswering {
        /// Its name.
        part: &'static str,
    },
}

/// A restartable address: the actor behind it may be replaced by a fresh actor at any time.
///
/// An actix address stays dead for ever once its actor has panicked. The guardian puts the address of the next
/// incarnation here. So a holder never has a dead address for longer than a restart takes.
pub(crate) struct RestartableAddr<A: Actor> {
    part: &'static str,
    address: Arc<RwLock<Option<Addr<A>>>>,
    closed: Arc<AtomicBool>,
}

impl<A: Actor> Clone for RestartableAddr<A> {
    fn clone(&self) -> Self {
        Self { part: self.part, address: Arc::clone(&self.address), closed: Arc::clone(&self.closed) }
    }
}

impl<A: Actor> RestartableAddr<A> {
    /// An address that has no actor yet.
    pub(crate) fn new(part: &'static str) -> Self {
        Self { part, address: Arc::default(), closed: Arc::default() }
    }

    /// Sets the address; the old address, if any, is dropped.
    pub(crate) fn connect(&self, address: Addr<A>) {
        *self.address.write() = Some(address);
        self.closed.store(false, Ordering::Release);
    }

    /// Removes the address: the part is stopped on purpose.
    pub(crate) fn disconnect(&self) {
        self.closed.store(true, Ordering::Release);
        *self.address.write() = None;
    }

    /// True when the part was stopped on purpose: it does not come back.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The current address.
    pub(crate) fn address(&self) -> Option<Addr<A>> {
        self.address.read().clone()
    }

    /// True while a live actor is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.address.read().as_ref().is_some_and(Addr::connected)
    }

    /// Sends a message that may be lost: a wake-up, never data.
    pub(crate) fn poke<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        if let Some(address) = &*self.address.read() {
            address.do_send(message);
        }
    }

    /// Sends a message and awaits its answer.
    pub(crate) async fn ask<M>(&self, message: M) -> Result<M::Result, NoAnswer>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let silent = || if self.is_closed() { NoAnswer::Closed } else { NoAnswer::NotAnswering { part: self.part } };
        let address = self.address().ok_or_else(silent)?;
        address.send(message).await.map_err(|_| silent())
    }
}
