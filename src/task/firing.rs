//! The link from a task to the schedule that made it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{TaskId, uuid_id};
use crate::clock::Timestamp;

/// The permanent id of a schedule, which stays when the schedule's name changes: a UUID of version 7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleId(Uuid);

impl ScheduleId {
    /// A new id.
    pub fn new(now: Timestamp) -> Self {
        Self(*TaskId::new(now).as_uuid())
    }
}

uuid_id!(ScheduleId);

/// The schedule and the nominal time that a task was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FiringKey {
    /// The schedule's id.
    pub schedule_id: ScheduleId,
    /// The nominal time of the firing.
    pub nominal_at: Timestamp,
}
