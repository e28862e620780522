//! The scheduler actor: sleeps until the next firing, and then does a round. Whoever changes schedules rings the
//! [due_list](super::DueList)'s bell, which is no message and may be lost.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`Operate`] | the board's handle, once for each kind of [`Operation`] | what the operation answers, or why it was refused | yes: the asker sees an error, and whether it was done is then unknown | as its operation says: a second `create` is refused, and a second `trigger` makes a second task |
//! | `Crash` | tests of supervision | none: it panics | yes | yes |

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use parking_lot::Mutex;
use slog::{info, warn};

use super::round::{RoundEnd, round};
use crate::actor::Supervised;
use crate::backend::BackendError;
use crate::error::BoardError;
use crate::logging::keys;
use crate::runtime::core::Core;

/// A change to a schedule.
pub(crate) trait Operation: Send + 'static {
    /// What comes back.
    type Answer: Send + 'static;

    /// Does it.
    fn apply(self, core: &Arc<Core>) -> impl Future<Output = Result<Self::Answer, BoardError>>;
}

/// The pause before what did not work is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// The longest nap, because a clock that is set tells nobody, and a look at it costs nothing.
const LONGEST: Duration = Duration::from_secs(1);

/// Do this to a schedule. The operation lies where the asker sees whether an actor has taken it: one that no actor has
/// taken is not done, and may be handed to the next.
pub(crate) struct Operate<O>(Arc<Mutex<Option<O>>>);

impl<O> Operate<O> {
    pub(crate) fn new(operation: O) -> Self {
        Self(Arc::new(Mutex::new(Some(operation))))
    }

    /// True while no actor has begun with it.
    pub(crate) fn is_untouched(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl<O> Clone for Operate<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O: Operation> Message for Operate<O> {
    type Result = Result<O::Answer, BoardError>;
}

/// The scheduler actor.
pub(crate) struct Scheduler {
    core: Arc<Core>,
    failing: bool,
    /// When storage was looked at last, on the clock's growing hand.
    looked: Duration,
    life: Supervised,
}

impl Scheduler {
    pub(crate) fn new(core: Arc<Core>, life: Supervised) -> Self {
        Self { core, failing: false, looked: Duration::ZERO, life }
    }

    /// One round, and a rest until the next.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let core = Arc::clone(&self.core);
        let done = async move { round(&core).await };
        ctx.spawn(done.into_actor(self).map(|report, scheduler: &mut Self, ctx| {
            let end = report.as_ref().ok().copied();
            scheduler.note(report);
            scheduler.rest(end, ctx);
        }));
    }

    fn note(&mut self, report: Result<RoundEnd, BackendError>) {
        let log = &self.core.log;
        if report.is_err() && !self.core.has_storage() {
            return;
        }
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

    fn rest(&mut self, end: Option<RoundEnd>, ctx: &mut Context<Self>) {
        let core = Arc::clone(&self.core);
        // A wake-up may have been lost, and a database that tells nobody is asked now and then.
        let elapsed = core.clock.elapsed();
        if elapsed.saturating_sub(self.looked) >= core.between_looks() && core.backend.capabilities().shared {
            self.looked = elapsed;
            core.due_list.look_again();
        }
        let until = core.due_list.next().map(|due| due.since(core.clock.now()));
        let nap = core.clock.sleep(nap(end, until, core.config.check_interval.min(LONGEST)));
        let over = async move {
            tokio::select! {
                () = nap => {}
                () = core.due_list.rung() => {}
            }
        };
        ctx.spawn(over.into_actor(self).map(|(), scheduler: &mut Self, ctx| scheduler.work(ctx)));
    }
}

/// How long nothing is to be done after a round, `None` when it failed: `until` the next firing, and not longer than `most`.
fn nap(end: Option<RoundEnd>, until: Option<Duration>, most: Duration) -> Duration {
    match (end, until) {
        (Some(RoundEnd::MoreDue), _) => Duration::ZERO,
        // What the round could not fire, it could not fire at once either.
        (Some(RoundEnd::Held) | None, Some(Duration::ZERO)) => AGAIN.min(most),
        // With many schedules the next one is often due by now.
        (_, until) => until.map_or(most, |until| until.min(most)),
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
        let operation = operation.lock().take();
        Box::pin(async move {
            match operation {
                Some(operation) => operation.apply(&core).await,
                None => Err(BoardError::NotAnswering { part: "scheduler" }),
            }
        })
    }
}

#[cfg(feature = "testing")]
crate::actor::crash_on_request!(Scheduler);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_due_since_a_round_waits_for_nothing() {
        let ms = Duration::from_millis;
        let most = ms(1_000);
        for (end, until, wanted) in [
            (Some(RoundEnd::NothingDue), Some(ms(0)), ms(0)),
            (Some(RoundEnd::NothingDue), Some(ms(7)), ms(7)),
            (Some(RoundEnd::NothingDue), Some(ms(7_000)), most),
            (Some(RoundEnd::NothingDue), None, most),
            (Some(RoundEnd::MoreDue), Some(ms(7)), ms(0)),
            (Some(RoundEnd::Held), Some(ms(0)), AGAIN),
            (Some(RoundEnd::Held), Some(ms(7)), ms(7)),
            (None, Some(ms(0)), AGAIN),
            (None, None, most),
        ] {
            assert_eq!(nap(end, until, most), wanted, "{end:?}, {until:?}");
        }
        assert_eq!(nap(None, Some(ms(0)), ms(50)), ms(50), "never longer than the most");
    }
}
