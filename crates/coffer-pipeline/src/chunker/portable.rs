//! The natural positions of 64 bytes at a time, in lanes that the compiler turns into vectors.
//!
//! This is the reference for the paths in `simd.rs`, which give the same bits. Nothing here depends on the byte order
//! or the vector width of the processor.

use super::pcc::{HASH_MULTIPLIERS, HASH_WINDOW_LEN, NATURAL_SHIFT};

/// Positions that one mask covers: bit `p` stands for the `p`th.
pub(super) const MASK_LEN: usize = 64;

/// Bytes that precede the first position in the slice given to a kernel.
pub(super) const LOOKBACK_LEN: usize = HASH_WINDOW_LEN - 1;

const LANE_COUNT: usize = MASK_LEN / 4;

/// Sets bit `p` of mask `m` where position `64 m + p` is natural.
///
/// `window` holds the [`LOOKBACK_LEN`] bytes before the first position, then [`MASK_LEN`] bytes for each mask.
pub(super) fn fill(window: &[u8], masks: &mut [u64]) {
    for (m, mask) in masks.iter_mut().enumerate() {
        let block = &window[m * MASK_LEN..][..LOOKBACK_LEN + MASK_LEN];
        // Windows that end at positions of equal remainder mod 4 are whole words at one offset. Byte `k` of lane `l` is
        // 1 when position `4 l + k` is natural.
        let mut flags = [0_u32; LANE_COUNT];
        for k in 0..4 {
            let first = words(&block[k..]);
            let second = words(&block[k + 4..]);
            for l in 0..LANE_COUNT {
                let hash =
                    first[l].wrapping_mul(HASH_MULTIPLIERS[0]) ^ second[l].wrapping_mul(HASH_MULTIPLIERS[1]);
                flags[l] |= u32::from(hash >> NATURAL_SHIFT == 0) << (8 * k);
            }
        }
        *mask = flags.chunks_exact(2).rev().fold(0, |mask, pair| {
            // Moves the lowest bit of each byte to the top byte, in order; no two products meet, so nothing carries.
            let bytes = u64::from(pair[0]) | u64::from(pair[1]) << 32;
            mask << 8 | bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56
        });
    }
}

fn words(bytes: &[u8]) -> [u32; LANE_COUNT] {
    let mut words = [0; LANE_COUNT];
    for (word, four) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*four);
    }
    words
}
