//! Checks that no run begins in a confirmed pause.

use std::time::Duration;

use super::{Evidence, micros};

/// The time within which all nodes know of a pause. A node checks each second, on a machine that may be busy.
const KNOWN: Duration = Duration::from_secs(3);

pub(super) fn faults(evidence: &Evidence) -> Vec<String> {
    let mut faults = Vec::new();
    for pause in &evidence.ledger.pauses {
        for run in evidence.ledger.runs.iter().filter(|run| run.begin > pause.begin && run.begin < pause.end) {
            let queue = evidence.tasks.get(&run.id.task).map(|(task, _)| task.queue.to_string());
            if queue.as_ref() != Some(&pause.queue) {
                continue;
            }
            let drained = pause.drained - pause.begin;
            let known = if run.node == pause.node { drained.min(micros(KNOWN)) } else { micros(KNOWN) };
            // A node that is frozen or cut off does not learn of the pause. A task that it had already claimed begins
            // when the node continues.
            let excused = run.node != pause.node
                && evidence.windows.iter().any(|window| {
                    window.node.is_none_or(|node| node == run.node)
                        && window.begin <= run.begin
                        && window.end.saturating_add(micros(KNOWN)) >= pause.begin + known
                        && window.end.saturating_add(micros(KNOWN)) >= run.begin
                });
            if run.begin > pause.begin + known && !excused {
                let after = Duration::from_micros((run.begin - pause.begin).unsigned_abs());
                faults.push(format!("{run:?} began {after:.1?} into the pause {pause:?}"));
            }
        }
    }
    faults
}
