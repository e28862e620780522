//! The scheduler actor: sleeps until the next firing, and then does a round. Whoever changes schedules rings the
//! [agenda](super::Agenda)'s bell, which is no message and may be lost.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`Operate`] | the board's handle, once for each kind of [`Operation`] | what the operation answers, or why it was refused | yes: the asker sees an error, and whether it was done is then unknown | as its operation says: a second `create` is refused, and a second `trigger` makes a second task |
//! | `Crash` | tests of supervision | none: it panics | yes | yes |

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use slog::{info, warn};

use super::operations::Operation;
use super::round::round;
use crate::backend::BackendError;
use crate::core::Core;
use crate::error::BoardError;
use crate::logging::keys;
use crate::supervise::Life;

/// The pause before what did not work is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// Do this to a schedule.
pub(crate) struct Operate<O>(pub(crate) O);

impl<O: Operation> Message for Operate<O> {
    type Result = Result<O::Answer, BoardError>;
}

/// The scheduler actor.
pub(crate) struct Scheduler {
    core: Arc<Core>,
    failing: bool,
    /// When storage was looked at last, on the clock's growing hand.
    looked: Duration,
    life: Life,
}

impl Scheduler {
    pub(crate) fn new(core: Arc<Core>, life: Life) -> Self {
        Self { core, failing: false, looked: Duration::ZERO, life }
    }

    /// One round, and a rest until the next.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let core = Arc::clone(&self.core);
        let done = async move { round(&core).await };
        ctx.spawn(done.into_actor(self).map(|report, scheduler: &mut Self, ctx| {
            let more = matches!(report, Ok(true));
            scheduler.note(report);
            scheduler.rest(more, ctx);
        }));
    }

    fn note(&mut self, report: Result<bool, BackendError>) {
        let log = &self.core.log;
        self.life.fails(report.is_err());
        match report {
            Ok(_) => {
                self.life.tick(&self.core.clock);
                if std::mem::take(&mut self.failing) {
                    info!(log, "schedules fire again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(log, "schedules do not fire"; keys::ERROR => %error);
                }
            }
        }
    }

    /// How long nothing is to be done: until the next firing. Not longer than a second, because a clock that is set tells
    /// nobody, and a look at it costs nothing.
    fn nap(&self, more: bool) -> Duration {
        if more {
            return Duration::ZERO;
        }
        let core = &self.core;
        let most = core.config.check_interval.min(Duration::from_secs(1));
        let until = core.agenda.next().map_or(most, |due| due.since(core.clock.now()));
        if until.is_zero() { AGAIN.min(most) } else { until.min(most) }
    }

    fn rest(&mut self, more: bool, ctx: &mut Context<Self>) {
        let core = Arc::clone(&self.core);
        // A wake-up may have been lost, and a database that tells nobody is asked now and then.
        let elapsed = core.clock.elapsed();
        if elapsed.saturating_sub(self.looked) >= core.between_looks() && core.backend.capabilities().shared {
            self.looked = elapsed;
            core.agenda.look_again();
        }
        let nap = core.clock.sleep(self.nap(more));
        let over = async move {
            tokio::select! {
                () = nap => {}
                () = core.agenda.rung() => {}
            }
        };
        ctx.spawn(over.into_actor(self).map(|(), scheduler: &mut Self, ctx| scheduler.work(ctx)));
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.life.tick(&self.core.clock);
        self.work(ctx);
    }
}

impl<O: Operation> Handler<Operate<O>> for Scheduler {
    type Result = ResponseFuture<Result<O::Answer, BoardError>>;
    fn handle(&mut self, Operate(operation): Operate<O>, _: &mut Self::Context) -> Self::Result {
        let core = Arc::clone(&self.core);
        Box::pin(async move { operation.apply(&core).await })
    }
}

#[cfg(feature = "testing")]
crate::supervise::crash_on_request!(Scheduler);
