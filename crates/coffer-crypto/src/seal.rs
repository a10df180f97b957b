//! AES-256-GCM bound to its place (section 5.1).
//!
//! Every seal names a vault, an object by its salt, and a purpose and ordinal in that object. Nonce and additional
//! data follow from these and cannot be chosen. A key belongs to one object: sealing two different plaintexts with
//! the same key, purpose and ordinal breaks both, and is what callers have to rule out.

use std::fmt;

use crate::error::CryptoError;
use crate::hazmat::{AwsLcGcm, Gcm, NONCE_LEN, PortableGcm};
use crate::secret::Secret;

/// Bytes that a seal adds.
pub const TAG_LEN: usize = crate::hazmat::TAG_LEN;

/// Most bytes of [`SealContext::with_extra`].
pub const EXTRA_LEN_MAX: usize = 40;

const AAD_LEN: usize = 80;
const AAD_PURPOSE: usize = 41;
const AAD_ORDINAL: usize = 44;

/// The kind of object that holds a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ObjectKind {
    /// A pack.
    Pack = 1,
    /// An index segment.
    IndexSegment = 2,
    /// A log record.
    LogRecord = 3,
    /// A key slot.
    KeySlot = 4,
    /// The details of an epoch record.
    EpochRecord = 5,
}

/// What is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// A frame of a pack; the ordinal is its number in the pack.
    Frame = 1,
    /// The directory of a pack; ordinal 0.
    PackDirectory = 2,
    /// The footer of a pack; ordinal 0.
    PackFooter = 3,
    /// A page of a frame table; the ordinal is its number.
    FrameTablePage = 4,
    /// A page of a chunk table; the ordinal is its number.
    ChunkTablePage = 5,
    /// The body of a log record; ordinal 0.
    RecordBody = 6,
    /// A wrapped key; ordinal 0.
    WrappedKey = 7,
    /// The vault key of the epoch before; the ordinal is the new epoch.
    PreviousVaultKey = 8,
    /// The reader secret of the epoch before; the ordinal is the new epoch.
    PreviousReaderSecret = 9,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frame => "frame",
            Self::PackDirectory => "pack directory",
            Self::PackFooter => "pack footer",
            Self::FrameTablePage => "frame table page",
            Self::ChunkTablePage => "chunk table page",
            Self::RecordBody => "record body",
            Self::WrappedKey => "wrapped key",
            Self::PreviousVaultKey => "previous vault key",
            Self::PreviousReaderSecret => "previous reader secret",
        })
    }
}

/// The object that all seals under one key belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext {
    vault_id: [u8; 32],
    kind: ObjectKind,
    salt: [u8; 32],
    extra: [u8; EXTRA_LEN_MAX],
    extra_len: usize,
}

impl SealContext {
    /// A context without extra bytes.
    #[must_use]
    pub fn new(vault_id: [u8; 32], kind: ObjectKind, salt: [u8; 32]) -> Self {
        Self { vault_id, kind, salt, extra: [0; EXTRA_LEN_MAX], extra_len: 0 }
    }

    /// The same with `extra` at the end: for record bodies, n as `u64` and the signer. At most
    /// [`EXTRA_LEN_MAX`] bytes, which the compiler checks.
    #[must_use]
    pub fn with_extra<const N: usize>(mut self, extra: &[u8; N]) -> Self {
        const { assert!(N <= EXTRA_LEN_MAX) };
        self.extra = [0; EXTRA_LEN_MAX];
        self.extra[..N].copy_from_slice(extra);
        self.extra_len = N;
        self
    }
}

/// The nonce of section 5.1.
pub(crate) fn nonce(purpose: Purpose, ordinal: u32) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = purpose as u8;
    nonce[8..].copy_from_slice(&ordinal.to_le_bytes());
    nonce
}

/// The additional data of section 5.1, with purpose and ordinal filled in for each seal.
#[derive(Clone, Copy)]
struct AdditionalData {
    bytes: [u8; AAD_LEN + EXTRA_LEN_MAX],
    len: usize,
}

impl AdditionalData {
    fn new(context: &SealContext) -> Self {
        let mut bytes = [0; AAD_LEN + EXTRA_LEN_MAX];
        bytes[..8].copy_from_slice(b"coffer/1");
        bytes[8..40].copy_from_slice(&context.vault_id);
        bytes[40] = context.kind as u8;
        bytes[48..80].copy_from_slice(&context.salt);
        bytes[80..].copy_from_slice(&context.extra);
        Self { bytes, len: AAD_LEN + context.extra_len }
    }

    fn for_seal(mut self, purpose: Purpose, ordinal: u32) -> Self {
        self.bytes[AAD_PURPOSE] = purpose as u8;
        self.bytes[AAD_ORDINAL..AAD_ORDINAL + 4].copy_from_slice(&ordinal.to_le_bytes());
        self
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A key and the object it belongs to, over either implementation.
struct Bound<G> {
    gcm: G,
    aad: AdditionalData,
}

impl<G: Gcm> Bound<G> {
    fn new(key: &Secret<32>, context: &SealContext) -> Self {
        Self { gcm: G::new(key.expose()), aad: AdditionalData::new(context) }
    }

    fn seal_in_place(
        &self,
        purpose: Purpose,
        ordinal: u32,
        buf: &mut Vec<u8>,
        from: usize,
    ) -> Result<(), CryptoError> {
        let aad = self.aad.for_seal(purpose, ordinal);
        let plain = &mut buf[from..];
        let len = plain.len() as u64;
        let Ok(tag) = self.gcm.seal(&nonce(purpose, ordinal), aad.as_slice(), plain) else {
            buf.truncate(from);
            return Err(CryptoError::SealLen { what: purpose, len });
        };
        buf.extend_from_slice(&tag);
        Ok(())
    }

    fn open_in_place<'a>(
        &self,
        purpose: Purpose,
        ordinal: u32,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        let failed = CryptoError::Open { what: purpose };
        let Some((text, tag)) = sealed.split_last_chunk_mut() else {
            return Err(failed);
        };
        let aad = self.aad.for_seal(purpose, ordinal);
        match self.gcm.open(&nonce(purpose, ordinal), aad.as_slice(), text, tag) {
            Ok(()) => Ok(text),
            Err(_) => Err(failed),
        }
    }

    fn open_to(
        &self,
        purpose: Purpose,
        ordinal: u32,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let opened = sealed.split_last_chunk().is_some_and(|(text, tag)| {
            // Without clearing first: bytes that are there already need not be zeroed to be overwritten. No more memory than is needed:
            // buffers live long.
            out.reserve_exact(text.len().saturating_sub(out.len()));
            out.resize(text.len(), 0);
            let aad = self.aad.for_seal(purpose, ordinal);
            self.gcm.open_to(&nonce(purpose, ordinal), aad.as_slice(), text, tag, out).is_ok()
        });
        if !opened {
            out.clear();
            return Err(CryptoError::Open { what: purpose });
        }
        Ok(())
    }
}

macro_rules! seal_key {
    ($(#[$doc:meta])* $name:ident, $gcm:ty) => {
        $(#[$doc])*
        pub struct $name(Bound<$gcm>);

        impl $name {
            /// The key of the object that `context` names.
            #[must_use]
            pub fn new(key: &Secret<32>, context: SealContext) -> Self {
                Self(Bound::new(key, &context))
            }

            /// Encrypts `buf[from..]` in place and appends the tag ([`TAG_LEN`] bytes). What is before `from`
            /// stays as it is. Reserve room for the tag, or plaintext may be left behind in freed memory.
            ///
            /// # Errors
            /// [`CryptoError::SealLen`] beyond what AES-GCM can seal (64 GiB); `buf` then ends at `from`.
            ///
            /// # Panics
            /// When `from` is beyond the end of `buf`.
            pub fn seal_in_place(
                &self,
                purpose: Purpose,
                ordinal: u32,
                buf: &mut Vec<u8>,
                from: usize,
            ) -> Result<(), CryptoError> {
                self.0.seal_in_place(purpose, ordinal, buf, from)
            }

            /// Decrypts `sealed` (ciphertext and tag) in place and returns the plaintext: all but the tag.
            ///
            /// # Errors
            /// [`CryptoError::Open`], whatever the reason; what is in `sealed` then is not to be used.
            pub fn open_in_place<'a>(
                &self,
                purpose: Purpose,
                ordinal: u32,
                sealed: &'a mut [u8],
            ) -> Result<&'a mut [u8], CryptoError> {
                self.0.open_in_place(purpose, ordinal, sealed)
            }

            /// Decrypts `sealed` (ciphertext and tag) into `out`, whose earlier contents are replaced.
            ///
            /// # Errors
            /// [`CryptoError::Open`], whatever the reason; `out` is then empty.
            pub fn open_to(
                &self,
                purpose: Purpose,
                ordinal: u32,
                sealed: &[u8],
                out: &mut Vec<u8>,
            ) -> Result<(), CryptoError> {
                self.0.open_to(purpose, ordinal, sealed, out)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

seal_key! {
    /// Seals and opens what belongs to one object, at the speed of the processor's AES instructions.
    SealKey, AwsLcGcm
}

seal_key! {
    /// As [`SealKey`], byte for byte, in portable Rust: a check on the other, and for where AWS-LC is not to be had.
    PortableSealKey, PortableGcm
}

#[cfg(test)]
mod tests;
