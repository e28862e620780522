//! Workers: each runs a single task at a time.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`Wake`] | the queue, or a worker, when the lane's ready queue has a task; the guardian, when a woken worker does not look | none | only with its worker, which the guardian replaces | yes, but it is sent to idle workers only |
//! | [`Dismiss`] | the queue, when a lane has more workers than its concurrency | none | only with its worker | yes |
//!
//! A panic of a handler is caught in [`run`]. A panic of the worker itself ends its actor, and the guardian puts a
//! fresh actor in its place.

mod blocking;
mod cancel;
mod context;
mod handlers;
pub(crate) mod log;
mod pool;
mod registry;
mod run;
mod task_trait;
mod thread;

use std::sync::Arc;

use actix::{Actor, ActorContext as _, AsyncContext, Context as ActorContext, Handler, Message, WrapFuture};

pub(crate) use blocking::BlockingPool;
pub(crate) use cancel::Cancel;
pub use cancel::CancelReason;
pub use context::Context;
pub use handlers::Run;
pub(crate) use handlers::{ActorHandler, AsyncFn, BlockingFn, Handle, Typed};
pub(crate) use pool::{Slot, WorkerPool};
pub(crate) use registry::Registry;
pub use task_trait::Task;
pub(crate) use thread::RunThread;

use crate::actor::Supervised;
use crate::runtime::core::Core;
use crate::runtime::queue::ready::{CallNumber, ReadyQueue, Take, wake};

/// The ready queue may have a task.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake(pub(crate) CallNumber);

/// The worker is not needed any more. Sent to idle workers that have left the ready queue, so that no wake-up can reach
/// them.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Dismiss;

/// How many tasks a worker runs without a pause before it yields to the other workers on its thread.
const TASKS_PER_TURN: u32 = 64;

/// The worker actor.
pub(crate) struct Worker {
    core: Arc<Core>,
    ready: Arc<ReadyQueue>,
    slot: Arc<Slot>,
    _life: Supervised,
}

impl Worker {
    pub(crate) fn new(core: Arc<Core>, ready: Arc<ReadyQueue>, slot: Arc<Slot>, life: Supervised) -> Self {
        Self { core, ready, slot, _life: life }
    }

    /// Takes tasks and runs them in sequence until the ready queue is empty.
    fn work(&mut self, ctx: &mut ActorContext<Self>, call: Option<CallNumber>) {
        let (core, ready, slot) = (Arc::clone(&self.core), Arc::clone(&self.ready), Arc::clone(&self.slot));
        let me = ctx.address();
        let rounds = async move {
            let mut call = call;
            let mut turn = 0;
            while let Take::Task(claimed, next) = ready.take(&me, &slot, call.take(), &core.clock) {
                wake(next);
                run::run(&core, claimed, &slot).await;
                turn += 1;
                if turn == TASKS_PER_TURN {
                    turn = 0;
                    tokio::task::yield_now().await;
                }
            }
        };
        ctx.spawn(rounds.into_actor(self));
    }
}

impl Actor for Worker {
    type Context = ActorContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A new worker has not been woken. It looks at the ready queue by itself, and is idle afterwards.
        self.work(ctx, None);
    }
}

impl Handler<Wake> for Worker {
    type Result = ();
    fn handle(&mut self, Wake(call): Wake, ctx: &mut Self::Context) {
        self.work(ctx, Some(call));
    }
}

impl Handler<Dismiss> for Worker {
    type Result = ();
    fn handle(&mut self, _: Dismiss, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(feature = "testing")]
crate::actor::crash_on_request!(Worker);
