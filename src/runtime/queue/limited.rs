//! Effects of limits on the lanes: which tasks only storage can let start, and when to ask again.

use std::sync::Arc;
use std::time::Duration;

use super::batch::ClaimFor;
use super::lanes::Lanes;
use crate::backend::{HeldBack, Limit, Limits};
use crate::runtime::core::Core;

/// The shortest pause before storage is asked again for tasks that a rate holds back. So a high rate is used in small
/// batches and not task by task.
const SHORTEST: Duration = Duration::from_millis(10);
/// How long ago a task on a different node may have ended without notice to this node. Some databases send no notice of
/// ends.
const LONGEST: Duration = Duration::from_millis(500);

/// Applies `limits` from now on.
pub(super) fn obey(core: &Core, lanes: &mut Lanes, limits: Vec<Limit>) {
    let limits = Limits::new(limits);
    let before = std::mem::replace(&mut *core.limits.lock(), limits.clone());
    if limits != before {
        // Tasks that were held back may have room now.
        core.throttled.forget_all();
        lanes.announce_all();
    }
}

/// Handles the end of a run that was under a limit of running tasks.
pub(super) fn made_room(core: &Core, lanes: &mut Lanes) {
    for queue in lanes.made_room_under_limit() {
        core.throttled.forget(&queue);
    }
}

/// Records which lanes are to ask again, and when. `claims` are the claims of a commit that was composed when
/// `limited_ends` runs under limits had ended. `held_back` comes from the receipt of that commit.
pub(super) fn remember(
    core: &Arc<Core>,
    lanes: &mut Lanes,
    claims: &[ClaimFor],
    held_back: &[HeldBack],
    limited_ends: u64,
) {
    // Of two concurrent claims, the claim that was held back may have come back first. Its entry stays then, and costs
    // no more than a single useless claim.
    if !core.persistence.is_side_by_side() {
        claims.iter().for_each(|claim| core.throttled.forget(&lanes.at(claim.lane()).name));
    }
    let now = core.clock.now();
    for held in held_back {
        let Some(claim) = claims.get(held.request) else { continue };
        let index = claim.lane();
        let mut until = held.retry_at.map(|time| time.max(now + SHORTEST));
        if held.running {
            lanes.hold_back(index, limited_ends);
            let shared = core.backend.capabilities().shared;
            until = until.into_iter().chain(shared.then(|| now + LONGEST)).min();
        }
        if held.locked {
            // Alone, because this claim may wait again, and everything in its commit would wait with it.
            lanes.ask_alone(std::slice::from_ref(claim));
            until = Some(now + LONGEST);
        }
        core.throttle(&lanes.at(index).name, until);
    }
}
