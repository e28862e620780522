//! A round of the scheduler, for any caller: fires the schedules that are due.

use std::collections::HashSet;
use std::time::Duration;

use slog::warn;

use super::publish;
use super::silent::{Silent, silent};
use super::turn::{due, turn};
use crate::backend::{BackendError, Fired, ScheduleState, Turn};
use crate::clock::Timestamp;
use crate::logging::keys;
use crate::runtime::core::Core;
use crate::runtime::persistence::{FireSchedules, LookAhead, LookForSchedules, ReadSchedules};
use crate::schedule::ScheduleStatus;
use crate::task::ScheduleId;

/// The most silent schedules that are named.
const MOST_SILENT: usize = 10;

/// The most schedules that fire in a transaction. So the first runs need not wait for the last, and a node that freezes
/// in the middle holds up no more schedules than this.
const MOST_AT_ONCE: usize = 64;

/// The most such transactions in a round. The round then ends even if more is due, so that changes are looked for in
/// time and `health()` sees progress.
const MOST_TRANSACTIONS: usize = 4;

/// The pause before the next look at a schedule that a different node writes to.
const AFTER_ANOTHER: Duration = Duration::from_millis(20);

/// The pause before the retry of a schedule that storage refuses, while storage accepts other schedules.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// The shorter pause when storage refuses the whole batch. Other schedules then come first, and the refused schedules
/// are hardly at fault.
const AFTER_REFUSAL_OF_ALL: Duration = Duration::from_secs(1);

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoundEnd {
    /// More was due than a round may fire.
    MoreDue,
    /// Nothing was due any more. A schedule may have come due since.
    NothingDue,
    /// Due schedules may not fire at present.
    Held,
}

/// Fires the schedules that are due; safe to repeat at any time. If many nodes do so at once, each schedule is fired by
/// the node that is first.
pub(crate) async fn round(core: &Core) -> Result<RoundEnd, BackendError> {
    let _round = core.due_list.round.lock().await;
    under_way(core).await
}

async fn under_way(core: &Core) -> Result<RoundEnd, BackendError> {
    look(core).await?;
    for _ in 0..MOST_TRANSACTIONS {
        let now = core.clock.now();
        let due = core.due_list.due(now, MOST_AT_ONCE);
        if due.is_empty() {
            return Ok(RoundEnd::NothingDue);
        }
        // A node that may not claim may not fire either, because it does not know the changes of other nodes meanwhile.
        if !core.may_claim() {
            return Ok(RoundEnd::Held);
        }
        deal_with(core, now, &due).await?;
    }
    Ok(RoundEnd::MoreDue)
}

/// Learns of schedules that were saved, by any node or program.
async fn look(core: &Core) -> Result<(), BackendError> {
    let began = core.clock.elapsed();
    let Some(version) = core.due_list.look_from(began) else { return Ok(()) };
    let looked = match core.persistence.ask(LookForSchedules { version }).await {
        // The time for this counts as a part of the look.
        Ok(changes) if version == 0 => look_ahead(core, core.clock.now()).await.map(|silent| (changes, Some(silent))),
        outcome => outcome.map(|changes| (changes, None)),
    };
    match looked {
        Ok((changes, silent)) => {
            core.due_list.learn(version, changes, began, core.clock.elapsed());
            for silent in silent.into_iter().flat_map(|silent| core.due_list.learn_silent(silent)) {
                warn!(core.log, "a schedule is silent: its cursor lies ahead of the clock"; keys::SCHEDULE => %silent.name,
                    keys::UNTIL => %silent.until);
            }
            Ok(())
        }
        Err(error) => {
            core.due_list.look_again();
            Err(error)
        }
    }
}

/// Fires schedules in a transaction. If that fails for good, each schedule is fired alone, because a single schedule
/// may be at fault.
async fn deal_with(core: &Core, now: Timestamp, ids: &[ScheduleId]) -> Result<(), BackendError> {
    let refusal = match fire(core, now, ids).await {
        Err(error) if is_refusal(&error) => error,
        outcome => return outcome,
    };
    let mut refused = Vec::new();
    for id in ids {
        let alone = if ids.len() > 1 { fire(core, now, &[*id]).await } else { Err(refusal.clone()) };
        match alone {
            Err(error) if is_refusal(&error) => refused.push((*id, error)),
            outcome => outcome?,
        }
    }
    if refused.len() == ids.len() {
        refused.iter().for_each(|(id, _)| core.due_list.set(*id, Some(now + AFTER_REFUSAL_OF_ALL)));
        return Err(refusal);
    }
    for (id, error) in refused {
        warn!(core.log, "a schedule does not fire, storage refuses it; it is tried again in a minute";
            keys::SCHEDULE => %id, keys::ERROR => %error);
        core.due_list.set(id, Some(now + AFTER_REFUSAL));
    }
    Ok(())
}

/// True when the same request would fail again, while a part of it may not.
fn is_refusal(error: &BackendError) -> bool {
    !error.is_transient() || matches!(error, BackendError::Panicked { .. })
}

async fn fire(core: &Core, now: Timestamp, ids: &[ScheduleId]) -> Result<(), BackendError> {
    let states = core.persistence.ask(ReadSchedules { ids: ids.to_vec() }).await?;
    let there: HashSet<_> = states.iter().map(|state| state.record.schedule_id).collect();
    for id in ids.iter().filter(|id| !there.contains(id)) {
        core.due_list.set(*id, None);
    }
    let mut turns = Vec::new();
    for state in &states {
        match turn(core, now, state) {
            Some(turn) => turns.push(turn),
            None => core.due_list.set(state.record.schedule_id, due(&state.record)),
        }
    }
    if turns.is_empty() {
        return Ok(());
    }
    // In the same order on all nodes, so that two nodes do not wait for each other.
    turns.sort_unstable_by_key(|turn| turn.schedule_id);
    let outcomes = core.persistence.ask(FireSchedules { turns: turns.clone() }).await?;
    for (turn, outcome) in turns.iter().zip(outcomes) {
        take(core, now, &states, turn, &outcome);
    }
    Ok(())
}

/// Handles the outcome of a decision.
fn take(core: &Core, now: Timestamp, states: &[ScheduleState], turn: &Turn, outcome: &Fired) {
    match outcome {
        Fired::Done(made) => {
            if let Some(state) = states.iter().find(|state| state.record.schedule_id == turn.schedule_id) {
                publish::decided(core, state, turn, made);
            }
            let next = turn.next_run_at.filter(|_| turn.status == ScheduleStatus::Active);
            core.due_list.set(turn.schedule_id, next);
        }
        // A different node is writing the schedule, or was first. The row is read again, and shows the work that is
        // left.
        Fired::Lost if core.backend.capabilities().shared => {
            core.due_list.set(turn.schedule_id, Some(now + AFTER_ANOTHER));
        }
        Fired::Lost => {}
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::{TestBoard, at};
    use crate::{Board, NewTask, Outcome, Schedule, Trigger};

    #[actix_rt::test]
    async fn a_round_ends_and_looks_for_changes_while_more_is_due() {
        let hourly = || Trigger::every(Duration::from_secs(3_600)).unwrap();
        let schedule = |name: String| Schedule::new(name, hourly(), NewTask::new("work", &()));
        let mut builder = Board::builder().handler("work", |_, _| async { Ok(Outcome::done()) });
        let many = 2 * MOST_AT_ONCE * MOST_TRANSACTIONS;
        for number in 0..many {
            builder = builder.schedule(schedule(number.to_string()));
        }
        let board = TestBoard::start(builder).await.unwrap();
        board.settle().await;
        let core = board.board().core();
        let due = || core.due_list.due(at(3_600), 2 * many).len();
        // The actor waits while this lock is held.
        let _round = core.due_list.round.lock().await;
        board.clock().advance(Duration::from_secs(3_600));
        assert_eq!(due(), many);
        assert_eq!(under_way(core).await.unwrap(), RoundEnd::MoreDue);
        assert_eq!(due(), many / 2);
        let last = core.due_list.due(at(3_600), many).pop().unwrap();
        let name = core.backend.schedules(&[last]).unwrap().remove(0).record.name;
        board.schedules().pause(name.clone()).await.unwrap();
        assert_eq!(under_way(core).await.unwrap(), RoundEnd::MoreDue);
        assert_eq!(due(), 0);
        assert_eq!(board.schedules().firings(name, None, 10).await.unwrap(), [], "it was not due any more");
        board.leave_rest();
    }
}

/// Looks in storage for schedules that are silent.
async fn look_ahead(core: &Core, now: Timestamp) -> Result<Vec<Silent>, BackendError> {
    let ids = core.persistence.ask(LookAhead { now, limit: MOST_SILENT }).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let states = core.persistence.ask(ReadSchedules { ids }).await?;
    Ok(states.iter().filter(|state| state.fault.is_none()).filter_map(|state| silent(&state.record, now)).collect())
}
