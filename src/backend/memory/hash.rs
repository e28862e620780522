//! A fast hash for maps where an attacker gains nothing by choosing the keys.
//!
//! The standard hash protects against floods of colliding keys, and costs more than the rest of an insert. Here a flood
//! slows down only the process that pushes it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map with the fast hash.
pub(super) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiplies and folds, eight bytes at a time; every byte of the key counts.
#[derive(Clone, Copy, Default)]
pub(super) struct FastHasher(u64);

/// Odd constants with about as many 1 bits as 0 bits (fractions of pi).
const FIRST: u64 = 0x243f_6a88_85a3_08d3;
const SECOND: u64 = 0x1319_8a2e_0370_7345;

impl FastHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word ^ FIRST) * u128::from(SECOND ^ word.rotate_left(32));
        let (low, high) = (wide & u128::from(u64::MAX), wide >> 64);
        self.0 = u64::try_from(low ^ high).unwrap_or(0);
    }
}

impl Hasher for FastHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(last));
        }
    }

    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    /// Called only with the length of a key. All keys for which it is called have the same length.
    #[inline]
    fn write_usize(&mut self, _: usize) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use uuid::Uuid;

    use super::*;
    use crate::task::TaskId;

    #[test]
    fn each_of_the_16_bytes_changes_both_ends_of_the_hash() {
        let hasher = BuildHasherDefault::<FastHasher>::default();
        for byte in 0..16 {
            let hashes: Vec<u64> = (0..=255_u8)
                .map(|value| {
                    let mut bytes = [7_u8; 16];
                    bytes[byte] = value;
                    hasher.hash_one(TaskId::from(Uuid::from_bytes(bytes)))
                })
                .collect();
            let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0xffff).collect();
            let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            assert!(low.len() > 200, "byte {byte}: {} buckets of 256", low.len());
            assert!(high.len() > 60, "byte {byte}: {} tags of 128", high.len());
        }
    }
}
