//! Uncertain ends: ends of runs that storage fenced when they were sent for the second time.
//!
//! When the answer to a commit is lost, the commit is sent again. Its settlements are then fenced if the first sending
//! got through, and also if the claim was really lost. The receipt is the same in both cases. The stored executions
//! tell the two cases apart: an end that was taken has left its execution, under the token of its claim. This costs a
//! further read for each end, and only after a lost answer.

use std::sync::Arc;

use slog::warn;

use super::receipt::{Ended, Verdict};
use crate::backend::Settlement;
use crate::logging::keys;
use crate::runtime::core::Core;
use crate::runtime::persistence::ListExecutions;
use crate::task::Execution;

/// Finds out the outcome of these ends, and reports it.
///
/// This runs beside the queue actor, which goes on meanwhile. If the board stops before it is done, the ends are
/// dropped. Callers that settled a delivery then learn that the outcome is unknown. Callers that wait for a task are
/// told by maintenance.
pub(super) fn resolve(core: &Arc<Core>, ends: Vec<Ended>) {
    let (Some(home), false) = (core.home.get(), ends.is_empty()) else { return };
    let core = Arc::clone(core);
    home.spawn(async move {
        for end in ends {
            let verdict = look(&core, &end.settlement).await;
            end.tell(&core, verdict);
        }
    });
}

async fn look(core: &Core, settlement: &Settlement) -> Verdict {
    let task_id = settlement.task_id;
    match core.persistence.ask(ListExecutions { task_id }).await {
        Ok(executions) if is_written(settlement, &executions) => Verdict::Taken,
        Ok(_) => Verdict::Fenced,
        Err(error) => {
            warn!(core.log, "whether the outcome of a run was taken cannot be found out, so nothing is told of it";
                keys::TASK_ID => %task_id, keys::ERROR => %error);
            Verdict::Unknown
        }
    }
}

/// True if this settlement was written. Matching the token is not enough: a rescue of a run that was taken for lost
/// writes an execution under the same token, so status and finish time must match too. A claim that is given back
/// leaves no execution, and its outcome is not reported in either case.
pub(crate) fn is_written(settlement: &Settlement, executions: &[Execution]) -> bool {
    let Some(end) = &settlement.execution else { return true };
    executions.iter().any(|execution| {
        execution.execution_id == settlement.token.as_i64()
            && execution.status == end.status
            && execution.finished_at == Some(end.finished_at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ExecutionEnd;
    use crate::clock::Timestamp;
    use crate::task::{ClaimToken, ExecutionStatus, NodeId, TaskId, TaskState};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn settlement() -> Settlement {
        let (status, finished_at) = (ExecutionStatus::Success, at(2));
        let end = ExecutionEnd { attempt: 1, status, started_at: at(1), finished_at, result: None, error: None };
        Settlement {
            seq: 1,
            task_id: TaskId::new(at(0)),
            token: ClaimToken::from_i64(7),
            state: TaskState::Completed,
            run_at: at(0),
            attempt: 1,
            execution: Some(end),
        }
    }

    fn execution(execution_id: i64, status: ExecutionStatus, finished_at: Option<Timestamp>) -> Execution {
        Execution {
            execution_id,
            task_id: TaskId::new(at(0)),
            attempt: 1,
            status,
            node: NodeId::new(at(0)),
            started_at: at(1),
            finished_at,
            result: None,
            error_message: None,
        }
    }

    #[test]
    fn only_the_very_same_end_proves_that_it_was_taken() {
        let settlement = settlement();
        let success = ExecutionStatus::Success;
        for (written, execution) in [
            (true, execution(7, success, Some(at(2)))),
            (false, execution(8, success, Some(at(2)))),
            // A different node took the run for lost, and wrote that down.
            (false, execution(7, ExecutionStatus::Lost, Some(at(2)))),
            (false, execution(7, success, Some(at(3)))),
            (false, execution(7, ExecutionStatus::Running, None)),
        ] {
            assert_eq!(is_written(&settlement, std::slice::from_ref(&execution)), written, "{execution:?}");
        }
        assert!(!is_written(&settlement, &[]));
        assert!(is_written(&Settlement { execution: None, ..settlement }, &[]), "nothing to prove, nothing to tell");
    }
}
