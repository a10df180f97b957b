//! Packs back into chunks: the key from the head, frames by range, the directory from the end.

use coffer_crypto::{
    DomainKeys, ObjectKind, Purpose, SealContext, SealKey, SealedAs, SealingKeyPair, commitment_matches,
    open_from_vault,
};
use coffer_format::FormatError;
use coffer_format::id::{ChunkId, VaultId};
use coffer_format::limits::{PACK_LEN_MAX, PACK_LEN_MIN};
use coffer_format::pack::{
    ChunkKind, Codec, Directory, FRAME_HEAD_LEN, Footer, FrameHead, PACK_FOOTER_SIZE, PACK_HEAD_SIZE,
};

use crate::compress::Decompressor;
use crate::error::PipelineError;

/// The id that `bytes` have as a chunk of this kind.
#[must_use]
pub fn chunk_id(keys: &DomainKeys, kind: ChunkKind, bytes: &[u8]) -> ChunkId {
    ChunkId(match kind {
        ChunkKind::Data => keys.data_id(bytes),
        ChunkKind::Meta => keys.meta_id(bytes),
    })
}

const fn short() -> FormatError {
    FormatError::Malformed { object: "pack", offset: 0, rule: "it ends too early" }
}

/// The key of one pack, for reading.
#[derive(Debug)]
pub struct PackKey {
    key: SealKey,
}

impl PackKey {
    /// Finds the key from the first [`PACK_HEAD_SIZE`] bytes of a pack.
    ///
    /// # Errors
    /// [`PipelineError::Commitment`] when the pack is not of this epoch, domain and vault, or its head is damaged.
    pub fn open(
        vault: VaultId,
        pair: &SealingKeyPair,
        keys: &DomainKeys,
        head: &[u8; PACK_HEAD_SIZE],
    ) -> Result<Self, PipelineError> {
        let (salt, rest) = head.split_first_chunk().ok_or_else(short)?;
        let (enc, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (commitment, _) = rest.split_first_chunk().ok_or_else(short)?;
        let (domain, psk) = (keys.domain(), keys.psk().expose());
        let (key, expected) = open_from_vault(pair, psk, domain, SealedAs::Pack, &vault.0, salt, enc)?;
        if !commitment_matches(&expected, commitment) {
            return Err(PipelineError::Commitment { object: "pack" });
        }
        Ok(Self { key: SealKey::new(&key, SealContext::new(vault.0, ObjectKind::Pack, *salt)) })
    }

    /// Opens the footer of a pack of `pack_len` bytes from its last [`PACK_FOOTER_SIZE`] bytes.
    ///
    /// # Errors
    /// When it does not open or does not fit the pack.
    pub fn footer(&self, sealed: &[u8; PACK_FOOTER_SIZE], pack_len: u64) -> Result<Footer, PipelineError> {
        if pack_len < PACK_LEN_MIN {
            return Err(short().into());
        }
        if pack_len > PACK_LEN_MAX {
            return Err(FormatError::TooLong { object: "pack", actual: pack_len, limit: PACK_LEN_MAX }.into());
        }
        let mut sealed = *sealed;
        let plain = self.key.open_in_place(Purpose::PackFooter, 0, &mut sealed)?;
        Ok(Footer::decode(plain, pack_len)?)
    }

    /// Opens the directory from its sealed bytes, whose place `footer` gives.
    ///
    /// # Errors
    /// When it does not open or does not fit the footer.
    pub fn directory(&self, footer: &Footer, mut sealed: Vec<u8>) -> Result<Directory, PipelineError> {
        let plain = self.key.open_in_place(Purpose::PackDirectory, 0, &mut sealed)?;
        let fail = |rule| FormatError::Malformed { object: "pack directory", offset: 0, rule };
        let len = usize::try_from(footer.directory_plain_len).ok().filter(|len| *len <= plain.len());
        let (rows, zeros) =
            plain.split_at(len.ok_or_else(|| fail("its length is not what the footer says"))?);
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(fail("its padding is not zeros").into());
        }
        let directory = Directory::decode(rows, footer.directory_offset)?;
        if directory.frames.len() as u64 != u64::from(footer.frame_count) {
            return Err(fail("its frame count is not what the footer says").into());
        }
        Ok(directory)
    }
}

/// Opens and decompresses frames, keeping its buffers between them.
#[derive(Debug)]
pub struct FrameReader {
    decompressor: Decompressor,
    opened: Vec<u8>,
    plain: Vec<u8>,
    last: Option<(ChunkKind, Codec)>,
}

impl FrameReader {
    /// A reader with its context.
    ///
    /// # Errors
    /// [`PipelineError::Compress`] when zstd cannot allocate.
    pub fn new() -> Result<Self, PipelineError> {
        Ok(Self { decompressor: Decompressor::new()?, opened: Vec::new(), plain: Vec::new(), last: None })
    }

    /// Opens frame number `ordinal` and returns the kind of its chunks and their bytes, `plain_len` in all.
    ///
    /// # Errors
    /// When the frame does not open, is malformed, or does not yield exactly that.
    pub fn open(
        &mut self,
        pack: &PackKey,
        ordinal: u64,
        plain_len: u32,
        sealed: &[u8],
    ) -> Result<(ChunkKind, &[u8]), PipelineError> {
        self.open_with(&pack.key, ordinal, plain_len, sealed)
    }

    pub(crate) fn open_with(
        &mut self,
        key: &SealKey,
        ordinal: u64,
        plain_len: u32,
        sealed: &[u8],
    ) -> Result<(ChunkKind, &[u8]), PipelineError> {
        let ordinal = u32::try_from(ordinal).map_err(|_| FormatError::Malformed {
            object: "frame",
            offset: 0,
            rule: "its number is over the limit",
        })?;
        self.last = None;
        key.open_to(Purpose::Frame, ordinal, sealed, &mut self.opened)?;
        let (head, payload) = FrameHead::decode(&self.opened)?;
        if head.plain_len != plain_len {
            return Err(PipelineError::Decompress { plain_len });
        }
        let (kind, codec) = (head.kind, head.codec);
        if codec == Codec::Zstd {
            self.decompressor.replace(payload, plain_len, &mut self.plain)?;
        }
        self.last = Some((kind, codec));
        Ok((kind, if codec == Codec::Zstd { &self.plain } else { &self.opened[FRAME_HEAD_LEN..] }))
    }

    /// What the last call of [`Self::open`] gave, unless it failed.
    #[must_use]
    pub fn last(&self) -> Option<(ChunkKind, &[u8])> {
        let (kind, codec) = self.last?;
        Some((kind, if codec == Codec::Zstd { &self.plain } else { self.opened.get(FRAME_HEAD_LEN..)? }))
    }

    /// Does `work` with `room` as the buffer that a frame of this length needs most of, and then forgets what it opened.
    pub(crate) fn with_room<R>(
        &mut self,
        room: &mut Vec<u8>,
        (sealed_len, plain_len): (u32, u32),
        work: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let is_stored = sealed_len >= plain_len;
        let buffer = |reader: &mut Self, room: &mut Vec<u8>| {
            std::mem::swap(if is_stored { &mut reader.opened } else { &mut reader.plain }, room);
        };
        buffer(self, room);
        let result = work(self);
        self.last = None;
        buffer(self, room);
        result
    }

    /// The bytes of the frame opened last are wiped from sight: a failed call leaves nothing to be used by mistake.
    pub fn clear(&mut self) {
        self.last = None;
        self.opened.clear();
        self.plain.clear();
    }
}

#[cfg(test)]
mod tests;
