//! Deferred pushes and ends: storage did not take them because a different transaction has locked their key or task.
//! Each is sent again after a pause, in a batch of its own, so that nothing else waits for it.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::Queue;
use super::batch::Batch;
use super::epoch::Epoch;
use super::inbox::{Holder, PushReply};
use super::push_result::key_is_busy;
use super::receipt::in_doubt;
use crate::backend::{Commit, InsertGroup, Settlement};
use crate::error::PushError;
use crate::runtime::core::Core;
use crate::task::TaskSpec;

/// The first pause. Most transactions are over by then.
const SHORTEST: Duration = Duration::from_millis(2);
/// The longest pause while few batches are deferred. A batch is sent at most this long after the other transaction has
/// ended.
const LONGEST: Duration = Duration::from_millis(100);
/// With each [`FEW`] more batches the longest pause grows by [`LONGEST`]. Every batch costs a commit of its own, so many
/// batches would otherwise take most of the commits.
const FEW: usize = 8;
/// The longest pause, however many batches are deferred.
const LIMIT: Duration = Duration::from_secs(1);

/// The batch from which a push or an end was deferred.
pub(super) struct Origin {
    pub(super) uncertain: bool,
    pub(super) epoch: Arc<Epoch>,
    pub(super) tries: u32,
}

/// Sends a group of pushed tasks again later, or answers that its deadline has passed.
pub(super) fn push(core: &Core, mut group: InsertGroup, reply: PushReply, origin: &Origin) {
    if reply.deadline <= core.clock.elapsed() {
        // A caller that has stopped waiting needs no answer.
        let error = if origin.uncertain { in_doubt(&key_is_busy()) } else { key_is_busy() };
        drop(reply.answer.send(Err(PushError::Storage(error))));
        return;
    }
    group.tasks.iter_mut().for_each(|task| task.claim = false);
    let mut batch = blank(core, origin);
    batch.commit.insert.push(group);
    batch.pushed.push(reply);
    core.inbox.send_again(Box::new(batch));
}

/// Sends the end of a run again later.
pub(super) fn end(core: &Core, settlement: Settlement, spec: Arc<TaskSpec>, holder: Holder, origin: &Origin) {
    let mut batch = blank(core, origin);
    batch.commit.limits = core.limits.lock().clone();
    batch.commit.frees = batch.commit.limits.as_ref().is_some_and(|limits| limits.hold_room_of(&spec));
    batch.commit.settle.push(settlement);
    batch.settled.push((spec, holder));
    core.inbox.send_again(Box::new(batch));
}

fn blank(core: &Core, &Origin { uncertain, ref epoch, tries }: &Origin) -> Batch {
    let longest = LONGEST.saturating_mul(1 + u32::try_from(core.inbox.again().len() / FEW).unwrap_or(u32::MAX));
    let pause = SHORTEST.saturating_mul(1 << tries.min(10)).min(longest.min(LIMIT));
    // The pause is random, so that two batches that met do not meet again.
    let pause = pause.mul_f64(rand::random_range(0.5..1.0));
    let (tries, not_before) = (tries.saturating_add(1), core.clock.elapsed() + pause);
    let commit = Commit { again: true, ..Commit::new(core.node, core.clock.now()) };
    Batch { uncertain, tries, not_before, ..Batch::blank(commit, epoch) }
}

impl Queue {
    /// The next batch that is to be sent again and whose time has come. Without `with_deferred`, deferred batches are left
    /// out.
    pub(super) fn next_again(&mut self, with_deferred: bool, ctx: &mut Context<Self>) -> Option<Box<Batch>> {
        let now = self.core.clock.elapsed();
        let mut again = self.core.inbox.again();
        if let Some(place) =
            again.iter().position(|batch| batch.not_before <= now && (with_deferred || batch.tries == 0))
        {
            return again.remove(place);
        }
        if !with_deferred {
            // A deferred batch gets its turn next, or with the receipt of the batch that goes before it.
            return None;
        }
        let first = again.iter().map(|batch| batch.not_before).min();
        drop(again);
        if let Some(first) = first.filter(|first| self.asks_at.is_none_or(|at| *first < at)) {
            self.asks_at = Some(first);
            let over =
                self.core.clock.sleep(first.saturating_sub(now)).into_actor(self).map(move |(), queue, ctx| {
                    if queue.asks_at == Some(first) {
                        queue.asks_at = None;
                    }
                    queue.turn(ctx);
                });
            ctx.spawn(over);
        }
        None
    }
}
