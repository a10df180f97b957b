//! How long the packs of a backup would be, by a sample of its frames.
//!
//! Compressing everything would take as long as the backup. So all that comes first is compressed, which is enough for a small backup, and of
//! what follows one frame in so many: whichever the name of a chunk picks, lest files that take turns fool it. Nothing is sealed or kept.

use coffer_format::limits::TAG_LEN;
use coffer_format::pack::{ChunkKind, Directory, FRAME_HEAD_LEN};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::compress::{Compression, Compressor};

use crate::error::EngineError;

/// Levels above this one take so long that less is compressed.
const FAST_LEVEL_MAX: u8 = 3;

/// Bytes that are compressed before frames are skipped, and in how many frames one is compressed then.
const fn plan(compression: Compression) -> (u64, u64) {
    match compression {
        Compression::Level(level) if level > FAST_LEVEL_MAX => (8 << 20, 16),
        _ => (64 << 20, 8),
    }
}

/// Meets every frame that a backup would store, and compresses some of them.
pub(crate) struct Sampler {
    compression: Compression,
    compressor: Option<Compressor>,
    payload: Vec<u8>,
    data: Share,
    meta: Share,
    frame_count: usize,
    chunk_count: usize,
}

/// Frames of one kind.
#[derive(Default)]
struct Share {
    /// Those that came first, all compressed.
    first: Lengths,
    /// Those of the rest that were compressed.
    picked: Lengths,
    /// Bytes of the rest before compression.
    rest_plain: u64,
    rest_count: u64,
    /// Which of the frames at hand is compressed.
    pick: u64,
}

#[derive(Default)]
struct Lengths {
    plain: u64,
    stored: u64,
}

impl Share {
    /// Where the lengths of the next frame are to be added; `None` if it is not compressed. `random` is any number.
    fn next(&mut self, (first_len, stride): (u64, u64), plain_len: u64, random: u8) -> Option<&mut Lengths> {
        if self.first.plain < first_len {
            return Some(&mut self.first);
        }
        if self.rest_count.is_multiple_of(stride) {
            self.pick = u64::from(random) % stride;
        }
        let is_picked = self.rest_count % stride == self.pick;
        self.rest_count += 1;
        self.rest_plain += plain_len;
        is_picked.then_some(&mut self.picked)
    }

    /// What all of it would be. What came first counts for the rest as if that many of its frames had been picked.
    fn stored(&self, stride: u64) -> u64 {
        let weigh = |first: u64, picked: u64| first as f64 / stride as f64 + picked as f64;
        let plain = weigh(self.first.plain, self.picked.plain);
        if plain == 0.0 {
            return 0;
        }
        let rest = weigh(self.first.stored, self.picked.stored) / plain * self.rest_plain as f64;
        // Beyond 2^53 nothing is exact, nor need it be.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate, never negative"
        )]
        let rest = rest as u64;
        self.first.stored.saturating_add(rest)
    }
}

impl Sampler {
    pub(crate) fn new(compression: Compression) -> Self {
        Self {
            compression,
            compressor: None,
            payload: Vec::new(),
            data: Share::default(),
            meta: Share::default(),
            frame_count: 0,
            chunk_count: 0,
        }
    }

    /// Meets a frame of `plain`, which `chunks` fill.
    pub(crate) fn meet(
        &mut self,
        kind: ChunkKind,
        plain: &[u8],
        chunks: &[ChunkRef],
    ) -> Result<(), EngineError> {
        self.frame_count += 1;
        self.chunk_count += chunks.len();
        let share = match kind {
            ChunkKind::Data => &mut self.data,
            ChunkKind::Meta => &mut self.meta,
        };
        // Ids are keyed hashes, as good as random.
        let random = chunks.first().map_or(0, |chunk| chunk.id.0[0]);
        let plain_len = plain.len() as u64;
        let Some(lengths) = share.next(plan(self.compression), plain_len, random) else { return Ok(()) };
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(self.compression)?),
        };
        self.payload.clear();
        compressor.append(plain, &mut self.payload)?;
        lengths.plain += plain_len;
        lengths.stored += self.payload.len() as u64;
        Ok(())
    }

    /// Bytes that all frames met would have in packs, with the rows of directories that list them.
    pub(crate) fn packed_bytes(&self) -> u64 {
        let (_, stride) = plan(self.compression);
        let around = self.frame_count as u64 * (FRAME_HEAD_LEN as u64 + TAG_LEN);
        let rows = Directory::plain_len(self.frame_count, self.chunk_count) - Directory::plain_len(0, 0);
        self.data.stored(stride) + self.meta.stored(stride) + around + rows as u64
    }
}

#[cfg(test)]
mod tests {
    use coffer_format::id::ChunkId;

    use super::*;

    /// Bytes of which so many, in hundredths, do not compress, and the others almost vanish.
    fn frame(number: u64, percent: usize, len: usize) -> (Vec<u8>, Vec<ChunkRef>) {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[5]
        };
        let id = ChunkId(std::array::from_fn(|_| next()));
        let mut plain: Vec<u8> = (0..len * percent / 100).map(|_| next()).collect();
        plain.resize(len, 7);
        let chunk = ChunkRef { id, len: u32::try_from(len).expect("short") };
        (plain, vec![chunk])
    }

    fn estimate(compression: Compression, frames: impl Iterator<Item = usize>) -> (f64, usize, u64) {
        let mut sampler = Sampler::new(compression);
        let mut random_len = 0;
        for (number, percent) in (0..).zip(frames) {
            let (plain, chunks) = frame(number, percent, 256 << 10);
            random_len += plain.len() * percent / 100;
            sampler.meet(ChunkKind::Data, &plain, &chunks).expect("is compressed");
        }
        let compressed = sampler.data.first.plain + sampler.data.picked.plain;
        (sampler.packed_bytes() as f64, random_len, compressed)
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(Sampler::new(Compression::Auto).packed_bytes(), 0);
    }

    #[test]
    fn of_a_level_that_takes_long_less_is_compressed() {
        // 48 MiB, in which every second or every eighth frame compresses to a half.
        for stride in [2, 8] {
            let frames = (0..192).map(|number| if number % stride == stride - 1 { 50 } else { 100 });
            let (estimated, random_len, compressed) = estimate(Compression::Level(4), frames);
            let real = random_len as f64;
            assert!((estimated - real).abs() < real / 4.0, "every {stride}th: {estimated} of {real}");
            assert!(compressed < 12 << 20, "{compressed} bytes were compressed");
        }
    }

    #[test]
    fn frames_that_take_turns_do_not_fool_it() {
        // 192 MiB, of which one frame in eight, always the same one, does not compress.
        for at in [0, 3, 7] {
            let frames = (0..768).map(|number| if number % 8 == at { 100 } else { 0 });
            let (estimated, random_len, compressed) = estimate(Compression::Auto, frames);
            let real = random_len as f64;
            assert!((estimated - real).abs() < real / 4.0, "{at}: {estimated} of {real}");
            assert!(compressed < 84 << 20, "{compressed} bytes were compressed");
        }
    }

    #[test]
    fn without_compression_all_stays_as_it_is() {
        let (estimated, ..) = estimate(Compression::Off, std::iter::repeat_n(0, 8));
        let real = f64::from(2 << 20);
        assert!(estimated > real && estimated < 1.01 * real, "{estimated}");
    }
}
