//! How long to wait before the same is tried again: longer from try to try, with an end, and not for all at the same moment.

/// First and longest wait of something that is tried again, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// After the first try that did not help.
    pub first_ms: u64,
    /// After however many.
    pub longest_ms: u64,
}

/// The wait after so many tries in a row that did not help; of 0 tries as of 1. It is doubled from try to try up to the longest, and up to a quarter
/// of it is left out, by the seed and the try: what fails at one moment is not all tried again at one moment. The same seed and try always
/// give the same wait.
pub fn wait_ms(waits: Waits, seed: &str, tries: u32) -> u64 {
    let full = waits.first_ms.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(waits.longest_ms);
    full - full / 4 * (spread(seed, tries) % 1000) / 1000
}

/// FNV-1a, and then the last steps of MurmurHash3, for seeds that differ in their last letter.
fn spread(seed: &str, tries: u32) -> u64 {
    let bytes = seed.bytes().chain(tries.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const WAITS: Waits = Waits { first_ms: 1_000, longest_ms: 60_000 };

    #[test]
    fn a_wait_is_doubled_up_to_the_longest_and_loses_a_quarter_at_most() {
        for seed in ["", "a", "bc975bd6-27ab-5b07-8a2b-2a2f9a9b9c4f"] {
            for (tries, full) in
                [(0, 1_000), (1, 1_000), (2, 2_000), (6, 32_000), (7, 60_000), (u32::MAX, 60_000)]
            {
                let wait = wait_ms(WAITS, seed, tries);
                assert!((full / 4 * 3..=full).contains(&wait), "{seed} {tries}: {wait}");
                assert_eq!(wait, wait_ms(WAITS, seed, tries));
            }
        }
    }

    #[test]
    fn what_fails_together_is_not_tried_again_together() {
        let waits: BTreeSet<u64> = (0..1000).map(|number| wait_ms(WAITS, &format!("p{number}"), 7)).collect();
        assert!(waits.len() > 500, "{}", waits.len());
        let (first, last) = (waits.first().unwrap(), waits.last().unwrap());
        assert!(last - first > 14_000, "{first} to {last}");
    }
}
