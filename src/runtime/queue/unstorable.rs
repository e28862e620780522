//! Unstorable parts: parts of a batch that storage refuses for good even when they come alone.
//!
//! A batch with a part that storage cannot take is cut into halves until that part is alone. A push is answered with
//! the error. The end of a run cannot be answered with an error, because its task must not stay `running` for ever. It
//! is stored once more without the handler's result and error, with the reason in their place. A task that had
//! succeeded is then dead. A claim is looked for before anything else: a commit that had claims is sent again without
//! them, and each claim is sent alone.

use std::sync::Arc;
use std::time::Duration;

use slog::error;

use super::batch::{Batch, ClaimFor};
use super::lanes::Lanes;
use super::receipt::{Ended, Verdict};
use crate::backend::{BackendError, Settlement};
use crate::logging::keys;
use crate::runtime::core::Core;
use crate::task::{ExecutionStatus, TaskState};

/// The beginning of the error of a task whose end could not be stored as it was.
const UNSTORABLE: &str = "the end of the run could not be stored";

/// The pause before storage is asked again for a queue that it refused to look into.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Gives up the claim of a batch that holds nothing else. Pullers get the error when storage refuses the claim for
/// good. The queue is asked for again after a while.
pub(super) fn give_up_claim(core: &Core, lanes: &mut Lanes, batch: &mut Batch, error: &BackendError) {
    let claims = std::mem::take(&mut batch.claims).into_iter().zip(std::mem::take(&mut batch.commit.claim));
    for (whom, request) in claims {
        error!(core.log, "storage refuses to look for tasks in a queue; it is asked again after a while";
            keys::QUEUE => request.queue.as_str(), keys::ERROR => %error);
        match whom {
            ClaimFor::Workers { lane, mark } => {
                let lane = lanes.at(lane);
                lane.give_room(request.limit);
                lane.work.was_refused(mark);
            }
            ClaimFor::Pullers { lane, mark } => {
                let lane = lanes.at(lane);
                lane.popping = lane.popping.saturating_sub(request.limit);
                lane.pull.was_refused(mark);
                while !error.is_transient()
                    && let Some(puller) = lane.pullers.next()
                {
                    // A caller that has stopped waiting needs no answer.
                    drop(puller.answer.send(Err(error.clone())));
                }
                lane.turn_away_hasty();
            }
        }
        core.throttle(&request.queue, Some(core.clock.now() + ASK_AGAIN));
    }
}

/// Turns a batch with a single part into a batch that storage may take. True when a claim was given up that storage
/// still has.
pub(super) fn mend(core: &Arc<Core>, batch: &mut Batch, error: &BackendError) -> bool {
    batch.commit.progress.clear();
    // Kept as a flag and not read from the text of the error, because a handler may write the same text.
    let stripped = std::mem::replace(&mut batch.stripped, true);
    let mut given_up = false;
    let ends = std::mem::take(&mut batch.commit.settle).into_iter().zip(std::mem::take(&mut batch.settled));
    for (mut settlement, (spec, holder)) in ends {
        error!(core.log, "storage refuses the end of a run"; keys::TASK_ID => %settlement.task_id,
            keys::TYPE => spec.kind.as_str(), keys::STATE => %settlement.state, keys::ERROR => %error);
        if !stripped && strip(&mut settlement, error) {
            batch.commit.settle.push(settlement);
            batch.settled.push((spec, holder));
        } else {
            // Nothing more can be taken away. The claim is given back, and the task runs again.
            given_up = true;
            Ended::new(settlement, spec, holder).tell(core, Verdict::Unknown);
        }
    }
    given_up
}

/// Removes the handler's result and error from the end of its run; false when the end has no such data.
fn strip(settlement: &mut Settlement, error: &BackendError) -> bool {
    let Some(end) = &mut settlement.execution else { return false };
    end.result = None;
    end.error = Some(format!("{UNSTORABLE}: {error}").into());
    if settlement.state == TaskState::Completed {
        settlement.state = TaskState::Dead;
        end.status = ExecutionStatus::Failed;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ExecutionEnd;
    use crate::clock::Timestamp;
    use crate::task::{ClaimToken, TaskId};

    #[test]
    fn what_a_handler_says_is_taken_away_whatever_it_is() {
        let at = Timestamp::from_micros(1);
        for error in [Some(UNSTORABLE.into()), Some("no".into()), None] {
            let (status, result) = (ExecutionStatus::Success, Some("1".into()));
            let end = ExecutionEnd { attempt: 1, status, started_at: at, finished_at: at, result, error };
            let mut settlement = Settlement {
                seq: 1,
                task_id: TaskId::new(at),
                token: ClaimToken::from_i64(7),
                state: TaskState::Completed,
                run_at: at,
                attempt: 1,
                execution: Some(end),
            };
            let refused = BackendError::Permanent { operation: "commit", message: "too long".into() };
            assert!(strip(&mut settlement, &refused));
            let end = settlement.execution.unwrap();
            assert_eq!((settlement.state, end.status), (TaskState::Dead, ExecutionStatus::Failed));
            assert!(end.result.is_none() && end.error.is_some_and(|error| error.contains("too long")));
        }
    }
}
