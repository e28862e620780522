//! The scheduler actor: sleeps until the next firing, and then runs a round. A change to schedules rings the bell of
//! the [due list](super::DueList). The bell is no message, and a ring may be lost.
//!
//! | message | who sends it | reply | may it be lost | safe to repeat |
//! |---|---|---|---|---|
//! | [`Operate`] | the board's handle, once for each kind of [`Operation`] | the operation's answer, or the reason why it was refused | yes: the caller gets an error, and the outcome is then unknown | depends on the operation: a second `create` is refused, and a second `trigger` makes a second task |
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
    /// The type of the answer.
    type Answer: Send + 'static;

    /// Applies the change.
    fn apply(self, core: &Arc<Core>) -> impl Future<Output = Result<Self::Answer, BoardError>>;
}

/// The pause before a round that failed, or that could not fire, is repeated.
const AGAIN: Duration = Duration::from_millis(100);

/// The longest nap. Setting a clock sends no notification, and a look at the clock costs nothing.
const LONGEST: Duration = Duration::from_secs(1);

/// A request to apply an operation. The caller can see whether an actor has taken the operation. An operation that no
/// actor has taken is not done, and may be handed to the next actor.
pub(crate) struct Operate<O>(Arc<Mutex<Option<O>>>);

impl<O> Operate<O> {
    pub(crate) fn new(operation: O) -> Self {
        Self(Arc::new(Mutex::new(Some(operation))))
    }

    /// True while no actor has begun the operation.
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
    /// When storage was looked at last, in monotonic time.
    looked: Duration,
    life: Supervised,
}

impl Scheduler {
    pub(crate) fn new(core: Arc<Core>, life: Supervised) -> Self {
        Self { core, failing: false, looked: Duration::ZERO, life }
    }

    /// Runs a round, and rests until the next.
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
        // A wake-up may have been lost, and some databases send no notifications. So storage is looked at now and then.
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

/// How long to sleep after a round: `until` the next firing, but at most `most`. `end` is `None` when the round failed.
fn nap(end: Option<RoundEnd>, until: Option<Duration>, most: Duration) -> Duration {
    match (end, until) {
        (Some(RoundEnd::MoreDue), _) => Duration::ZERO,
        // The round could not fire the due schedules, so an immediate second round could not fire them either.
        (Some(RoundEnd::Held) | None, Some(Duration::ZERO)) => AGAIN.min(most),
        // With many schedules the next firing is often due by now.
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
