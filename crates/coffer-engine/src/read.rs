//! Chunks out of packs, with every way around damage that the format offers.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_crypto::DomainKeys;
use coffer_format::id::{ChunkId, DomainId, PackId, SegmentId, VaultId};
use coffer_format::index::PackRow;
use coffer_format::limits::PACK_LEN_MAX;
use coffer_format::object::{ObjectName, PACKS_PREFIX};
use coffer_format::pack::{ChunkKind, PACK_FOOTER_SIZE, PACK_HEAD_SIZE};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::keyring::Keyring;
use coffer_pipeline::pack_reader::{FrameReader, PackKey, chunk_id};
use coffer_store::{ListItem, ObjectStore};

use crate::access::key_of;
use crate::cache::Cache;
use crate::error::EngineError;
use crate::index::{Index, Place};
use crate::vault::Vault;

/// Keys of packs kept: each spares a key decapsulation.
const PACK_KEY_COUNT_MAX: usize = 4096;
/// Decoded frames kept by one reader.
const FRAME_COUNT_MAX: usize = 4;

/// Opens frames of packs of one dedup domain. Shared by threads.
#[derive(Debug)]
pub(crate) struct Packs<'v> {
    store: &'v dyn ObjectStore,
    vault: VaultId,
    keyring: Arc<Keyring>,
    domain: DomainKeys,
    keys: Mutex<HashMap<PackId, Arc<PackKey>>>,
}

impl<'v> Packs<'v> {
    pub(crate) fn new(vault: &Vault<'v>, domain: &DomainId) -> Result<Self, EngineError> {
        Self::of(vault.access.store, vault.id(), Arc::clone(&vault.keyring), domain)
    }

    fn of(
        store: &'v dyn ObjectStore,
        vault: VaultId,
        keyring: Arc<Keyring>,
        domain: &DomainId,
    ) -> Result<Self, EngineError> {
        let domain = keyring.domain_keys(domain)?;
        Ok(Self { store, vault, keyring, domain, keys: Mutex::new(HashMap::new()) })
    }

    pub(crate) const fn domain(&self) -> &DomainKeys {
        &self.domain
    }

    fn key(&self, pack: PackId) -> Result<Arc<PackKey>, EngineError> {
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&pack).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let mut head = [0; PACK_HEAD_SIZE];
        self.store.read_range(&key_of(ObjectName::Pack(pack))?, 0, &mut head)?;
        let mut failure = EngineError::NotAllowed { action: "read any epoch" };
        // The newest epoch is the likeliest.
        for pair in self.keyring.sealing_pairs().iter().rev() {
            match PackKey::open(self.vault, pair, &self.domain, &head) {
                Ok(key) => {
                    let key = Arc::new(key);
                    let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
                    if keys.len() >= PACK_KEY_COUNT_MAX {
                        keys.clear();
                    }
                    keys.insert(pack, Arc::clone(&key));
                    return Ok(key);
                }
                Err(error) => failure = error.into(),
            }
        }
        Err(failure)
    }

    /// Reads and opens one frame; `sealed` is working memory.
    pub(crate) fn frame<'b>(
        &self,
        place: &Place,
        reader: &'b mut FrameReader,
        sealed: &mut Vec<u8>,
    ) -> Result<(ChunkKind, &'b [u8]), EngineError> {
        let name = ObjectName::Pack(place.pack.id);
        let mut fetch = || -> Result<Arc<PackKey>, EngineError> {
            place.frame.check(place.pack.len)?;
            let key = self.key(place.pack.id)?;
            sealed.resize(place.frame.sealed_len as usize, 0);
            self.store.read_range(&key_of(name)?, u64::from(place.frame.offset), sealed)?;
            Ok(key)
        };
        let key = fetch().map_err(|error| EngineError::of_object(name, error))?;
        let opened = reader.open(&key, u64::from(place.frame_number), place.frame.plain_len, sealed);
        opened.map_err(|error| EngineError::damaged(name, error))
    }

    /// Reads the directory of a pack of `len` bytes.
    pub(crate) fn directory(&self, pack: PackRow) -> Result<coffer_format::pack::Directory, EngineError> {
        let name = ObjectName::Pack(pack.id);
        let read = || -> Result<_, EngineError> {
            let key = self.key(pack.id)?;
            let object = key_of(name)?;
            let mut footer = [0; PACK_FOOTER_SIZE];
            let footer_offset = pack.len.saturating_sub(PACK_FOOTER_SIZE as u64);
            self.store.read_range(&object, footer_offset, &mut footer)?;
            let footer = key.footer(&footer, pack.len)?;
            let len = usize::try_from(footer.directory_sealed_len.min(PACK_LEN_MAX)).unwrap_or_default();
            let mut sealed = vec![0; len];
            self.store.read_range(&object, footer.directory_offset, &mut sealed)?;
            Ok(key.directory(&footer, sealed)?)
        };
        read().map_err(|error| EngineError::of_object(name, error))
    }
}

/// The chunk at `place` within the plain bytes of its frame, if it has the id it should have.
pub(crate) fn chunk_in_frame<'p>(
    keys: &DomainKeys,
    kind: ChunkKind,
    id: &ChunkId,
    place: &Place,
    plain: &'p [u8],
) -> Result<&'p [u8], EngineError> {
    let from = place.offset as usize;
    let bytes = plain.get(from..from + place.len as usize);
    let bytes = bytes.ok_or_else(|| EngineError::invalid("the index points outside the frame"))?;
    if chunk_id(keys, kind, bytes) == *id {
        Ok(bytes)
    } else {
        Err(EngineError::damaged(
            ObjectName::Pack(place.pack.id),
            EngineError::invalid(format!("chunk {id} has other bytes than its id says")),
        ))
    }
}

/// A decoded frame that is kept.
#[derive(Debug)]
struct Decoded {
    pack: PackId,
    number: u16,
    kind: ChunkKind,
    plain: Arc<Vec<u8>>,
}

/// Reads chunks of one dedup domain by id, one after the other.
#[derive(Debug)]
pub(crate) struct ChunkReader<'v> {
    pub(crate) packs: Packs<'v>,
    pub(crate) index: Index<'v>,
    frames: FrameReader,
    sealed: Vec<u8>,
    decoded: Vec<Decoded>,
    recovered: bool,
    /// Whether damage was met and a way around it was found.
    degraded: bool,
}

impl<'v> ChunkReader<'v> {
    pub(crate) fn new(vault: &Vault<'v>, domain: &DomainId) -> Result<Self, EngineError> {
        let segments: Vec<_> = Index::segments_of(vault.state(), *domain).collect();
        let keyring = Arc::clone(&vault.keyring);
        let (store, cache) = (vault.access.store, vault.access.cache);
        let reader = Self::of_segments(store, vault.id(), keyring, domain, segments, cache)?;
        Ok(Self { recovered: false, ..reader })
    }

    /// A reader that finds chunks through these segments alone.
    pub(crate) fn of_segments(
        store: &'v dyn ObjectStore,
        vault: VaultId,
        keyring: Arc<Keyring>,
        domain: &DomainId,
        segments: Vec<(SegmentId, u64)>,
        cache: Option<&'v Cache>,
    ) -> Result<Self, EngineError> {
        let index = Index::open(store, vault, keyring.domain_keys(domain)?, segments, cache);
        let packs = Packs::of(store, vault, keyring, domain)?;
        let (frames, sealed, decoded) = (FrameReader::new()?, Vec::new(), Vec::new());
        Ok(Self { packs, index, frames, sealed, decoded, recovered: true, degraded: false })
    }

    /// A reader that finds chunks through live segments alone: what it gives may be referred to by a new snapshot.
    pub(crate) fn without_recovery(vault: &Vault<'v>, domain: &DomainId) -> Result<Self, EngineError> {
        Ok(Self { recovered: true, ..Self::new(vault, domain)? })
    }

    /// Whether damage was met and a way around it was found.
    pub(crate) const fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Reads a chunk of the given kind and length, from whichever place has it.
    pub(crate) fn read(&mut self, kind: ChunkKind, chunk: &ChunkRef) -> Result<Vec<u8>, EngineError> {
        let first = match self.read_places(kind, chunk) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        // The local table of segments may be wrong; that is no damage.
        if self.index.distrust_lookup()
            && let Ok(bytes) = self.read_places(kind, chunk)
        {
            return Ok(bytes);
        }
        if !self.recover()? {
            return Err(first);
        }
        let bytes = self.read_places(kind, chunk)?;
        self.degraded |= first.is_damage();
        Ok(bytes)
    }

    fn read_places(&mut self, kind: ChunkKind, chunk: &ChunkRef) -> Result<Vec<u8>, EngineError> {
        let mut failure = None;
        for place in self.index.places(&chunk.id) {
            match self.read_place(kind, chunk, &place) {
                Ok(bytes) => {
                    self.degraded |= failure.is_some_and(|failure: Box<EngineError>| !failure.is_unasked());
                    return Ok(bytes);
                }
                Err(error) => failure = Some(Box::new(error)),
            }
        }
        Err(EngineError::ChunkLost { id: chunk.id.to_string(), source: failure })
    }

    fn read_place(
        &mut self,
        kind: ChunkKind,
        chunk: &ChunkRef,
        place: &Place,
    ) -> Result<Vec<u8>, EngineError> {
        if place.len != chunk.len {
            return Err(EngineError::invalid(format!(
                "the index says chunk {} has {} bytes, its reference says {}",
                chunk.id, place.len, chunk.len
            )));
        }
        let known = |kept: &Decoded| kept.pack == place.pack.id && kept.number == place.frame_number;
        let position = match self.decoded.iter().position(known) {
            Some(position) => position,
            None => {
                let (kind, plain) = self.packs.frame(place, &mut self.frames, &mut self.sealed)?;
                let plain = Arc::new(plain.to_vec());
                if self.decoded.len() >= FRAME_COUNT_MAX {
                    self.decoded.remove(0);
                }
                self.decoded.push(Decoded { pack: place.pack.id, number: place.frame_number, kind, plain });
                self.decoded.len() - 1
            }
        };
        let frame = &self.decoded[position];
        if frame.kind != kind {
            return Err(EngineError::invalid(format!(
                "chunk {} is of another kind than its reference",
                chunk.id
            )));
        }
        Ok(chunk_in_frame(self.packs.domain(), kind, &chunk.id, place, &frame.plain)?.to_vec())
    }

    /// Reads the directories of all packs, once: finds chunks whose index segments are damaged or gone. Says whether it did.
    pub(crate) fn recover(&mut self) -> Result<bool, EngineError> {
        if std::mem::replace(&mut self.recovered, true) {
            return Ok(false);
        }
        let mut packs = Vec::new();
        self.packs.store.list(PACKS_PREFIX, None, &mut |item: ListItem| {
            if let Some(ObjectName::Pack(id)) = ObjectName::parse(&item.name)
                && item.len <= PACK_LEN_MAX
            {
                packs.push(PackRow { id, len: item.len });
            }
            ControlFlow::Continue(())
        })?;
        for pack in packs {
            if let Ok(directory) = self.packs.directory(pack)
                && directory.domain.0 == *self.packs.domain().domain()
            {
                self.index.add_directory(pack, &directory);
            }
        }
        Ok(true)
    }
}
