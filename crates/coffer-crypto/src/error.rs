//! The crate's one error type.

use crate::seal::Purpose;

/// What can go wrong with keys and seals.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// The source of randomness gave nothing; no key was made.
    #[error("random bytes are not available")]
    Random {
        /// What the source said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A sealed thing did not open: wrong key, wrong place or altered bytes, which are not told apart.
    #[error("{what} does not open")]
    Open {
        /// What was being opened.
        what: Purpose,
    },
    /// A thing is longer than AES-GCM can seal under one nonce.
    #[error("{what} of {len} bytes cannot be sealed")]
    SealLen {
        /// What was being sealed.
        what: Purpose,
        /// Its length in bytes.
        len: u64,
    },
    /// Bytes that should be a key are none.
    #[error("invalid {what}")]
    InvalidKey {
        /// Which key.
        what: &'static str,
    },
    /// Something of fixed length has another length.
    #[error("{what} is {actual_len} bytes instead of {expected_len}")]
    Len {
        /// What it is.
        what: &'static str,
        /// The length it must have, in bytes.
        expected_len: u64,
        /// The length it has, in bytes.
        actual_len: u64,
    },
    /// A key could not be encapsulated to the vault's sealing key.
    #[error("cannot encapsulate to the sealing key")]
    Encapsulate,
    /// A key could not be decapsulated. A wrong key or PSK shows as a wrong commitment, not here.
    #[error("cannot decapsulate with the sealing key")]
    Decapsulate,
    /// A signature is not by this key over this message, or is not in strict form.
    #[error("signature does not verify")]
    Signature,
    /// An Argon2id parameter is outside the limits of the format.
    #[error("argon2id {name} is {value}, allowed are {min} to {max}")]
    Argon2Param {
        /// Which parameter, with its unit where it has one.
        name: &'static str,
        /// The value found.
        value: u32,
        /// The smallest allowed value.
        min: u32,
        /// The largest allowed value.
        max: u32,
    },
    /// Argon2id needs more memory than could be had.
    #[error("cannot allocate {memory_kib} KiB for argon2id")]
    Memory {
        /// The memory asked for, in KiB.
        memory_kib: u32,
    },
    /// A passphrase is longer than Argon2id takes.
    #[error("passphrase of {len} bytes is too long")]
    PassphraseLen {
        /// Its length in bytes.
        len: u64,
    },
}
