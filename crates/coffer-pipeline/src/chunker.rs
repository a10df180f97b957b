//! Splits a stream into chunks: content-defined (`pcc`) or of a fixed length.
//!
//! `pcc`, public cells and private cuts, divides a stream into cells of about 64 bytes by a public rule without a key,
//! evaluates one pseudorandom function (AES-128-CBC-MAC of the 64 bytes that end a cell) per cell, and lets its output
//! alone decide whether, and after which byte of the cell, the chunk ends. Known content therefore tells an observer of
//! chunk boundaries nothing about the key, unlike chunkers that cut on bits of a keyed rolling hash, and the cost is a
//! fraction of a pseudorandom function per byte. The construction has had no outside review yet; padded packs hide
//! lengths independently of it.
//!
//! # Invariants
//! - Cuts depend on the stream, the parameters and the key only: not on how the stream was split into reads, not on
//!   the processor, not on the [`Path`] taken. Cells never end at the end of a buffer.
//! - Every chunk but the last of a stream is at least `min` and at most `max` bytes; positions count from the start of
//!   the chunk, so that chunks after a cut do not depend on the bytes before it.
//! - With distinct 64-byte windows the distance from `min` to the cut is geometric with mean `2^bits` bytes, whatever
//!   the content, and cuts fall on natural positions no more often than on others. Repeated windows decide alike, as
//!   they must for deduplication: constant data runs to `max`. Below a `min` of 256 bytes the chunk after a cut may meet
//!   the cell that made the cut once more, which makes chunks somewhat shorter; such lengths serve tests.
//! - The key schedule is wiped on drop, no table is indexed by a secret, and the only branch on a secret is the cut.
//!
//! # Paths
//! Finding where cells end is the part that touches every byte. It has an AVX-512 and an AVX2 path, detected at run
//! time, and a portable path in plain lane-wise arithmetic that the compiler vectorises for whatever the target has as
//! its baseline: SSE2 on `x86_64`, NEON on `aarch64`. Vectors in `tests/vectors/chunker.json` hold for all of them.
//! AES uses the processor's instructions where it has them, on every path.
//!
//! # Budget
//! Past `min`, a cell costs four AES blocks, interleaved with those of 63 other cells, and 128 integer multiplications
//! in vector lanes; bytes before `min` are free except for the last 64. No allocation per chunk or per stream.
//!
//! # What this module refuses to do
//! It does not read, buffer or copy: the caller keeps the bytes of the chunk in progress. It does not derive the key,
//! name chunks, or look at what the content means.

use std::fmt;
use std::sync::Arc;

use self::fixed::Fixed;
use self::pcc::{CELL_LEN_MAX, MAC_WINDOW_LEN, Pcc, Progress};
use self::simd::Kernel;

mod fixed;
mod pcc;
mod portable;
#[expect(unsafe_code, reason = "vector loads and functions compiled for detected processor features")]
mod simd;
#[cfg(test)]
mod tests;

pub use self::simd::Path;

/// Largest length, in bytes, that a parameter may allow a chunk to have.
pub const CHUNK_LEN_LIMIT: u32 = 1 << 26;

/// Fewest and most bits that `bits` of [`Algorithm::Pcc`] may have.
pub const BITS_MIN: u8 = 6;
/// See [`BITS_MIN`].
pub const BITS_MAX: u8 = 30;

const _: () = assert!(usize::BITS >= 32, "chunk lengths are handled as usize");

impl TryFrom<coffer_format::header::ChunkerSpec> for ChunkerParams {
    type Error = ChunkerError;

    /// The parameters that a vault's header states.
    fn try_from(spec: coffer_format::header::ChunkerSpec) -> Result<Self, ChunkerError> {
        use coffer_format::header::ChunkerSpec;
        Self::new(match spec {
            ChunkerSpec::Pcc { min, bits, max } => {
                let bits = u8::try_from(bits).map_err(|_| ChunkerError::BitsOutOfRange { bits: u8::MAX })?;
                Algorithm::Pcc { min, bits, max }
            }
            ChunkerSpec::Fixed { len } => Algorithm::Fixed { len },
        })
    }
}

/// How a stream is split, with lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Content-defined: `min` bytes, then a cut after each byte with probability `2^-bits`, and a cut at `max` at last.
    Pcc {
        /// Least length of a chunk that is not the last of its stream: at least 64.
        min: u32,
        /// Binary logarithm of the mean number of bytes past `min`: [`BITS_MIN`] to [`BITS_MAX`].
        bits: u8,
        /// Greatest length of a chunk: at least `min` + 256, at most [`CHUNK_LEN_LIMIT`].
        max: u32,
    },
    /// Chunks of exactly `len` bytes, the last one of a stream shorter: for disk images and databases.
    Fixed {
        /// Length of a chunk: 1 to [`CHUNK_LEN_LIMIT`].
        len: u32,
    },
}

/// An [`Algorithm`] whose lengths have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkerParams(Algorithm);

/// Parameters that no chunker can be made of, or a path this processor lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkerError {
    /// `min` is shorter than the window the cut decision looks at.
    #[error("minimum chunk length {min} is below {MAC_WINDOW_LEN} bytes")]
    MinTooShort {
        /// The length asked for, in bytes.
        min: u32,
    },
    /// `bits` is out of range.
    #[error("chunk length of 2^{bits} bytes past the minimum is outside 2^{BITS_MIN} to 2^{BITS_MAX}")]
    BitsOutOfRange {
        /// The number of bits asked for.
        bits: u8,
    },
    /// `max` leaves no room for a whole cell after `min`, or exceeds the limit.
    #[error(
        "maximum chunk length {max} is outside {min} + {CELL_LEN_MAX} to {CHUNK_LEN_LIMIT} bytes, where {min} is the minimum"
    )]
    MaxOutOfRange {
        /// The least length asked for, in bytes.
        min: u32,
        /// The greatest length asked for, in bytes.
        max: u32,
    },
    /// The fixed length is zero or exceeds the limit.
    #[error("fixed chunk length {len} is outside 1 to {CHUNK_LEN_LIMIT} bytes")]
    FixedLenOutOfRange {
        /// The length asked for, in bytes.
        len: u32,
    },
    /// The processor lacks what the path needs.
    #[error("chunker path {path} is not available on this processor")]
    PathUnavailable {
        /// The path asked for.
        path: Path,
    },
}

impl ChunkerParams {
    /// Checks the lengths of `algorithm`.
    ///
    /// # Errors
    /// [`ChunkerError::MinTooShort`], [`ChunkerError::BitsOutOfRange`], [`ChunkerError::MaxOutOfRange`] and
    /// [`ChunkerError::FixedLenOutOfRange`], when a field is outside the range its documentation gives.
    pub fn new(algorithm: Algorithm) -> Result<Self, ChunkerError> {
        match algorithm {
            Algorithm::Pcc { min, .. } if (min as usize) < MAC_WINDOW_LEN => {
                return Err(ChunkerError::MinTooShort { min });
            }
            Algorithm::Pcc { bits, .. } if !(BITS_MIN..=BITS_MAX).contains(&bits) => {
                return Err(ChunkerError::BitsOutOfRange { bits });
            }
            Algorithm::Pcc { min, max, .. } => {
                let room = max.checked_sub(min).is_some_and(|room| room as usize >= CELL_LEN_MAX);
                if !room || max > CHUNK_LEN_LIMIT {
                    return Err(ChunkerError::MaxOutOfRange { min, max });
                }
            }
            Algorithm::Fixed { len } if len == 0 || len > CHUNK_LEN_LIMIT => {
                return Err(ChunkerError::FixedLenOutOfRange { len });
            }
            Algorithm::Fixed { .. } => {}
        }
        Ok(Self(algorithm))
    }

    /// The algorithm and its lengths.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0
    }

    /// The greatest length of a chunk, in bytes: what a caller has to be able to buffer.
    #[must_use]
    pub fn chunk_len_max(&self) -> u32 {
        match self.0 {
            Algorithm::Pcc { max, .. } => max,
            Algorithm::Fixed { len } => len,
        }
    }
}

impl Default for ChunkerParams {
    /// `pcc` with a minimum of 512 KiB, a mean of 1 MiB past it, and a maximum of 8 MiB.
    fn default() -> Self {
        Self(Algorithm::Pcc { min: 1 << 19, bits: 20, max: 1 << 23 })
    }
}

/// Parameters and key, ready to split any number of streams.
///
/// Clones share one key schedule, and cost a reference count.
#[derive(Clone)]
pub struct Chunker {
    rule: Arc<Rule>,
    params: ChunkerParams,
    path: Path,
}

enum Rule {
    Pcc(Box<Pcc>),
    Fixed(Fixed),
}

impl Chunker {
    /// Makes a chunker that takes the fastest path this processor has.
    ///
    /// `key` is the chunker key of the deduplication domain; [`Algorithm::Fixed`] does not use it. Wiping the caller's
    /// copy is up to the caller.
    #[must_use]
    pub fn new(params: ChunkerParams, key: &[u8; 16]) -> Self {
        Self::with_kernel(params, key, Kernel::fastest())
    }

    /// Makes a chunker that takes `path`, for tests and benchmarks: the cuts are the same.
    ///
    /// # Errors
    /// [`ChunkerError::PathUnavailable`] when the processor lacks what `path` needs.
    pub fn with_path(params: ChunkerParams, key: &[u8; 16], path: Path) -> Result<Self, ChunkerError> {
        let kernel = Kernel::new(path).ok_or(ChunkerError::PathUnavailable { path })?;
        Ok(Self::with_kernel(params, key, kernel))
    }

    fn with_kernel(params: ChunkerParams, key: &[u8; 16], kernel: Kernel) -> Self {
        let path = kernel.path();
        let rule = match params.0 {
            Algorithm::Pcc { min, bits, max } => {
                Rule::Pcc(Box::new(Pcc::new(min as usize, bits, max as usize, key, kernel)))
            }
            Algorithm::Fixed { len } => Rule::Fixed(Fixed::new(len as usize)),
        };
        Self { rule: Arc::new(rule), params, path }
    }

    /// The parameters this chunker was made with.
    #[must_use]
    pub fn params(&self) -> ChunkerParams {
        self.params
    }

    /// The path this chunker takes.
    #[must_use]
    pub fn path(&self) -> Path {
        self.path
    }

    /// Starts a stream.
    #[must_use]
    pub fn scanner(&self) -> Scanner<'_> {
        let progress = match &*self.rule {
            Rule::Pcc(pcc) => pcc.start(),
            Rule::Fixed(_) => Progress::default(),
        };
        Scanner { rule: &self.rule, progress }
    }
}

impl fmt::Debug for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunker")
            .field("params", &self.params)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Finds the chunks of one stream, one after the other.
///
/// ```
/// use coffer_pipeline::chunker::{Algorithm, Chunker, ChunkerError, ChunkerParams};
///
/// # fn main() -> Result<(), ChunkerError> {
/// let params = ChunkerParams::new(Algorithm::Fixed { len: 4 })?;
/// let chunker = Chunker::new(params, &[0; 16]);
/// let mut scanner = chunker.scanner();
/// assert_eq!(scanner.scan(b"abc", false), None);
/// assert_eq!(scanner.scan(b"abcdef", true), Some(4));
/// assert_eq!(scanner.scan(b"ef", true), Some(2));
/// assert_eq!(scanner.scan(b"", true), None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scanner<'a> {
    rule: &'a Rule,
    progress: Progress,
}

impl Scanner<'_> {
    /// Looks for the end of the current chunk.
    ///
    /// `chunk` is every byte of the stream buffered since the start of the current chunk. `end_of_stream` says that no
    /// byte follows it.
    ///
    /// Returns the length of the current chunk, 1 to `chunk.len()` bytes, as soon as it is known: the caller drops that
    /// many bytes, and the next call starts the next chunk. Returns `None` when the end is not known yet: the next call
    /// passes the same bytes again, followed by more of them or with `end_of_stream`. At the end of a stream `None`
    /// means that `chunk` is empty and the stream is done. A call looks at no byte but the new ones and some 320 before
    /// them, so reads may be small.
    ///
    /// A slice shorter than one passed before for the same chunk breaks this contract; it is taken as a new chunk.
    pub fn scan(&mut self, chunk: &[u8], end_of_stream: bool) -> Option<usize> {
        match self.rule {
            Rule::Pcc(pcc) => pcc.scan(&mut self.progress, chunk, end_of_stream),
            Rule::Fixed(fixed) => fixed.scan(chunk, end_of_stream),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcc(_) => "Pcc",
            Self::Fixed(_) => "Fixed",
        })
    }
}
