//! Ids of tasks, claims and nodes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Uuid};

use crate::clock::Timestamp;

/// The id of a task: a UUID, of version 7 unless the pusher chose it.
///
/// Version 7 sorts by time of creation, which keeps the indexes of a database append-only.
///
/// ```
/// use callboard::{Clock, TaskId};
/// let id = TaskId::new(Clock::system().now());
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

impl TaskId {
    /// A new id. It sorts after every id that this process made before at the same or an earlier time.
    pub fn new(now: Timestamp) -> Self {
        static CONTEXT: std::sync::Mutex<ContextV7> = std::sync::Mutex::new(ContextV7::new());
        let micros = now.as_micros().max(0).unsigned_abs();
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(&CONTEXT, micros / 1_000_000, nanos)))
    }

    /// The id as a UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl From<Uuid> for TaskId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for TaskId {
    type Err = InvalidTaskId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidTaskId(text.chars().take(64).collect()))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error of a text that is not a task id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no task id; a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057 is expected")]
pub struct InvalidTaskId(String);

/// Proof that a node holds a task. The claim writes the token, and every later write must carry it.
///
/// The token is random for each commit, so that a claim of a dead node is never mistaken for a live claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimToken(i64);

impl ClaimToken {
    /// A new random token.
    pub fn random() -> Self {
        Self(rand::random::<i64>() & i64::MAX)
    }

    /// The token for a number read from storage.
    pub const fn from_i64(token: i64) -> Self {
        Self(token)
    }

    /// The number as stored; never negative.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

/// The id of a running process. Each start of the process is a new incarnation with a new id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Uuid);

impl NodeId {
    /// The id of a new incarnation.
    pub fn new(now: Timestamp) -> Self {
        Self(TaskId::new(now).0)
    }
}

/// Implements the common traits of an id that only wraps a UUID.
macro_rules! uuid_id {
    ($id:ident) => {
        impl From<uuid::Uuid> for $id {
            fn from(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
        }

        impl std::str::FromStr for $id {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                uuid::Uuid::parse_str(text).map(Self)
            }
        }

        impl std::fmt::Display for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl std::fmt::Debug for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use uuid_id;

uuid_id!(NodeId);
