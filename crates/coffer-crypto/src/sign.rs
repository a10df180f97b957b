//! Ed25519 signatures (RFC 8032), verified strictly.
//!
//! Strict means that two readers cannot disagree: the point of a key and of a signature and the scalar of a
//! signature have one encoding each, points of small order are refused in both places, and the equation is
//! checked without a cofactor.

use std::fmt;

use ed25519_dalek::Signer;

use crate::error::CryptoError;
use crate::secret::Secret;

const RECORD_PREFIX: &[u8] = b"coffer/1 log record\0";

/// A key that signs log records. The seed is wiped on drop.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key with this 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &Secret<32>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }

    /// The seed, to store it in a credential.
    #[must_use]
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs `message` as it is.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// Signs the public part of a log record (section 8.1).
    #[must_use]
    pub fn sign_record(&self, public_part: &[u8]) -> [u8; 64] {
        self.sign(&record_message(public_part))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

/// A key that verifies log records: a canonical point that is not of small order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Checks and takes the 32 bytes of a key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] when they are no point, not its one canonical encoding, or of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CryptoError> {
        let invalid = CryptoError::InvalidKey { what: "verifying key" };
        match ed25519_dalek::VerifyingKey::from_bytes(bytes) {
            Ok(key) if !key.is_weak() && key.to_edwards().compress().as_bytes() == bytes => Ok(Self(key)),
            _ => Err(invalid),
        }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Verifies a signature over `message` as it is.
    ///
    /// # Errors
    /// [`CryptoError::Signature`], whatever the reason.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), CryptoError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).map_err(|_| CryptoError::Signature)
    }

    /// Verifies the signature of a log record over its public part (section 8.1).
    ///
    /// # Errors
    /// [`CryptoError::Signature`], whatever the reason.
    pub fn verify_record(&self, public_part: &[u8], signature: &[u8; 64]) -> Result<(), CryptoError> {
        self.verify(&record_message(public_part), signature)
    }
}

fn record_message(public_part: &[u8]) -> Vec<u8> {
    [RECORD_PREFIX, public_part].concat()
}

#[cfg(test)]
mod tests;
