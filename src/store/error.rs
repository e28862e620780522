//! Errors of the public store.

/// The reason why a request to the public store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The key is empty.
    #[error("the key is empty; give it at least 1 byte")]
    EmptyKey,
    /// The key, or the prefix to watch, is too long.
    #[error("key {key:?} takes {bytes} bytes, more than the {max} that `max_key_bytes` allows; shorten it")]
    KeyTooLong {
        /// The first characters of the key.
        key: String,
        /// The length in bytes.
        bytes: usize,
        /// The greatest length allowed, in bytes.
        max: usize,
    },
    /// The value is too long.
    #[error(
        "the value of {key:?} takes {bytes} bytes as JSON, more than the {max} that `max_value_bytes` allows; \
         store it elsewhere and keep a reference to it here"
    )]
    ValueTooLong {
        /// The key.
        key: String,
        /// The length of the value as JSON text, in bytes.
        bytes: usize,
        /// The greatest length allowed, in bytes.
        max: usize,
    },
    /// The value cannot be written as JSON that can be read again.
    #[error("the value cannot be kept as JSON: {0}")]
    Encode(String),
    /// The value exists, but it cannot be read as the requested type.
    #[error("the value of {key:?} cannot be read as the type asked for: {reason}; read it as a JSON value to see it")]
    Decode {
        /// The key.
        key: String,
        /// The first mismatch with the type.
        reason: String,
    },
    /// A time to live of zero.
    #[error("the time to live of {key:?} is 0; leave it out to keep the value for ever, or delete the key")]
    ZeroTtl {
        /// The key.
        key: String,
    },
    /// The store holds the greatest number of keys that it may.
    #[error("the store holds {max} keys, as many as `max_entries` allows; delete some or give them a time to live")]
    TooManyEntries {
        /// The greatest number of keys.
        max: usize,
    },
    /// The store has no room for the bytes of this write.
    #[error(
        "{bytes} more bytes would exceed the {max} that `max_total_bytes` allows; delete keys or raise the limit"
    )]
    TooManyBytes {
        /// The bytes that the write would add.
        bytes: usize,
        /// The greatest number of bytes.
        max: usize,
    },
    /// The store has the greatest number of watches that it may.
    #[error("there are {max} watches, as many as `max_watches` allows; unwatch some, or watch a prefix instead")]
    TooManyWatches {
        /// The greatest number of watches.
        max: usize,
    },
    /// Only a whole number can be incremented.
    #[error("the value of {key:?} is no whole number of 64 bits, so it cannot be incremented; set it to one first")]
    NotAnInteger {
        /// The key.
        key: String,
    },
    /// The sum does not fit in 64 bits; the value stays as it was.
    #[error("{value} + {by} does not fit in 64 bits; {key:?} stays as it was, set it to a smaller number first")]
    Overflow {
        /// The key.
        key: String,
        /// The current value.
        value: i64,
        /// The number to add.
        by: i64,
    },
    /// The store is not running. The request either had no effect or may be repeated without harm.
    #[error("the store is not answering; see `health()`, and try again")]
    NotAnswering,
    /// The board of the store has stopped, and the contents of the store are lost.
    #[error("the store is closed: its board has stopped; start a board to have one")]
    Closed,
    /// The store stopped before it answered. Whether the request took effect is unknown.
    #[error("the store stopped before it answered; read {key:?} to see whether the change was made")]
    Unknown {
        /// The key.
        key: String,
    },
}

impl StoreError {
    /// True when the same request may succeed later without any change to it.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::NotAnswering)
    }
}

/// The beginning of a key, short enough for an error text.
pub(super) fn shown(key: &str) -> String {
    key.chars().take(64).collect()
}
