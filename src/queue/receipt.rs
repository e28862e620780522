//! What a receipt means for everyone who waits for it.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slog::warn;

use super::Pushed;
use super::batch::{Batch, ClaimFor};
use super::bench::wake;
use super::delivery::Delivery;
use super::desk::{Holder, PushReply};
use super::lanes::Lanes;
use crate::backend::{BackendError, Claimed, InsertGroup, Inserted, Insertion, Receipt, Settled, Settlement};
use crate::core::Core;
use crate::error::{DeliveryError, PushError};
use crate::events::Fact;
use crate::logging::keys;
use crate::task::{TaskSpec, TaskState};

/// Tells everyone what became of a batch.
pub(crate) fn deliver(core: &Arc<Core>, lanes: &mut Lanes, batch: Batch, receipt: Receipt) {
    let Batch { commit, settled, pushed, claims, uncertain } = batch;
    if receipt.freed_waiting {
        lanes.announce_all();
    }
    for ((settlement, outcome), (spec, holder)) in commit.settle.iter().zip(&receipt.settled).zip(settled) {
        tell_settled(core, settlement, *outcome, &spec, holder, uncertain);
        lanes.made_room();
    }
    let mut inserted = receipt.inserted.into_iter();
    let mut fresh: Vec<(usize, Vec<Claimed>)> = Vec::new();
    for (group, reply) in commit.insert.into_iter().zip(pushed) {
        let mut answers = Vec::with_capacity(group.tasks.len());
        let mut refused = None;
        for (insertion, outcome) in group.tasks.into_iter().zip(&mut inserted) {
            let answer = take_inserted(core, lanes, &insertion, outcome, uncertain, &mut fresh, commit.token);
            match answer {
                Ok(pushed) => answers.push(pushed),
                // The one that holds the key says more than the others of its group, which were refused with it.
                Err(error @ PushError::UniqueKeyHeld { .. }) => refused = Some(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let answer = refused.map_or(Ok(answers), Err);
        // Whoever no longer listens needs no answer.
        drop(reply.answer.send(answer));
    }
    for (lane, tasks) in fresh {
        wake(lanes.at(lane).bench.put(tasks));
    }
    for ((request, whom), tasks) in commit.claim.iter().zip(claims).zip(receipt.claimed) {
        take_claimed(core, lanes, request.limit, whom, tasks);
    }
    if receipt.passed_over {
        lanes.pass_over();
    }
}

fn tell_settled(
    core: &Core,
    settlement: &Settlement,
    outcome: Settled,
    spec: &Arc<TaskSpec>,
    holder: Holder,
    uncertain: bool,
) {
    let task_id = settlement.task_id;
    // A batch that was sent twice fences itself when its first sending had got through.
    let accepted = outcome == Settled::Accepted || uncertain;
    if accepted {
        if settlement.execution.is_some() {
            core.events.publish(|| Fact::settled(settlement, spec));
        }
        if settlement.state.is_terminal() {
            core.awaited.ended(task_id);
        }
    } else {
        core.counters.fenced.fetch_add(1, Ordering::Relaxed);
        core.events.publish(|| Fact::fenced(settlement, spec));
        warn!(core.log, "fenced: the task is no longer held by this node, its outcome is not taken";
            keys::TASK_ID => %task_id, keys::TYPE => spec.kind.as_str(), keys::STATE => %settlement.state);
    }
    if let Holder::Delivery(Some(answer)) = holder {
        let answer_with = if accepted { Ok(()) } else { Err(DeliveryError::Fenced(task_id)) };
        // Whoever no longer listens needs no answer.
        drop(answer.send(answer_with));
    }
}

fn take_inserted(
    core: &Core,
    lanes: &mut Lanes,
    insertion: &Insertion,
    outcome: Inserted,
    uncertain: bool,
    fresh: &mut Vec<(usize, Vec<Claimed>)>,
    token: crate::task::ClaimToken,
) -> Result<Pushed, PushError> {
    let spec = &insertion.spec;
    let lane = lanes.index(&spec.queue);
    if let (Inserted::New { seq }, true, Some(index)) = (&outcome, insertion.claim, lane) {
        let claimed = Claimed { spec: Arc::clone(spec), seq: *seq, token, attempt: 0 };
        match fresh.iter_mut().find(|(at, _)| *at == index) {
            Some((_, tasks)) => tasks.push(claimed),
            None => fresh.push((index, vec![claimed])),
        }
        return Ok(Pushed { task_id: spec.task_id, duplicate: false, state: TaskState::Running });
    }
    if let (true, Some(index)) = (insertion.claim, lane) {
        lanes.at(index).give_room(1);
    }
    match outcome {
        Inserted::New { .. } => {
            core.events.publish(|| Fact::pushed(insertion.state, spec, core.clock.now()));
            if insertion.state == TaskState::Scheduled {
                core.due_at(spec.run_at);
            }
            Ok(Pushed { task_id: spec.task_id, duplicate: false, state: insertion.state })
        }
        Inserted::Duplicate { task_id, state } => {
            // After an uncertain first sending the task that is there is the one that was pushed.
            let own = uncertain && task_id == spec.task_id;
            Ok(Pushed { task_id, duplicate: !own, state })
        }
        Inserted::Replaced { task_id, state } => Ok(Pushed { task_id, duplicate: true, state }),
        Inserted::Refused { existing } => {
            let key = spec.extras().unique.as_ref().map(|unique| unique.key.clone()).unwrap_or_default();
            Err(PushError::UniqueKeyHeld { key, existing })
        }
        Inserted::GroupRefused => {
            Err(PushError::Invalid("another task of the same push_many was refused; nothing was stored".into()))
        }
    }
}

fn take_claimed(core: &Arc<Core>, lanes: &mut Lanes, limit: usize, whom: ClaimFor, tasks: Vec<Claimed>) {
    let got = tasks.len();
    match whom {
        ClaimFor::Workers { lane, mark } => {
            let lane = lanes.at(lane);
            lane.give_room(limit.saturating_sub(got));
            if got < limit {
                lane.work.came_back_short(mark);
            }
            wake(lane.bench.put(tasks));
        }
        ClaimFor::Poppers { lane, mark } => {
            let lane = lanes.at(lane);
            lane.popping = lane.popping.saturating_sub(limit);
            if got < limit {
                lane.pull.came_back_short(mark);
            }
            for claimed in tasks {
                let mut delivery = Some(Delivery::new(claimed, Arc::clone(core)));
                while let Some(held) = delivery.take() {
                    let Some(popper) = lane.poppers.pop_front() else { break };
                    // Gone: the next one gets it; dropped at the end, it gives itself back.
                    delivery = popper.answer.send(held).err();
                }
            }
            if !lane.pull.is_set() {
                lane.turn_away_hasty();
            }
        }
    }
}

/// Answers the pushes that are given up, and takes them out of the batch.
pub(crate) fn refuse(lanes: &mut Lanes, batch: &mut Batch, give_up: impl Fn(Duration) -> bool, error: &BackendError) {
    let groups = mem::take(&mut batch.commit.insert);
    let replies = mem::take(&mut batch.pushed);
    for (group, reply) in groups.into_iter().zip(replies) {
        if give_up(reply.deadline) {
            give_up_group(lanes, &group, reply, error);
        } else {
            batch.commit.insert.push(group);
            batch.pushed.push(reply);
        }
    }
}

fn give_up_group(lanes: &mut Lanes, group: &InsertGroup, reply: PushReply, error: &BackendError) {
    unclaim(lanes, group);
    // Whoever no longer listens needs no answer.
    drop(reply.answer.send(Err(PushError::Storage(error.clone()))));
}

fn unclaim(lanes: &mut Lanes, group: &InsertGroup) {
    for insertion in group.tasks.iter().filter(|insertion| insertion.claim) {
        if let Some(lane) = lanes.get(&insertion.spec.queue) {
            lane.give_room(1);
        }
    }
}

/// Takes the claims out of a batch that failed: the lanes have their room back and ask again.
pub(crate) fn forget_claims(lanes: &mut Lanes, batch: &mut Batch) {
    let requests = mem::take(&mut batch.commit.claim);
    for (request, whom) in requests.iter().zip(mem::take(&mut batch.claims)) {
        match whom {
            ClaimFor::Workers { lane, .. } => lanes.at(lane).give_room(request.limit),
            ClaimFor::Poppers { lane, .. } => {
                let lane = lanes.at(lane);
                lane.popping = lane.popping.saturating_sub(request.limit);
            }
        }
    }
    for group in &mut batch.commit.insert {
        unclaim(lanes, group);
        for insertion in &mut group.tasks {
            insertion.claim = false;
        }
    }
    lanes.announce_all();
}

/// Adds a second failed batch to the one that is to be sent again.
pub(crate) fn join(first: &mut Batch, second: Batch) {
    first.commit.settle.extend(second.commit.settle);
    first.settled.extend(second.settled);
    first.commit.insert.extend(second.commit.insert);
    first.pushed.extend(second.pushed);
    first.commit.progress.extend(second.commit.progress);
    first.uncertain |= second.uncertain;
}
