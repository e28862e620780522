//! Delivers receipts: applies the results of a commit to the lanes, and answers the callers that wait for them.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slog::warn;

use super::Pushed;
use super::batch::{Batch, ClaimFor};
use super::delivery::Delivery;
use super::inbox::Holder;
use super::lanes::{Lane, Lanes};
use super::push_result::{answer, of_group};
use super::ready::wake;
use super::{deferred, limited, uncertain};
use crate::backend::{BackendError, Claimed, Inserted, Insertion, Receipt, Settled, Settlement, Unreadable};
use crate::clock::Timestamp;
use crate::error::{DeliveryError, PushError};
use crate::logging::keys;
use crate::runtime::core::Core;
use crate::runtime::events::{Event, Fact, TaskFact};
use crate::task::{TaskSpec, TaskState};

/// Answers all callers that wait for a batch, and applies its receipt to the lanes.
pub(crate) fn deliver(core: &Arc<Core>, lanes: &mut Lanes, batch: Batch, receipt: Receipt) {
    let Batch { commit, settled, pushed, claims, uncertain, epoch, ends, limited_ends, tries, .. } = batch;
    let origin = deferred::Origin { uncertain, epoch, tries };
    let limits = commit.limits.as_deref();
    if receipt.freed_waiting {
        lanes.announce_all();
    }
    receipt.unreadable.iter().for_each(|unreadable| tell_buried(core, unreadable));
    let mut doubtful = Vec::new();
    let side_by_side = may_be_missed(core, &origin);
    for ((settlement, outcome), (spec, holder)) in commit.settle.into_iter().zip(receipt.settled).zip(settled) {
        if outcome == Settled::Busy {
            deferred::end(core, settlement, spec, holder, &origin);
            continue;
        }
        if let (TaskState::Pending, true, Some(lane)) = (settlement.state, side_by_side, lanes.get(&spec.queue)) {
            // A concurrent claim may have come back short because it did not see this task.
            lane.announce();
        }
        let makes_room = limits.is_some_and(|limits| limits.hold_room_of(&spec));
        let end = Ended::new(settlement, spec, holder);
        match outcome {
            Settled::Accepted => end.tell(core, Verdict::Taken),
            Settled::Cancelled => end.called_off().tell(core, Verdict::Taken),
            // A batch that was sent twice is fenced by its own first sending, if the first sending got through.
            Settled::Fenced if uncertain => doubtful.push(end),
            Settled::Fenced | Settled::Busy => end.tell(core, Verdict::Fenced),
        }
        lanes.made_room();
        if makes_room {
            limited::made_room(core, lanes);
        }
    }
    uncertain::resolve(core, doubtful);
    let mut inserted = receipt.inserted.into_iter();
    let mut fresh: Vec<(usize, Vec<Claimed>)> = Vec::new();
    let mut replies = Vec::with_capacity(pushed.len());
    for (group, reply) in commit.insert.into_iter().zip(pushed) {
        if let Some(Inserted::Busy) = inserted.as_slice().first() {
            inserted.by_ref().take(group.tasks.len()).for_each(drop);
            for task in group.tasks.iter().filter(|task| task.claim) {
                if let Some(lane) = lanes.get(&task.spec.queue) {
                    lane.give_room(1);
                    // A different task may have stayed unclaimed because this task took its place in the lane.
                    lane.announce();
                }
            }
            deferred::push(core, group, reply, &origin);
            continue;
        }
        let outcomes = group.tasks.iter().zip(&mut inserted);
        let answers = outcomes.map(|(insertion, outcome)| {
            take_inserted(core, lanes, insertion, outcome, &origin, &mut fresh, commit.token)
        });
        replies.push((reply, of_group(answers)));
    }
    // Wake the workers first: an answer wakes the caller that pushed, which would take a CPU core from the task.
    for (lane, tasks) in fresh {
        let lane = lanes.at(lane);
        if lane.paused {
            tasks.into_iter().for_each(|claimed| core.give_back(claimed, Holder::Worker));
        } else {
            wake(lane.ready.put(tasks, &core.clock));
        }
    }
    for (reply, answer) in replies {
        // A caller that has stopped waiting needs no answer.
        drop(reply.answer.send(answer));
    }
    for ((request, whom), tasks) in commit.claim.iter().zip(&claims).zip(receipt.claimed) {
        take_claimed(core, lanes, request.limit, *whom, tasks);
    }
    if limits.is_some() {
        limited::remember(core, lanes, &claims, &receipt.held_back, limited_ends);
    }
    if receipt.passed_over {
        lanes.pass_over(ends);
    }
}

/// The end of a claim, on its way back to the holder of the claim.
pub(super) struct Ended {
    pub(super) settlement: Settlement,
    spec: Arc<TaskSpec>,
    holder: Holder,
}

/// The outcome of the end of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Storage has written the end.
    Taken,
    /// The end is not written and never will be, because the claim no longer held.
    Fenced,
    /// This node cannot find out whether the end is written.
    Unknown,
}

impl Ended {
    pub(super) fn new(settlement: Settlement, spec: Arc<TaskSpec>, holder: Holder) -> Self {
        Self { settlement, spec, holder }
    }

    /// The end as storage wrote it: the task was to run again, but its cancellation had been requested.
    fn called_off(mut self) -> Self {
        self.settlement.state = TaskState::Cancelled;
        self
    }

    /// Publishes the outcome and answers the callers that wait for it. An unknown outcome is not published.
    pub(super) fn tell(self, core: &Core, verdict: Verdict) {
        let Self { settlement, spec, holder } = self;
        let task_id = settlement.task_id;
        match verdict {
            Verdict::Taken => {
                // Publish no event for a released claim, unless the release made the task terminal.
                if settlement.execution.is_some() || settlement.state.is_terminal() {
                    core.events.publish(|| Fact::settled(&settlement, &spec));
                }
                if settlement.state.is_terminal() {
                    core.awaited.ended(task_id);
                }
                due_when_stored(core, settlement.state, settlement.run_at);
                if let (TaskState::Dead, Some(firing)) = (settlement.state, spec.extras().firing) {
                    core.due_list.failed(firing.schedule_id, core.clock.now());
                }
            }
            Verdict::Fenced => {
                core.counters.fenced.fetch_add(1, Ordering::Relaxed);
                core.events.publish(|| Fact::fenced(&settlement, &spec));
                warn!(core.log, "fenced: the task is no longer held by this node, its outcome is not taken";
                    keys::TASK_ID => %task_id, keys::TYPE => spec.kind.as_str(), keys::STATE => %settlement.state);
            }
            // Callers that wait then read the task from storage themselves, and so does maintenance.
            Verdict::Unknown => {
                core.awaited.ended(task_id);
                due_when_stored(core, settlement.state, settlement.run_at);
            }
        }
        if let Holder::Delivery(Some(answer)) = holder {
            let outcome = match verdict {
                Verdict::Taken => Ok(()),
                Verdict::Fenced => Err(DeliveryError::Fenced(task_id)),
                Verdict::Unknown => Err(DeliveryError::Unknown(task_id)),
            };
            // A caller that has stopped waiting needs no answer.
            drop(answer.send(outcome));
        }
    }
}

/// Tells maintenance of a stored task that is to run at a later time. Called only after the commit, because an earlier
/// maintenance round would have found nothing.
fn due_when_stored(core: &Core, state: TaskState, run_at: Timestamp) {
    if matches!(state, TaskState::Scheduled | TaskState::Retrying) {
        core.due_at(run_at);
    }
}

/// Reports the end of a task whose row cannot be read. No worker will ever see the row, so its end is reported nowhere
/// else.
fn tell_buried(core: &Core, unreadable: &Unreadable) {
    let Unreadable { task_id, kind, queue, reason } = unreadable;
    let shown = task_id.map_or_else(|| "unreadable".to_owned(), |task_id| task_id.to_string());
    warn!(core.log, "task is dead: its row cannot be read; mend it and retry, or delete it";
        keys::TASK_ID => shown, keys::TYPE => kind.as_str(), keys::ERROR => reason);
    if let Some(task_id) = *task_id {
        let fact = Fact::bare(task_id, kind, queue, TaskState::Dead, core.clock.now());
        core.events.publish(|| Event::Dead(TaskFact { error: Some(reason.clone()), ..fact }));
        core.awaited.ended(task_id);
    }
}

/// True when a claim may have come back short because it did not see the tasks that this commit stores. This holds for
/// a concurrent claim, and for a claim made while this commit was deferred.
fn may_be_missed(core: &Core, origin: &deferred::Origin) -> bool {
    core.persistence.is_side_by_side() || origin.tries > 0
}

fn take_inserted(
    core: &Core,
    lanes: &mut Lanes,
    insertion: &Insertion,
    outcome: Inserted,
    origin: &deferred::Origin,
    fresh: &mut Vec<(usize, Vec<Claimed>)>,
    token: crate::task::ClaimToken,
) -> Result<Pushed, PushError> {
    let spec = &insertion.spec;
    let lane = lanes.index(&spec.queue);
    if let (Inserted::Claimed { seq }, Some(index)) = (&outcome, lane) {
        let claimed = Claimed { spec: Arc::clone(spec), seq: *seq, token, attempt: 0 };
        match fresh.iter_mut().find(|(at, _)| *at == index) {
            Some((_, tasks)) => tasks.push(claimed),
            None => fresh.push((index, vec![claimed])),
        }
        return answer(insertion, outcome);
    }
    if let (true, Some(index)) = (insertion.claim, lane) {
        lanes.at(index).give_room(1);
    }
    // After an uncertain first sending, a duplicate with the same id is the pushed task itself.
    let own = origin.uncertain && matches!(&outcome, Inserted::Duplicate { task_id, .. } if *task_id == spec.task_id);
    if own || matches!(outcome, Inserted::New { .. } | Inserted::Replaced { .. }) {
        if let (TaskState::Pending, Some(index), true) = (insertion.state, lane, may_be_missed(core, origin)) {
            // A concurrent claim may have come back short because it did not see this task.
            lanes.at(index).announce();
        }
        due_when_stored(core, insertion.state, spec.run_at);
        if let Some(expires_at) = spec.extras().expires_at {
            core.due_at(expires_at);
        }
    }
    if let Inserted::Replaced { state: TaskState::Pending, .. } = outcome {
        // The replaced task may run now, in its own queue. The push may have named a different queue.
        lanes.announce_all();
    }
    if let Inserted::New { state } = outcome {
        core.events.publish(|| Fact::pushed(state, spec, core.clock.now()));
    }
    let pushed = answer(insertion, outcome)?;
    Ok(Pushed { duplicate: pushed.duplicate && !own, ..pushed })
}

fn take_claimed(core: &Arc<Core>, lanes: &mut Lanes, limit: usize, whom: ClaimFor, tasks: Vec<Claimed>) {
    let got = tasks.len();
    match whom {
        ClaimFor::Workers { lane, mark } => {
            let lane = lanes.at(lane);
            lane.give_room(limit.saturating_sub(got));
            lane.work.came_back(got < limit, mark);
            if lane.paused {
                // These tasks were claimed before the pause, and storage answered late. No task begins in a paused
                // queue.
                tasks.into_iter().for_each(|claimed| core.give_back(claimed, Holder::Worker));
                return;
            }
            wake(lane.ready.put(tasks, &core.clock));
        }
        ClaimFor::Pullers { lane, mark } => {
            let lane = lanes.at(lane);
            lane.popping = lane.popping.saturating_sub(limit);
            lane.pull.came_back(got < limit, mark);
            for claimed in tasks {
                let mut delivery = Some(Delivery::new(claimed, Arc::clone(core)));
                // In a paused queue the delivery is dropped, and gives its task back.
                while !lane.paused
                    && let Some(held) = delivery.take()
                {
                    let Some(puller) = lane.pullers.next() else { break };
                    // If the puller has gone away, the next puller gets the delivery. With no puller left it is
                    // dropped, and gives its task back.
                    delivery = puller.answer.send(Ok(held)).err().and_then(Result::ok);
                }
            }
            if !lane.pull.is_set() {
                lane.turn_away_hasty();
            }
        }
    }
}

/// Answers the pushes that are given up, and takes them out of the batch. Their claims were removed before.
pub(crate) fn refuse(batch: &mut Batch, give_up: impl Fn(Duration) -> bool, error: &BackendError) {
    let groups = mem::take(&mut batch.commit.insert);
    let replies = mem::take(&mut batch.pushed);
    let error = if batch.uncertain { &in_doubt(error) } else { error };
    for (group, reply) in groups.into_iter().zip(replies) {
        if give_up(reply.deadline) {
            // A caller that has stopped waiting needs no answer.
            drop(reply.answer.send(Err(PushError::Storage(error.clone()))));
        } else {
            batch.commit.insert.push(group);
            batch.pushed.push(reply);
        }
    }
}

/// The error for a push whose earlier sending may have got through. It is [`BackendError::Unknown`], independent of
/// storage's answer to the last sending.
pub(super) fn in_doubt(error: &BackendError) -> BackendError {
    match error {
        BackendError::Unknown { .. } => error.clone(),
        _ => BackendError::Unknown {
            operation: "commit",
            message: format!("the answer to an earlier sending was lost, and then: {error}"),
        },
    }
}

/// Takes the claims out of a batch that failed. The lanes get their room back and ask storage again.
pub(crate) fn forget_claims(lanes: &mut Lanes, batch: &mut Batch) {
    let requests = mem::take(&mut batch.commit.claim);
    for (request, whom) in requests.iter().zip(mem::take(&mut batch.claims)) {
        match whom {
            ClaimFor::Workers { lane, .. } => lanes.at(lane).give_room(request.limit),
            ClaimFor::Pullers { lane, .. } => {
                let lane = lanes.at(lane);
                lane.popping = lane.popping.saturating_sub(request.limit);
            }
        }
    }
    for insertion in batch.commit.insert.iter_mut().flat_map(|group| &mut group.tasks) {
        if let (true, Some(lane)) = (mem::take(&mut insertion.claim), lanes.get(&insertion.spec.queue)) {
            lane.give_room(1);
        }
    }
    lanes.announce_all();
    // Pullers that do not want to wait are not kept waiting for storage.
    lanes.iter_mut().for_each(Lane::turn_away_hasty);
}

#[cfg(test)]
mod tests {
    use super::super::batch::compose;
    use super::super::fast_path::rules;
    use super::super::inbox::Gathered;
    use super::*;
    use crate::backend::{ClaimRequest, Commit};
    use crate::task::NewTask;
    use crate::{Board, Outcome};

    #[actix_rt::test]
    async fn what_was_claimed_before_a_pause_and_comes_back_after_it_does_not_begin() {
        let board = Board::builder().handler("x", |_, _| async { Ok(Outcome::done()) }).start().await.unwrap();
        let core = board.core();
        board.pause("default").await.unwrap();
        let task = board.push(NewTask::new("x", &())).await.unwrap().task_id;
        for pulled in [false, true] {
            // Like a commit that was sent before the pause, and hung.
            let mut commit = Commit::new(core.node, core.clock.now());
            commit.claim.push(ClaimRequest { queue: "default".into(), types: None, limit: 1 });
            let receipt = core.backend.commit(&commit).unwrap();
            assert_eq!(receipt.claimed[0].len(), 1);
            let mut lanes = core.lanes.lock();
            let lane = lanes.index("default").unwrap();
            let whom = if pulled {
                lanes.at(lane).popping += 1;
                ClaimFor::Pullers { lane, mark: lanes.at(lane).pull.mark() }
            } else {
                lanes.at(lane).outstanding += 1;
                ClaimFor::Workers { lane, mark: lanes.at(lane).work.mark() }
            };
            let mut batch = compose(&mut lanes, Gathered::default(), &rules(core, None));
            batch.commit = commit;
            batch.claims = vec![whom];
            deliver(core, &mut lanes, batch, receipt);
            lanes.release(false);
            core.poke_queue();
            let given_back = async {
                while board.get(task).await.unwrap().unwrap().state == TaskState::Running {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), given_back).await.expect("it is given back");
            let record = board.get(task).await.unwrap().unwrap();
            assert_eq!((record.state, record.attempt), (TaskState::Pending, 0));
        }
        board.stop().await;
    }
}
