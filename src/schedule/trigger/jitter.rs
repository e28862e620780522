//! A spread of runs that is the same on all nodes.

use crate::clock::Timestamp;

/// A number from 0 to `most` that follows from a name and a time. The result must never change, because nodes of two
/// versions may share a schedule. So no hasher of the standard library is used: it promises no fixed result.
pub(super) fn share(name: &str, nominal: Timestamp, most: u64) -> u64 {
    // FNV-1a over name and time, then the finisher of SplitMix64, because times differ in few bits.
    let bytes = name.bytes().chain(nominal.as_micros().to_le_bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let dice = u128::from(mixed ^ mixed >> 31);
    // The upper half of a product of 128 bits is even over the range. A remainder would not be.
    let scaled = (dice * (u128::from(most) + 1)) >> 64;
    u64::try_from(scaled).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_what_it_is() {
        let shares = [0, 1, 60_000_000].map(|us| share("cleanup", Timestamp::from_micros(us), 30_000_000));
        assert_eq!(shares, [9_811_327, 21_445_745, 29_060_709]);
    }

    #[test]
    fn it_is_even_over_the_range() {
        let hour = |k: i64| Timestamp::from_micros(k * 3_600_000_000);
        let mut counts = [0_u32; 10];
        for k in 0..10_000 {
            counts[usize::try_from(share("report", hour(k), 9)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
