//! Frames into one pack: compressed, sealed, checked, and closed with directory and footer.

use coffer_crypto::rng::{self, Rng};
use coffer_crypto::{
    DomainKeys, ObjectKind, Purpose, SealContext, SealKey, SealedAs, SealingPublicKey, hash, seal_to_vault,
};
use coffer_format::id::{DomainId, PackId, VaultId};
use coffer_format::limits::{FRAME_PLAIN_MAX, PACK_FRAME_COUNT_MAX, PACK_LEN_MAX, TAG_LEN};
use coffer_format::pack::{
    ChunkKind, Directory, DirectoryFrame, FRAME_HEAD_LEN, Footer, FrameHead, FramePlace, PACK_FOOTER_LEN,
    PACK_FOOTER_SIZE, PACK_HEAD_LEN, padded_len,
};
use coffer_format::tree::ChunkRef;

use crate::compress::{Compressor, Payload};
use crate::error::PipelineError;
use crate::pack_reader::{FrameReader, chunk_id};

/// A pack of the usual 16 MiB, and something for what surrounds the frames.
const USUAL_LEN_MAX: usize = 17 << 20;

/// To whom packs are sealed: what a writer holds.
#[derive(Debug)]
pub struct PackSealer {
    /// The vault.
    pub vault: VaultId,
    /// Sealing public key of the newest epoch.
    pub sealing_key: SealingPublicKey,
    /// Keys of the dedup domain.
    pub domain: DomainKeys,
}

/// A pack that is ready to be stored.
#[derive(Debug)]
pub struct FinishedPack {
    /// Its name.
    pub id: PackId,
    /// The bytes of the object.
    pub bytes: Vec<u8>,
    /// Its directory.
    pub directory: Directory,
}

/// A pack being written. It lives in one buffer; the key lives as long as the pack.
#[derive(Debug)]
pub struct PackWriter {
    key: SealKey,
    bytes: Vec<u8>,
    hasher: hash::Hasher,
    hashed_len: usize,
    frames: Vec<DirectoryFrame>,
    chunk_count: usize,
    domain: DomainId,
}

impl PackWriter {
    /// Begins a pack in `buffer`, whose contents are dropped and whose memory is used.
    ///
    /// # Errors
    /// [`PipelineError::Crypto`] when randomness or the key encapsulation fails.
    pub fn begin(sealer: &PackSealer, rng: &dyn Rng, buffer: Vec<u8>) -> Result<Self, PipelineError> {
        let salt: [u8; 32] = rng::array(rng)?;
        let domain = *sealer.domain.domain();
        let psk = sealer.domain.psk().expose();
        let sealed =
            seal_to_vault(rng, &sealer.sealing_key, psk, &domain, SealedAs::Pack, &sealer.vault.0, &salt)?;
        let key = SealKey::new(&sealed.key, SealContext::new(sealer.vault.0, ObjectKind::Pack, salt));
        let mut bytes = buffer;
        bytes.clear();
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&sealed.enc[..]);
        bytes.extend_from_slice(&sealed.commitment);
        let hasher = hash::Hasher::new();
        let domain = DomainId(domain);
        Ok(Self { key, bytes, hasher, hashed_len: 0, frames: Vec::new(), chunk_count: 0, domain })
    }

    /// Bytes the pack would have now, before padding.
    #[must_use]
    pub fn stored_len(&self) -> u64 {
        let directory = Directory::plain_len(self.frames.len(), self.chunk_count) as u64;
        self.bytes.len() as u64 + directory + TAG_LEN + PACK_FOOTER_LEN
    }

    /// Whether no frame was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether a frame of `plain_len` bytes and `chunk_count` chunks still fits, padding included.
    #[must_use]
    pub fn has_room(&self, plain_len: usize, chunk_count: usize) -> bool {
        self.len_with(plain_len, chunk_count) <= PACK_LEN_MAX
            && (self.frames.len() as u64) < PACK_FRAME_COUNT_MAX
    }

    /// Bytes the pack would have, padding included, with one frame more: of `payload_len` bytes before it is sealed, and `chunk_count` chunks.
    #[must_use]
    pub fn len_with(&self, payload_len: usize, chunk_count: usize) -> u64 {
        let more = payload_len + Directory::plain_len(1, chunk_count) + FRAME_HEAD_LEN;
        padded_len(self.stored_len() + more as u64 + TAG_LEN)
    }

    /// Compresses and seals `plain`, which `chunks` fill in their order, as the next frame.
    ///
    /// # Errors
    /// [`PipelineError::Full`] when [`Self::has_room`] would say no, [`PipelineError::Unfilled`] when the chunks do not fill `plain`; else what compressor or seal say. The pack is then as before.
    pub fn add_frame(
        &mut self,
        kind: ChunkKind,
        plain: &[u8],
        chunks: Vec<ChunkRef>,
        compressor: &mut Compressor,
    ) -> Result<(), PipelineError> {
        self.add_payload(kind, &compressor.compress(plain)?, chunks)
    }

    /// Seals what was compressed before, as [`Self::add_frame`] does.
    ///
    /// # Errors
    /// As its.
    pub fn add_payload(
        &mut self,
        kind: ChunkKind,
        payload: &Payload<'_>,
        chunks: Vec<ChunkRef>,
    ) -> Result<(), PipelineError> {
        // Nothing is sealed that no reader could take apart.
        let full_len = payload.plain_len as u64;
        let chunks_len: u64 = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        if chunks_len != full_len {
            return Err(PipelineError::Unfilled { plain_len: full_len, chunks_len });
        }
        let full = |_| PipelineError::Full { object: "pack", count: full_len };
        let plain_len = u32::try_from(payload.plain_len).map_err(full)?;
        if !self.has_room(payload.plain_len, chunks.len()) || plain_len == 0 || full_len > FRAME_PLAIN_MAX {
            return Err(PipelineError::Full { object: "pack", count: full_len });
        }
        let start = self.bytes.len();
        let ordinal = u32::try_from(self.frames.len()).map_err(full)?;
        self.make_room(FRAME_HEAD_LEN + payload.bytes.len() + coffer_crypto::TAG_LEN);
        self.bytes.extend_from_slice(&FrameHead { codec: payload.codec, kind, plain_len }.encode());
        self.bytes.extend_from_slice(payload.bytes);
        if let Err(error) = self.key.seal_in_place(Purpose::Frame, ordinal, &mut self.bytes, start) {
            self.bytes.truncate(start);
            return Err(error.into());
        }
        self.hash_new();
        let place = FramePlace {
            offset: u32::try_from(start).map_err(full)?,
            sealed_len: u32::try_from(self.bytes.len() - start).map_err(full)?,
            plain_len,
        };
        self.chunk_count += chunks.len();
        self.frames.push(DirectoryFrame { place, chunks });
        Ok(())
    }

    /// Opens the newest frame again, decompresses it and rehashes its chunks, as a reader would. It does so in `room`, whatever is in it: memory
    /// as long as the frame, which the caller has anyway.
    ///
    /// # Errors
    /// [`PipelineError::ExtraVerify`] when it does not give back what was put in: nothing of this pack may be stored then.
    pub fn verify_newest(
        &self,
        keys: &DomainKeys,
        reader: &mut FrameReader,
        room: &mut Vec<u8>,
    ) -> Result<(), PipelineError> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let from = frame.place.offset as usize;
        let sealed = &self.bytes[from..from + frame.place.sealed_len as usize];
        let ordinal = (self.frames.len() - 1) as u64;
        let check = |reader: &mut FrameReader| -> Result<(), PipelineError> {
            let (kind, plain) = reader.open_with(&self.key, ordinal, frame.place.plain_len, sealed)?;
            let mut rest = plain;
            for chunk in &frame.chunks {
                let other = || PipelineError::ChunkId { expected: chunk.id.to_string() };
                let (bytes, others) = rest.split_at_checked(chunk.len as usize).ok_or_else(other)?;
                rest = others;
                if chunk_id(keys, kind, bytes) != chunk.id {
                    return Err(other());
                }
            }
            if rest.is_empty() {
                Ok(())
            } else {
                Err(PipelineError::Decompress { plain_len: frame.place.plain_len })
            }
        };
        let lens = (frame.place.sealed_len, frame.place.plain_len);
        reader
            .with_room(room, lens, check)
            .map_err(|source| PipelineError::ExtraVerify { source: Box::new(source) })
    }

    /// Closes the pack with its directory, padding and footer.
    ///
    /// # Errors
    /// [`PipelineError::Full`] when limits are exceeded, which [`Self::add_frame`] prevents.
    pub fn finish(mut self) -> Result<FinishedPack, PipelineError> {
        let full = |_| PipelineError::Full { object: "pack", count: 0 };
        let padded = usize::try_from(padded_len(self.stored_len()))
            .map_err(|_| PipelineError::Full { object: "pack", count: 0 })?;
        let directory = Directory { domain: self.domain, frames: self.frames };
        let start = self.bytes.len();
        directory.encode(&mut self.bytes)?;
        let plain_len = self.bytes.len() - start;
        let tags_and_footer = coffer_crypto::TAG_LEN + PACK_FOOTER_SIZE;
        self.bytes.resize(padded - tags_and_footer, 0);
        self.key.seal_in_place(Purpose::PackDirectory, 0, &mut self.bytes, start)?;
        let footer = Footer {
            directory_offset: start as u64,
            directory_sealed_len: (self.bytes.len() - start) as u64,
            directory_plain_len: plain_len as u64,
            frame_count: u32::try_from(directory.frames.len()).map_err(full)?,
        };
        let footer_start = self.bytes.len();
        self.bytes.extend_from_slice(&footer.encode());
        self.key.seal_in_place(Purpose::PackFooter, 0, &mut self.bytes, footer_start)?;
        debug_assert_eq!(self.bytes.len(), padded, "a pack has its padded length");
        self.hasher.update(&self.bytes[self.hashed_len..]);
        let id = PackId(self.hasher.finalize());
        Ok(FinishedPack { id, bytes: self.bytes, directory })
    }

    /// Memory for so many bytes more. It grows twofold up to what a pack of the usual length takes, and not beyond that for nothing: packs are
    /// the most of what a backup has in memory.
    fn make_room(&mut self, more: usize) {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        let needed = len + more;
        if needed <= capacity {
            return;
        }
        let wanted =
            if needed > USUAL_LEN_MAX { needed + needed / 4 } else { (2 * capacity).min(USUAL_LEN_MAX) };
        self.bytes.reserve_exact(wanted.max(needed) - len);
    }

    /// Hashes what was appended since the last time, while it is in the processor's caches.
    fn hash_new(&mut self) {
        self.hasher.update(&self.bytes[self.hashed_len..]);
        self.hashed_len = self.bytes.len();
    }
}

const _: () = assert!(PACK_HEAD_LEN < PACK_LEN_MAX);

#[cfg(test)]
mod tests;
