//! Values and pages of the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::StoreError;
use crate::json;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A JSON value as the store keeps it: its text behind a reference count.
///
/// There are three reasons for text. Limits can count it honestly, because a parsed small array takes 16 times the size
/// of its text. A get costs one reference count at any size. And each reader parses straight into its own type, on its
/// own thread.
///
/// ```
/// use callboard::store::StoreValue;
/// let value = StoreValue::encode(&("a", 1))?;
/// assert_eq!(value.as_str(), r#"["a",1]"#);
/// let (name, count): (String, u32) = value.decode()?;
/// # assert_eq!((name.as_str(), count), ("a", 1));
/// # Ok::<(), callboard::store::StoreError>(())
/// ```
#[derive(Clone)]
pub struct StoreValue(Arc<str>);

impl StoreValue {
    /// Writes a value as JSON.
    ///
    /// # Errors
    /// [`StoreError::Encode`] when the value has no JSON form, contains a number that is not finite, or is nested
    /// deeper than 127 levels.
    pub fn encode(value: &(impl Serialize + ?Sized)) -> Result<Self, StoreError> {
        let text = json::written(value).map_err(StoreError::Encode)?;
        Ok(Self(text.into()))
    }

    /// The value of a whole number.
    pub(super) fn integer(number: i64) -> Self {
        Self(number.to_string().into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the value as a type.
    ///
    /// # Errors
    /// [`StoreError::Decode`], with serde's reason, when the value does not match the type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        self.decode_as("")
    }

    pub(super) fn decode_as<T: DeserializeOwned>(&self, key: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.0)
            .map_err(|error| StoreError::Decode { key: super::error::shown(key), reason: error.to_string() })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Equality as JSON: the order of an object's keys does not count, but each digit of a number does.
impl PartialEq for StoreValue {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
            || matches!((json::canonical(&self.0), json::canonical(&other.0)), (Some(one), Some(two)) if one == two)
    }
}

impl fmt::Debug for StoreValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StoreValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A value with its remaining time.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreEntry {
    /// The value.
    pub value: StoreValue,
    /// The time until the value expires; `None` if it stays for ever.
    pub ttl: Option<Duration>,
}

/// One page of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePage {
    /// Live keys in order. A page may hold fewer keys than requested, even none, and still not be the last page.
    pub keys: Vec<Arc<str>>,
    /// The start of the next page; `None` after the last page.
    pub next: Option<Arc<str>>,
}

/// The size of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoreStats {
    /// The number of keys, including expired keys that are not removed yet.
    pub entries: usize,
    /// The number of these keys that have a time to live.
    pub with_ttl: usize,
    /// Bytes of keys and of values as JSON text. Their memory is greater by about 200 bytes per key.
    pub bytes: usize,
    /// The number of watches.
    pub watches: usize,
    /// Events not delivered because a watcher's mailbox was full, since the board started.
    pub missed_events: u64,
}

/// The limits of the store. A write or watch beyond a limit is rejected.
///
/// ```
/// use callboard::store::StoreLimits;
/// let small = StoreLimits { max_entries: 1_000, ..StoreLimits::default() };
/// # let _ = small;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreLimits {
    /// Keys; 10,000,000 by default.
    pub max_entries: usize,
    /// Bytes of a key; 1 KiB by default.
    pub max_key_bytes: usize,
    /// Bytes of a value as JSON text; 1 MiB by default.
    pub max_value_bytes: usize,
    /// Bytes of all keys and values as JSON text; 1 GiB by default. Their memory is greater by about 200 bytes per key.
    pub max_total_bytes: usize,
    /// Watches; 10,000 by default.
    pub max_watches: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            max_entries: 10_000_000,
            max_key_bytes: 1 << 10,
            max_value_bytes: 1 << 20,
            max_total_bytes: 1 << 30,
            max_watches: 10_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, _| json!([inner]))
    }

    #[test]
    fn as_deep_as_can_be_read_again_and_no_deeper() {
        assert_eq!(StoreValue::encode(&nested(127)).unwrap().decode::<Value>().unwrap(), nested(127));
        assert!(matches!(StoreValue::encode(&nested(128)), Err(StoreError::Encode(_))));
        assert!(serde_json::from_str::<Value>(&nested(128).to_string()).is_err(), "the limit is the reader's");
    }

    #[test]
    fn equal_whatever_the_order_of_keys() {
        let text = |text: &str| StoreValue(text.into());
        assert_eq!(text(r#"{"a":1,"b":2}"#), text(r#"{"b":2,"a":1}"#));
        assert_ne!(text("1"), text("1.0"));
        assert_ne!(text("18446744073709551616"), text("18446744073709551617"));
        assert_ne!(text("1"), text("\"1\""));
    }

    #[test]
    fn every_float_comes_back_as_it_went_in() {
        for bits in (0..100_000_u64).map(|step| 0x3FB9_9999_9999_999A_u64.wrapping_mul(step | 1)) {
            let float = f64::from_bits(bits);
            if float.is_finite() {
                let back: f64 = StoreValue::encode(&float).unwrap().decode().unwrap();
                assert_eq!(back.to_bits(), bits);
            }
        }
    }
}
