//! A vault's keys, packs that are not what they should be, and bytes, for tests.

use coffer_crypto::rng::{SeededRng, array};
use coffer_crypto::{
    DomainKeys, ObjectKind, Purpose, ReaderSecret, SealContext, SealKey, SealedAs, SealingKeyPair, VaultKey,
    seal_to_vault,
};
use coffer_format::id::{DomainId, VaultId};
use coffer_format::pack::{ChunkKind, Directory, DirectoryFrame, Footer, FramePlace};
use coffer_format::tree::ChunkRef;

use crate::compress::{Compression, Compressor};
use crate::pack_reader::chunk_id;
use crate::pack_writer::{FinishedPack, PackSealer, PackWriter};

/// The keys of one epoch of a vault.
pub(crate) struct World {
    pub(crate) vault: VaultId,
    pub(crate) vault_key: VaultKey,
    pub(crate) reader: ReaderSecret,
    pub(crate) pair: SealingKeyPair,
    pub(crate) domain: DomainId,
    pub(crate) keys: DomainKeys,
}

impl World {
    /// All of it follows from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let rng = SeededRng::new(seed);
        let vault_key = VaultKey::generate(&rng).unwrap();
        let reader = vault_key.reader();
        let domain = DomainId::owner(0);
        Self {
            vault: VaultId(array(&rng).unwrap()),
            pair: reader.sealing(),
            keys: reader.domain_keys(&domain.0),
            vault_key,
            reader,
            domain,
        }
    }

    /// Keys of another domain of the same epoch.
    pub(crate) fn other_domain(&self) -> DomainKeys {
        let mut domain = self.domain;
        domain.0[15] = 1;
        self.reader.domain_keys(&domain.0)
    }

    pub(crate) fn sealer(&self) -> PackSealer {
        PackSealer {
            vault: self.vault,
            sealing_key: self.pair.public().clone(),
            domain: self.reader.domain_keys(&self.domain.0),
        }
    }

    pub(crate) fn chunk(&self, kind: ChunkKind, bytes: &[u8]) -> ChunkRef {
        ChunkRef { id: chunk_id(&self.keys, kind, bytes), len: u32::try_from(bytes.len()).unwrap() }
    }

    /// A pack of frames, each of chunks.
    pub(crate) fn pack(&self, rng: &SeededRng, frames: &[(ChunkKind, Vec<Vec<u8>>)]) -> FinishedPack {
        let mut writer = PackWriter::begin(&self.sealer(), rng, Vec::new()).unwrap();
        let mut compressor = Compressor::new(Compression::Auto).unwrap();
        for (kind, chunks) in frames {
            let rows = chunks.iter().map(|bytes| self.chunk(*kind, bytes)).collect();
            writer.add_frame(*kind, &chunks.concat(), rows, &mut compressor).unwrap();
        }
        writer.finish().unwrap()
    }

    /// A pack whose seals are sound, around what is given: what a writer with the vault's keys could store. `directory`
    /// and `footer` change what stands there before it is sealed; the directory's plaintext comes with 100 zeros.
    pub(crate) fn crafted_pack(
        &self,
        frames: &[Vec<u8>],
        directory: impl FnOnce(&mut Vec<u8>),
        footer: impl FnOnce(&mut Footer),
    ) -> Vec<u8> {
        let rng = SeededRng::new(99);
        let salt: [u8; 32] = array(&rng).unwrap();
        let (psk, domain) = (self.keys.psk().expose(), &self.domain.0);
        let sealed =
            seal_to_vault(&rng, self.pair.public(), psk, domain, SealedAs::Pack, &self.vault.0, &salt)
                .unwrap();
        let key = SealKey::new(&sealed.key, SealContext::new(self.vault.0, ObjectKind::Pack, salt));
        let mut bytes = [&salt[..], &sealed.enc[..], &sealed.commitment].concat();
        let mut rows = Vec::new();
        for (number, plain) in (0..).zip(frames) {
            let offset = bytes.len();
            bytes.extend_from_slice(plain);
            key.seal_in_place(Purpose::Frame, number, &mut bytes, offset).unwrap();
            let plain_len = u32::from_le_bytes(plain[4..8].try_into().unwrap());
            let place = FramePlace {
                offset: u32::try_from(offset).unwrap(),
                sealed_len: u32::try_from(bytes.len() - offset).unwrap(),
                plain_len,
            };
            let id = chunk_id(&self.keys, ChunkKind::Data, plain);
            rows.push(DirectoryFrame { place, chunks: vec![ChunkRef { id, len: plain_len }] });
        }
        let start = bytes.len();
        let frame_count = u32::try_from(rows.len()).unwrap();
        let mut plain = Vec::new();
        Directory { domain: self.domain, frames: rows }.encode(&mut plain).unwrap();
        let directory_plain_len = plain.len() as u64;
        plain.resize((plain.len() + 100).max(65_536 - start - 64), 0);
        directory(&mut plain);
        bytes.extend_from_slice(&plain);
        key.seal_in_place(Purpose::PackDirectory, 0, &mut bytes, start).unwrap();
        let mut last = Footer {
            directory_offset: start as u64,
            directory_sealed_len: (bytes.len() - start) as u64,
            directory_plain_len,
            frame_count,
        };
        footer(&mut last);
        let start = bytes.len();
        bytes.extend_from_slice(&last.encode());
        key.seal_in_place(Purpose::PackFooter, 0, &mut bytes, start).unwrap();
        bytes
    }
}

/// The first `len` bytes that follow from `seed`: incompressible, and never twice the same.
pub(crate) fn random(seed: &str, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Bytes that compress well: lines of a log.
pub(crate) fn text(len: usize) -> Vec<u8> {
    let lines = (0_u64..).flat_map(|n| format!("line {n}: nothing happened at {}\n", n * 977).into_bytes());
    lines.take(len).collect()
}
