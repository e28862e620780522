//! The queue's reaction when storage fails: work that can wait is sent again, and claims without a holder are given
//! back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use slog::{debug, warn};

use super::batch::Batch;
use super::lanes::Lanes;
use super::recover::count_outstanding;
use super::{Queue, receipt, unstorable};
use crate::backend::BackendError;
use crate::error::PushError;
use crate::logging::keys;
use crate::runtime::core::Stage;
use crate::runtime::persistence::ReleaseClaims;

/// How long a commit may still arrive after its answer was lost. Servers give up a commit that takes longer, and this
/// is a little more than their limits. A network can deliver later than that only a request that is sent in a single
/// piece, because each statement waits for the answer to the previous statement. The end of a transaction comes too
/// late after 15 s of silence, on MySQL after 30 s. A push that is a statement by itself comes too late after 30 s;
/// PostgreSQL has a timeout for it from version 14 on.
const LATE: Duration = Duration::from_secs(40);
/// How often the claims of such a commit are looked for.
const LOOK: Duration = Duration::from_secs(2);

impl Queue {
    /// Handles a commit that storage did not take. Work that can wait is sent again after a pause. Callers that cannot
    /// wait get the error.
    pub(super) fn failed(
        &mut self,
        lanes: &mut Lanes,
        mut batch: Box<Batch>,
        error: BackendError,
        ctx: &mut Context<Self>,
    ) {
        self.failures = self.failures.saturating_add(1);
        self.core.counters.storage_retries.fetch_add(1, Ordering::Relaxed);
        if self.failures.is_power_of_two() {
            warn!(self.core.log, "storage refused a commit"; keys::ERROR => %error, keys::COUNT => self.failures);
        }
        if matches!(error, BackendError::Unknown { .. } | BackendError::Panicked { .. }) {
            batch.uncertain = true;
            self.reconcile = true;
        }
        self.core.inbox.set_trouble(Some(error.clone()));
        let now = self.core.clock.elapsed();
        if matches!(error, BackendError::Unknown { .. }) {
            self.doubtful_until = now + LATE;
        }
        let panicked = matches!(error, BackendError::Panicked { .. });
        if (panicked || !error.is_transient()) && !batch.claims.is_empty() {
            if (batch.len(), batch.claims.len()) == (0, 1) {
                unstorable::give_up_claim(&self.core, lanes, &mut batch, &error);
                self.back_off(ctx);
                return;
            }
            // Perhaps storage cannot take a particular claim. Then nothing else is to be refused with it.
            lanes.ask_alone(&batch.claims);
            receipt::forget_claims(lanes, &mut batch);
            if !panicked {
                if batch.is_empty() {
                    self.back_off(ctx);
                } else {
                    self.core.inbox.again().push_front(batch);
                }
                return;
            }
        }
        // Claims are sent again together with the work that has gathered by then.
        receipt::forget_claims(lanes, &mut batch);
        if !error.is_transient() && batch.len() > 1 {
            // A single bad part must not take the rest of the batch with it. It is found by halving the batch.
            let second = batch.split();
            let mut again = self.core.inbox.again();
            again.push_front(Box::new(second));
            again.push_front(batch);
            return;
        }
        let stopped = self.core.stage() >= Stage::Stopped;
        receipt::refuse(&mut batch, |deadline| stopped || !error.is_transient() || deadline <= now, &error);
        if !error.is_transient() {
            self.reconcile |= unstorable::mend(&self.core, &mut batch, &error);
        }
        for overdue in self.core.inbox.take_overdue(now) {
            // A caller that has stopped waiting needs no answer.
            drop(overdue.answer.send(Err(PushError::Storage(error.clone()))));
        }
        if !batch.is_empty() {
            self.core.inbox.again().push_back(batch);
        }
        self.back_off(ctx);
    }

    /// Records that storage has taken a commit.
    pub(super) fn recovered(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            self.core.inbox.set_trouble(None);
        }
    }

    fn back_off(&mut self, ctx: &mut Context<Self>) {
        if self.backing_off {
            return;
        }
        self.backing_off = true;
        let doublings = self.failures.clamp(1, 7) - 1;
        let pause = Duration::from_millis(10 << doublings).mul_f64(0.5 + rand::random::<f64>());
        let over = self.core.clock.sleep(pause).into_actor(self).map(|(), queue, ctx| {
            queue.backing_off = false;
            queue.turn(ctx);
        });
        ctx.spawn(over);
    }

    /// Gives back the claims that storage has for this node and that the node does not hold.
    pub(super) fn start_reconcile(&mut self, ctx: &mut Context<Self>) {
        self.reconciling = true;
        let mut keep = self.core.live_claims();
        for batch in &*self.core.inbox.again() {
            keep.extend(batch.commit.settle.iter().map(|s| (s.task_id, s.token)));
        }
        let core = Arc::clone(&self.core);
        let release = ReleaseClaims { node: core.node, keep, retire: false, now: core.clock.now() };
        let work = async move { core.persistence.ask(release).await };
        let done = work.into_actor(self).map(|result, queue: &mut Self, ctx: &mut Context<Self>| {
            queue.reconciling = false;
            match result {
                Ok(released) => {
                    queue.reconcile = false;
                    debug!(queue.core.log, "claims reconciled"; keys::COUNT => released.tasks);
                    let mut lanes = queue.core.lanes.lock();
                    // No commit was in flight: all commits of an earlier actor have returned.
                    count_outstanding(&queue.core, &mut lanes);
                    lanes.announce_all();
                    lanes.release(false);
                    queue.look_again(ctx);
                }
                Err(error) => {
                    debug!(queue.core.log, "claims not reconciled yet"; keys::ERROR => %error);
                    queue.failures = queue.failures.saturating_add(1);
                    queue.back_off(ctx);
                }
            }
            queue.turn(ctx);
        });
        ctx.spawn(done);
    }

    /// Reconciles once more after a while, as long as a commit whose answer was lost may still arrive. Claims that it
    /// makes then have no holder on this node.
    fn look_again(&mut self, ctx: &mut Context<Self>) {
        if self.looks_again || self.core.clock.elapsed() >= self.doubtful_until {
            return;
        }
        self.looks_again = true;
        let over = self.core.clock.sleep(LOOK).into_actor(self).map(|(), queue, ctx| {
            queue.looks_again = false;
            queue.reconcile = true;
            queue.turn(ctx);
        });
        ctx.spawn(over);
    }
}
