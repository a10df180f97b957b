//! The natural positions of many bytes, by the widest vectors the processor has.
//!
//! All unsafe code of the chunker is here. A [`Kernel`] exists only for a path whose processor features were detected,
//! and checks the length of what it is given, so that calling it is safe. Loads stay inside the slice: a mask of 64
//! positions reads the 71 bytes that it depends on, and positions at the end of a buffer that do not make up a mask are
//! copied into a padded block by the caller.

use std::fmt;

use super::portable::{self, LOOKBACK_LEN, MASK_LEN};

/// Code that finds natural positions; all paths give the same cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// 64 positions at a time, with AVX-512 F and BW.
    Avx512,
    /// 32 positions at a time, with AVX2.
    Avx2,
    /// Lane-wise arithmetic, vectorised by the compiler for the target's baseline.
    Portable,
}

impl Path {
    /// The paths this processor can take, fastest first: always at least [`Path::Portable`].
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Avx512, Self::Avx2, Self::Portable].into_iter().filter(|path| path.is_available())
    }

    /// Whether this processor can take the path.
    #[must_use]
    pub fn is_available(self) -> bool {
        Kernel::new(self).is_some()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        })
    }
}

/// A path that was found available.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    path: Path,
    /// Safe to call with `window.len() == LOOKBACK_LEN + MASK_LEN * masks.len()`: its features were detected.
    fill: unsafe fn(window: &[u8], masks: &mut [u64]),
}

impl Kernel {
    pub(super) fn new(path: Path) -> Option<Self> {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") => {
                Some(Self { path, fill: x86_64::fill_avx512 })
            }
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 if is_x86_feature_detected!("avx2") => Some(Self { path, fill: x86_64::fill_avx2 }),
            Path::Avx512 | Path::Avx2 => None,
            Path::Portable => Some(Self::portable()),
        }
    }

    pub(super) fn fastest() -> Self {
        Path::available().find_map(Self::new).unwrap_or_else(Self::portable)
    }

    pub(super) fn path(&self) -> Path {
        self.path
    }

    /// Sets bit `p` of mask `m` where position `64 m + p` is natural.
    ///
    /// `window` holds the [`LOOKBACK_LEN`] bytes before the first position, then [`MASK_LEN`] bytes for each mask.
    pub(super) fn fill(&self, window: &[u8], masks: &mut [u64]) {
        assert_eq!(
            window.len(),
            LOOKBACK_LEN + MASK_LEN * masks.len(),
            "a window has the bytes its masks need"
        );
        // SAFETY: `Self::new` detected the features this function was compiled for, and the lengths were just compared.
        unsafe { (self.fill)(window, masks) }
    }

    fn portable() -> Self {
        Self { path: Path::Portable, fill: portable::fill }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::*;

    use super::{LOOKBACK_LEN, MASK_LEN};
    use crate::chunker::pcc::{HASH_MULTIPLIERS, NATURAL_SHIFT};

    /// What the 64 positions of mask `m` depend on, checked to lie inside `window`.
    #[inline]
    fn block(window: &[u8], m: usize) -> &[u8; LOOKBACK_LEN + MASK_LEN] {
        window[m * MASK_LEN..].first_chunk().expect("a window has the bytes its masks need")
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn fill_avx512(window: &[u8], masks: &mut [u64]) {
        let multipliers = HASH_MULTIPLIERS.map(|multiplier| _mm512_set1_epi32(multiplier.cast_signed()));
        let top_bits = _mm512_set1_epi8((u8::MAX << (NATURAL_SHIFT - 24)).cast_signed());
        for (m, mask) in masks.iter_mut().enumerate() {
            let block = block(window, m);
            let hash = |k: usize| {
                // The two loads read bytes `k..k + 64` and `k + 4..k + 68` of 71, as `k` is at most 3.
                debug_assert!(k + 4 + 64 <= block.len(), "loads stay inside the block");
                // SAFETY: see above; `loadu` needs no alignment.
                let (first, second) = unsafe {
                    let at = block.as_ptr().add(k);
                    (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(4).cast()))
                };
                _mm512_xor_si512(
                    _mm512_mullo_epi32(first, multipliers[0]),
                    _mm512_mullo_epi32(second, multipliers[1]),
                )
            };
            // Lane `l` of hash `k` belongs to position `4 l + k`: its top byte goes to byte `k` of the lane, so that
            // bytes are in the order of positions. 0xf8 is `a | (b & c)`.
            let tops = _mm512_srli_epi32::<24>(hash(0));
            let tops = _mm512_ternarylogic_epi32::<0xf8>(
                tops,
                _mm512_srli_epi32::<16>(hash(1)),
                _mm512_set1_epi32(0x0000_ff00),
            );
            let tops = _mm512_ternarylogic_epi32::<0xf8>(
                tops,
                _mm512_srli_epi32::<8>(hash(2)),
                _mm512_set1_epi32(0x00ff_0000),
            );
            let tops = _mm512_ternarylogic_epi32::<0xf8>(
                tops,
                hash(3),
                _mm512_set1_epi32(0xff00_0000_u32.cast_signed()),
            );
            *mask = _mm512_testn_epi8_mask(tops, top_bits);
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn fill_avx2(window: &[u8], masks: &mut [u64]) {
        let multipliers = HASH_MULTIPLIERS.map(|multiplier| _mm256_set1_epi32(multiplier.cast_signed()));
        for (m, mask) in masks.iter_mut().enumerate() {
            let block = block(window, m);
            let half = |offset: usize| {
                let mut flags = _mm256_setzero_si256();
                for k in 0..4 {
                    // The two loads end at byte `offset + k + 36` of 71, as `offset` is at most 32 and `k` at most 3.
                    debug_assert!(offset + k + 4 + 32 <= block.len(), "loads stay inside the block");
                    // SAFETY: see above; `loadu` needs no alignment.
                    let (first, second) = unsafe {
                        let at = block.as_ptr().add(offset + k);
                        (_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(4).cast()))
                    };
                    let hash = _mm256_xor_si256(
                        _mm256_mullo_epi32(first, multipliers[0]),
                        _mm256_mullo_epi32(second, multipliers[1]),
                    );
                    let top_bits = _mm256_srli_epi32::<{ NATURAL_SHIFT.cast_signed() }>(hash);
                    let natural = _mm256_cmpeq_epi32(top_bits, _mm256_setzero_si256());
                    // Lane `l` belongs to position `4 l + k`: keep its byte `k`, so that bytes are in that order.
                    let byte = _mm256_set1_epi32((0xff_u32 << (8 * k)).cast_signed());
                    flags = _mm256_or_si256(flags, _mm256_and_si256(natural, byte));
                }
                u64::from(_mm256_movemask_epi8(flags).cast_unsigned())
            };
            *mask = half(0) | half(32) << 32;
        }
    }
}
