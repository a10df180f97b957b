//! AES-256-GCM with a nonce from the caller, twice. Private: [`crate::seal`] and [`crate::wrap`] decide nonces.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

pub(crate) const NONCE_LEN: usize = 12;
pub(crate) const TAG_LEN: usize = 16;

/// The reason is kept from callers: too long when sealing, a wrong tag when opening.
#[derive(Debug)]
pub(crate) struct Failed;

/// One key of AES-256-GCM.
pub(crate) trait Gcm: Sized {
    fn new(key: &[u8; 32]) -> Self;

    /// Encrypts in place and returns the tag. After a failure `text` is not to be used.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], Failed>;

    /// Decrypts in place. After a failure `text` is not to be used.
    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Failed>;

    /// Decrypts `text` into `out`, which has the same length. After a failure `out` is not to be used.
    fn open_to(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), Failed>;
}

/// AWS-LC, in assembly: the bulk of all bytes. It wipes the key schedule when it is freed.
pub(crate) struct AwsLcGcm(LessSafeKey);

impl Gcm for AwsLcGcm {
    fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are the length of the key");
        Self(LessSafeKey::new(key))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], Failed> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text).map_err(|_| Failed)?;
        tag.as_ref().try_into().map_err(|_| Failed)
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Failed> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text).map_err(|_| Failed)?;
        Ok(())
    }

    fn open_to(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), Failed> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), text, tag, out).map_err(|_| Failed)
    }
}

/// The RustCrypto implementation: portable, and a second opinion on every byte.
pub(crate) struct PortableGcm(Aes256Gcm);

impl Gcm for PortableGcm {
    fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], Failed> {
        let tag = self.0.encrypt_inout_detached(nonce.into(), aad, text.into()).map_err(|_| Failed)?;
        Ok(tag.into())
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Failed> {
        self.0.decrypt_inout_detached(nonce.into(), aad, text.into(), tag.into()).map_err(|_| Failed)
    }

    fn open_to(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), Failed> {
        out.copy_from_slice(text);
        self.open(nonce, aad, out, tag)
    }
}

#[cfg(test)]
mod tests;
