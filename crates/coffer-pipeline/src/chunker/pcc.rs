//! The `pcc` rule: public cells, private cuts.
//!
//! Positions count from the start of the chunk, `x` is its bytes:
//!
//! ```text
//! h(i)     = (le32(x[i-7..=i-4]) * 0x9E3779B1  xor  le32(x[i-3..=i]) * 0x85EBCA77) mod 2^32
//! natural  = h(i) < 2^27
//! cell     : the first starts at min, the others where the one before ended; a cell ends after the first natural byte
//!            that is at least its 32nd, after its 256th, at max, or at the end of the stream
//! u        = le64 of the first 8 bytes of AES-128-CBC-MAC(key, the 64 bytes that end with the cell), IV zero
//! T[j]     : S = 2^64; for each j: S -= S >> bits, T[j] = 2^64 - S
//! cut      : after the smallest byte j of the cell with u < T[j]; none if there is none
//! ```
//!
//! Bytes before `min` are looked at only as far as windows reach back. The search works on segments: a [`Kernel`] marks
//! the natural positions of some KiB, cells are read off the marks, and their MACs are computed many at a time, so that
//! the rounds of independent AES blocks overlap. Cells found past a cut are the price: a few KiB per chunk.

use aes::Aes128Enc;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

use super::portable::{LOOKBACK_LEN, MASK_LEN};
use super::simd::Kernel;

/// Bytes that decide whether a position is natural.
pub(super) const HASH_WINDOW_LEN: usize = 8;
/// Multipliers of the first and second word of that window.
pub(super) const HASH_MULTIPLIERS: [u32; 2] = [0x9E37_79B1, 0x85EB_CA77];
/// A position is natural when nothing is left of its hash after this shift: one in 32 of random data.
pub(super) const NATURAL_SHIFT: u32 = 27;

/// Least length of a cell that neither `max` nor the end of the stream ends, in bytes.
pub(super) const CELL_LEN_MIN: usize = 32;
/// Greatest length of a cell, in bytes.
pub(super) const CELL_LEN_MAX: usize = 256;
/// Bytes at the end of a cell that the MAC covers; they may reach back before the cell, but not before the chunk.
pub(super) const MAC_WINDOW_LEN: usize = 64;

const AES_BLOCK_LEN: usize = 16;
const SEGMENT_MASK_COUNT: usize = 64;
const SEGMENT_LEN: usize = SEGMENT_MASK_COUNT * MASK_LEN;
/// Cells whose MACs are computed together: eight at a time overlap on processors with AES instructions for one block,
/// and 64 fill those with four blocks to a register.
const BATCH_COUNT: usize = 64;

const _: () =
    assert!(MAC_WINDOW_LEN >= HASH_WINDOW_LEN, "with min at least a MAC window, no window leaves the chunk");

pub(super) struct Pcc {
    min: usize,
    max: usize,
    thresholds: [u64; CELL_LEN_MAX],
    cipher: Aes128Enc,
    kernel: Kernel,
}

/// Does not compile unless the key schedule is wiped on drop.
#[cfg(test)]
const _: fn(&Pcc) = |pcc| {
    fn check<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    check(&pcc.cipher);
};

/// How far the search in one chunk has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Where the current cell starts; the cells before it do not cut.
    cell_start: usize,
    /// First position not examined yet; those from the current cell's 32nd byte up to it are not natural.
    next: usize,
    /// How many bytes of the chunk the last call was given.
    seen_len: usize,
}

impl Progress {
    fn start_cell(&mut self, cell_start: usize) {
        self.cell_start = cell_start;
        self.next = cell_start + CELL_LEN_MIN - 1;
    }
}

impl Pcc {
    /// `min` and `max` are as [`super::ChunkerParams`] demands.
    pub(super) fn new(min: usize, bits: u8, max: usize, key: &[u8; 16], kernel: Kernel) -> Self {
        let cipher = Aes128Enc::new(key.into());
        Self { min, max, thresholds: thresholds(bits), cipher, kernel }
    }

    pub(super) fn start(&self) -> Progress {
        let mut progress = Progress::default();
        progress.start_cell(self.min);
        progress
    }

    pub(super) fn scan(&self, progress: &mut Progress, chunk: &[u8], end_of_stream: bool) -> Option<usize> {
        if chunk.len() < progress.seen_len {
            *progress = self.start();
        }
        progress.seen_len = chunk.len();
        let chunk = &chunk[..chunk.len().min(self.max)];
        let complete = end_of_stream || chunk.len() == self.max;
        let end = if chunk.len() <= self.min {
            (complete && !chunk.is_empty()).then_some(chunk.len())
        } else {
            self.search(progress, chunk, complete)
        };
        if end.is_some() {
            *progress = self.start();
        }
        end
    }

    /// Continues in `chunk`, which is longer than `min` and not longer than `max`; when `complete` it ends there.
    fn search(&self, progress: &mut Progress, chunk: &[u8], complete: bool) -> Option<usize> {
        let bound = if complete { chunk.len() } else { self.max };
        if progress.cell_start == bound {
            // The stream turns out to end where an earlier call saw a cell end.
            return Some(bound);
        }
        let mut batch = Batch::new(progress.cell_start);
        let mut masks = [0; SEGMENT_MASK_COUNT];
        loop {
            let from = progress.next;
            let segment_len = chunk.len().saturating_sub(from).min(SEGMENT_LEN);
            self.mark(chunk, from, segment_len, &mut masks);
            let examined = from + segment_len;

            // One turn per cell that ends in this segment.
            loop {
                let start = progress.cell_start;
                let limit = bound.min(start + CELL_LEN_MAX);
                let first = from.max(start + CELL_LEN_MIN - 1);
                let end = match first_set(&masks, first - from, limit.min(examined).saturating_sub(from)) {
                    Some(position) => from + position + 1,
                    None if limit <= chunk.len() && limit <= examined.max(first) => limit,
                    None => {
                        progress.next = examined.max(first);
                        break;
                    }
                };
                progress.start_cell(end);
                batch.push(end);
                if (batch.is_full() || end == bound)
                    && let Some(cut) = self.first_cut(chunk, &mut batch)
                {
                    return Some(cut);
                }
                if end == bound {
                    return Some(bound);
                }
            }
            if progress.next >= chunk.len() && !complete {
                return self.first_cut(chunk, &mut batch);
            }
        }
    }

    /// Sets bit `p` of `masks`, counted over all of them, where position `from + p` is natural, for `p` below `len`.
    /// The other bits have no meaning.
    fn mark(&self, chunk: &[u8], from: usize, len: usize, masks: &mut [u64; SEGMENT_MASK_COUNT]) {
        let (whole_count, rest_len) = (len / MASK_LEN, len % MASK_LEN);
        let (whole, rest) = masks.split_at_mut(whole_count);
        if !whole.is_empty() {
            let window = &chunk[from - LOOKBACK_LEN..from + whole_count * MASK_LEN];
            self.kernel.fill(window, whole);
        }
        if rest_len > 0 {
            let window = &chunk[from + whole_count * MASK_LEN - LOOKBACK_LEN..from + len];
            let mut padded = [0; LOOKBACK_LEN + MASK_LEN];
            padded[..window.len()].copy_from_slice(window);
            self.kernel.fill(&padded, &mut rest[..1]);
        }
    }

    /// Computes the MACs of the cells in `batch`, empties it, and returns the first cut.
    fn first_cut(&self, chunk: &[u8], batch: &mut Batch) -> Option<usize> {
        let ends = &batch.ends[..batch.count];
        let mut blocks = [Array::from([0; AES_BLOCK_LEN]); BATCH_COUNT];
        let blocks = &mut blocks[..ends.len()];
        for offset in (0..MAC_WINDOW_LEN).step_by(AES_BLOCK_LEN) {
            for (block, &end) in blocks.iter_mut().zip(ends) {
                let input = &chunk[end - MAC_WINDOW_LEN + offset..][..AES_BLOCK_LEN];
                block.iter_mut().zip(input).for_each(|(state, byte)| *state ^= byte);
            }
            self.cipher.encrypt_blocks(blocks);
        }

        let mut start = batch.start;
        for (block, &end) in blocks.iter().zip(ends) {
            let (halves, _) = block.0.as_chunks::<8>();
            let tag = u64::from_le_bytes(halves[0]);
            let cell_len = end - start;
            if tag < self.thresholds[cell_len - 1] {
                let position = self.thresholds.partition_point(|&threshold| threshold <= tag);
                return Some(start + position + 1);
            }
            start = end;
        }
        *batch = Batch::new(start);
        None
    }
}

/// Consecutive cells that wait for their MACs.
struct Batch {
    start: usize,
    ends: [usize; BATCH_COUNT],
    count: usize,
}

impl Batch {
    fn new(start: usize) -> Self {
        Self { start, ends: [0; BATCH_COUNT], count: 0 }
    }

    fn push(&mut self, end: usize) {
        self.ends[self.count] = end;
        self.count += 1;
    }

    fn is_full(&self) -> bool {
        self.count == BATCH_COUNT
    }
}

/// The first bit set in `from..to`, counted over all masks.
fn first_set(masks: &[u64; SEGMENT_MASK_COUNT], from: usize, to: usize) -> Option<usize> {
    if from >= to {
        return None;
    }
    let mut m = from / MASK_LEN;
    let mut bits = masks[m] & (u64::MAX << (from % MASK_LEN));
    while bits == 0 {
        m += 1;
        if m * MASK_LEN >= to {
            return None;
        }
        bits = masks[m];
    }
    let position = m * MASK_LEN + bits.trailing_zeros() as usize;
    (position < to).then_some(position)
}

/// `T[j]` is 2^64 times the probability that a cut comes after one of the bytes 0 to `j` of a cell.
fn thresholds(bits: u8) -> [u64; CELL_LEN_MAX] {
    const ONE: u128 = 1 << 64;
    let mut none_so_far = ONE;
    std::array::from_fn(|_| {
        none_so_far -= none_so_far >> bits;
        u64::try_from(ONE - none_so_far).expect("with 6 bits or more some probability is left")
    })
}
