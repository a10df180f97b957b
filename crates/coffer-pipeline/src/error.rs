//! What can go wrong between plain bytes and sealed ones.

use coffer_crypto::CryptoError;
use coffer_format::FormatError;

/// Why bytes could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The bytes break the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A key did not fit, or a seal did not open.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The chunker's parameters are out of bounds.
    #[error(transparent)]
    Chunker(#[from] crate::chunker::ChunkerError),
    /// A key that a slot gave is not the vault's key of its epoch.
    #[error("the unwrapped key is not this vault's key of epoch {epoch}")]
    WrongKey {
        /// The epoch.
        epoch: u32,
    },
    /// A writer's credential has the keys of one dedup domain, and those of another were wanted.
    #[error("a writer credential has the keys of its own dedup domain alone")]
    OtherDomain,
    /// The key commitment of an object is not that of the key.
    #[error("the key commitment of the {object} does not match")]
    Commitment {
        /// The object.
        object: &'static str,
    },
    /// zstd has other levels, but none that frames are compressed at.
    #[error("compression level {level} is not one of 1 to 19")]
    CompressionLevel {
        /// The level asked for.
        level: u8,
    },
    /// The compressor failed.
    #[error("compressing failed: {reason}")]
    Compress {
        /// What it said.
        reason: String,
    },
    /// A payload does not decompress to what its frame promises.
    #[error("frame does not decompress to {plain_len} bytes")]
    Decompress {
        /// Bytes that were promised.
        plain_len: u32,
    },
    /// A chunk's bytes do not have the id they are stored under.
    #[error("chunk {expected} has other bytes than its id says")]
    ChunkId {
        /// The id it is stored under, as hexadecimal digits.
        expected: String,
    },
    /// What was just sealed does not open to what it was made from: faulty memory or a faulty encoder.
    #[error("a frame that was just sealed does not open to its plaintext; memory or processor may be faulty")]
    ExtraVerify {
        /// What the check said.
        #[source]
        source: Box<Self>,
    },
    /// Chunks do not fill the frame that they are to make.
    #[error("chunks of {chunks_len} bytes were to make a frame of {plain_len}")]
    Unfilled {
        /// Bytes of the frame.
        plain_len: u64,
        /// Bytes of the chunks.
        chunks_len: u64,
    },
    /// A pack or index segment is full.
    #[error("{object} cannot take {count} more")]
    Full {
        /// The object.
        object: &'static str,
        /// How many more.
        count: u64,
    },
}
