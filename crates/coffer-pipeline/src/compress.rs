//! zstd, and when not to.
//!
//! Contexts are kept and reused: making one costs more than compressing a small frame. What does not become smaller is stored
//! as it is; in `auto` a cheap sample decides that before the whole frame is compressed for nothing.

use coffer_format::limits::FRAME_PLAIN_MAX;
use coffer_format::pack::Codec;
use zstd::bulk;
use zstd::zstd_safe;

use crate::error::PipelineError;

/// How frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Level 2, and incompressible frames recognised from a sample.
    Auto,
    /// Nothing is compressed.
    Off,
    /// This zstd level, 1 to 19.
    Level(u8),
}

impl Compression {
    /// With the long window, level 2 is a quarter faster than level 3 with its own, and makes no more of it (docs/performance.md).
    const AUTO_LEVEL: i32 = 2;
    /// The window, as a power of two: a whole frame. Levels above the one named have a window as long of their own.
    const WINDOW_LOG: u32 = 22;
    const OWN_WINDOW_FROM_LEVEL: i32 = 16;
    const SAMPLE_LEVEL: i32 = 1;
    /// Shorter frames are compressed without asking a sample.
    const SAMPLE_FROM_LEN: usize = 128 * 1024;
    const SAMPLE_PIECE_LEN: usize = 4096;
    const SAMPLE_PIECE_COUNT: usize = 8;
}

/// What a frame is stored as, before it is sealed.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'p> {
    pub(crate) codec: Codec,
    pub(crate) bytes: &'p [u8],
    pub(crate) plain_len: usize,
}

impl Payload<'_> {
    /// Bytes it is stored as, before it is sealed.
    #[must_use]
    pub const fn stored_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes it stands for.
    #[must_use]
    pub const fn plain_len(&self) -> usize {
        self.plain_len
    }
}

/// Compresses frames, one after the other.
pub struct Compressor {
    compression: Compression,
    main: bulk::Compressor<'static>,
    /// What the compressed frame is written to first: it is never cleared, which would cost more than the copy.
    room: Vec<u8>,
    sampler: bulk::Compressor<'static>,
    sample: Vec<u8>,
    sample_out: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("compression", &self.compression).finish_non_exhaustive()
    }
}

fn compress_error(error: &std::io::Error) -> PipelineError {
    PipelineError::Compress { reason: error.to_string() }
}

impl Compressor {
    /// A compressor with its contexts.
    ///
    /// # Errors
    /// [`PipelineError::CompressionLevel`] outside 1 to 19; [`PipelineError::Compress`] when zstd cannot allocate.
    pub fn new(compression: Compression) -> Result<Self, PipelineError> {
        let level = match compression {
            Compression::Level(level @ 1..=19) => i32::from(level),
            Compression::Level(level) => return Err(PipelineError::CompressionLevel { level }),
            Compression::Auto | Compression::Off => Compression::AUTO_LEVEL,
        };
        let make = |level| bulk::Compressor::new(level).map_err(|error| compress_error(&error));
        let (sample, sample_out) = (Vec::new(), Vec::new());
        let mut main = make(level)?;
        if level < Compression::OWN_WINDOW_FROM_LEVEL {
            let window = zstd_safe::CParameter::WindowLog(Compression::WINDOW_LOG);
            main.set_parameter(window).map_err(|error| compress_error(&error))?;
        }
        Ok(Self {
            compression,
            main,
            room: Vec::new(),
            sampler: make(Compression::SAMPLE_LEVEL)?,
            sample,
            sample_out,
        })
    }

    /// Appends the payload of `plain` to `out` and says how it is coded. Never appends more than `plain.len()` bytes.
    ///
    /// # Errors
    /// [`PipelineError::Compress`] when zstd fails; `out` is then as before.
    pub fn append(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<Codec, PipelineError> {
        let payload = self.compress(plain)?;
        out.extend_from_slice(payload.bytes);
        Ok(payload.codec)
    }

    /// Compresses `plain` into memory of its own, unless it stays as it is. A payload is never longer than `plain`.
    ///
    /// # Errors
    /// [`PipelineError::Compress`] when zstd fails.
    pub fn compress<'p>(&'p mut self, plain: &'p [u8]) -> Result<Payload<'p>, PipelineError> {
        let plain_len = plain.len();
        if self.compression != Compression::Off && self.looks_compressible(plain)? {
            if self.room.len() < plain_len {
                self.room.resize(plain_len, 0);
            }
            // Given less room than the bound, zstd fails when the result would not be smaller than the plaintext.
            match self.main.compress_to_buffer(plain, &mut self.room[..plain_len]) {
                Ok(len) if len < plain_len => {
                    return Ok(Payload { codec: Codec::Zstd, bytes: &self.room[..len], plain_len });
                }
                _ => {}
            }
        }
        Ok(Payload { codec: Codec::Stored, bytes: plain, plain_len })
    }

    fn looks_compressible(&mut self, plain: &[u8]) -> Result<bool, PipelineError> {
        if self.compression != Compression::Auto || plain.len() < Compression::SAMPLE_FROM_LEN {
            return Ok(true);
        }
        self.sample.clear();
        let step = (plain.len() - Compression::SAMPLE_PIECE_LEN) / (Compression::SAMPLE_PIECE_COUNT - 1);
        for piece in 0..Compression::SAMPLE_PIECE_COUNT {
            let from = piece * step;
            self.sample.extend_from_slice(&plain[from..from + Compression::SAMPLE_PIECE_LEN]);
        }
        self.sample_out.resize(zstd_safe::compress_bound(self.sample.len()), 0);
        let len = self.sampler.compress_to_buffer(&self.sample, &mut self.sample_out[..]);
        let len = len.map_err(|error| compress_error(&error))?;
        Ok(len < self.sample.len() - self.sample.len() / 32)
    }
}

/// Decompresses frames, one after the other.
pub struct Decompressor {
    context: bulk::Decompressor<'static>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    /// A decompressor with its context.
    ///
    /// # Errors
    /// [`PipelineError::Compress`] when zstd cannot allocate.
    pub fn new() -> Result<Self, PipelineError> {
        Ok(Self { context: bulk::Decompressor::new().map_err(|error| compress_error(&error))? })
    }

    /// Replaces `out` by what `payload` yields, which must be exactly `plain_len` bytes, 1 to [`FRAME_PLAIN_MAX`], from
    /// exactly one zstd frame.
    ///
    /// # Errors
    /// [`PipelineError::Decompress`]; `out` is then empty.
    pub fn replace(
        &mut self,
        payload: &[u8],
        plain_len: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), PipelineError> {
        let wanted = plain_len as usize;
        // Before anything is allocated. Without the 0, a skippable frame would pass for a frame of nothing.
        let one_frame = (1..=FRAME_PLAIN_MAX).contains(&u64::from(plain_len))
            && zstd_safe::find_frame_compressed_size(payload) == Ok(payload.len());
        if one_frame {
            out.resize(wanted, 0);
            if self.context.decompress_to_buffer(payload, &mut out[..]).is_ok_and(|len| len == wanted) {
                return Ok(());
            }
        }
        out.clear();
        Err(PipelineError::Decompress { plain_len })
    }
}

#[cfg(test)]
mod tests;
