//! The primitives, as bare as their libraries offer them.

use anyhow::{Context, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// As long as what the format adds to a seal.
const AAD: [u8; 80] = [7; 80];
const NONCE: [u8; 12] = [9; 12];

/// AES-256-GCM of AWS-LC.
pub(crate) struct RawGcm(LessSafeKey);

impl RawGcm {
    pub(crate) fn new() -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &[3; 32]).ok().context("a key of 32 bytes")?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts in place; the tag.
    pub(crate) fn seal(&self, text: &mut [u8]) -> Vec<u8> {
        let nonce = Nonce::assume_unique_for_key(NONCE);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(AAD), text);
        tag.map(|tag| tag.as_ref().to_vec()).unwrap_or_default()
    }

    /// Decrypts from one buffer into another.
    pub(crate) fn open(&self, text: &[u8], tag: &[u8], out: &mut [u8]) {
        let nonce = Nonce::assume_unique_for_key(NONCE);
        let opened = self.0.open_separate_gather(nonce, Aad::from(AAD), text, tag, out);
        assert!(opened.is_ok(), "what was sealed opens");
    }
}

/// Level and window, as a power of two, of `auto`.
const LEVEL: i32 = 2;
const WINDOW_LOG: u32 = 22;

/// zstd with contexts that are kept, as a caller would use it who knows nothing of frames.
pub(crate) struct RawZstd {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    out: Vec<u8>,
}

impl RawZstd {
    pub(crate) fn new() -> Result<Self> {
        let (mut compressor, decompressor) =
            (zstd::bulk::Compressor::new(LEVEL)?, zstd::bulk::Decompressor::new()?);
        compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(WINDOW_LOG))?;
        Ok(Self { compressor, decompressor, out: Vec::new() })
    }

    /// What `plain` becomes; it stays in a buffer that is used again.
    pub(crate) fn compress(&mut self, plain: &[u8]) -> &[u8] {
        self.out.resize(zstd::zstd_safe::compress_bound(plain.len()), 0);
        let len = self.compressor.compress_to_buffer(plain, &mut self.out[..]);
        &self.out[..len.expect("there is room for any result")]
    }

    pub(crate) fn decompress(&mut self, payload: &[u8], out: &mut [u8]) {
        let len = self.decompressor.decompress_to_buffer(payload, out);
        assert!(len.is_ok_and(|len| len == out.len()), "what was compressed comes back");
    }
}
