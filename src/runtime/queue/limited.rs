//! What limits mean for the lanes: which tasks only storage can let start, and when to ask again.

use std::sync::Arc;
use std::time::Duration;

use super::batch::ClaimFor;
use super::lanes::Lanes;
use crate::backend::{HeldBack, Limit, Limits};
use crate::runtime::core::Core;

/// Storage is asked again at most so often for what a rate holds back, so that a great rate is used in small batches and
/// not task by task.
const SHORTEST: Duration = Duration::from_millis(10);
/// How long a task of another node may have ended without anybody here being told. Some databases tell of no ends.
const LONGEST: Duration = Duration::from_millis(500);

/// From now on these limits hold.
pub(super) fn obey(core: &Core, lanes: &mut Lanes, limits: Vec<Limit>) {
    let limits = Limits::new(limits);
    let before = std::mem::replace(&mut *core.limits.lock(), limits.clone());
    if limits != before {
        // What was held back may have room now.
        core.throttled.forget_all();
        lanes.announce_all();
    }
}

/// A run has ended that was under a limit of running tasks.
pub(super) fn made_room(core: &Core, lanes: &mut Lanes) {
    for queue in lanes.made_room_under_limit() {
        core.throttled.forget(&queue);
    }
}

/// Remembers which lanes are to ask again, and when. `claims` are those of a commit that was composed when
/// `limited_ends` runs under limits had ended, and `held_back` what their receipt says.
pub(super) fn remember(
    core: &Arc<Core>,
    lanes: &mut Lanes,
    claims: &[ClaimFor],
    held_back: &[HeldBack],
    limited_ends: u64,
) {
    // Of two claims side by side the one that was held back may have come back first: what it said stays then, and costs
    // no more than one claim for nothing.
    if !core.persistence.is_side_by_side() {
        claims.iter().for_each(|claim| core.throttled.forget(&lanes.at(claim.lane()).name));
    }
    let now = core.clock.now();
    for held in held_back {
        let Some(index) = claims.get(held.request).map(|claim| claim.lane()) else { continue };
        let mut until = held.retry_at.map(|time| time.max(now + SHORTEST));
        if held.running {
            lanes.hold_back(index, limited_ends);
            let shared = core.backend.capabilities().shared;
            until = until.into_iter().chain(shared.then(|| now + LONGEST)).min();
        }
        core.throttle(&lanes.at(index).name, until);
    }
}
