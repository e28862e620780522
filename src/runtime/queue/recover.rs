//! The state with which a queue actor starts when an earlier actor has died.

use std::collections::HashSet;
use std::sync::Arc;

use super::lanes::Lanes;
use crate::runtime::core::Core;

/// The lanes of a queue actor that starts. They keep the places that they had under the dead actor, because batches in
/// flight name lanes by place.
pub(super) fn lanes(core: &Core, old: &Lanes) -> Lanes {
    let queues = core.config.queues.iter();
    let queues = queues.map(|(name, n)| (name.clone(), *n, Arc::clone(&core.ready_queues[name])));
    let mut lanes = Lanes::new(queues, core.settings.lock().clone());
    lanes.take_places_of(old);
    lanes.in_flight = core.persistence.commits_in_flight();
    // Commits that the dead actor has sent are waited for as well.
    lanes.epoch = Arc::clone(&old.epoch);
    count_outstanding(core, &mut lanes);
    lanes
}

/// Counts the running tasks after a restart. The workers and the ready queues know them, and the dead actor does not.
pub(super) fn count_outstanding(core: &Core, lanes: &mut Lanes) {
    for lane in lanes.iter_mut() {
        // Read in the order in which a claim moves, and by id, so that a claim on its way counts once.
        let mut claims: HashSet<_> = lane.ready.waiting().into_iter().collect();
        claims.extend(core.workers.claims(&lane.name));
        core.inbox.peek(|g| {
            let of_lane = g.settles.iter().filter(|s| s.spec.queue == lane.name && s.holder.is_worker());
            claims.extend(of_lane.map(|s| (s.settlement.task_id, s.settlement.token)));
        });
        lane.outstanding = claims.len();
    }
}
