//! Chunks out of packs, with every way around damage that the format offers.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
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
use crate::parallel;
use crate::parts::Parts;
use crate::vault::Vault;

/// Keys of packs kept: each spares a key decapsulation.
const PACK_KEY_COUNT_MAX: usize = 4096;
/// Frames that lie no further apart are read with what is between them.
const GAP_LEN_MAX: u64 = 64 << 10;
/// One request brings at most this much of a pack, unless a single frame is longer.
const STRETCH_LEN_MAX: u64 = 8 << 20;
/// Frames that one reader reads ahead have at most this many bytes together.
const AHEAD_LEN_MAX: u64 = 32 << 20;
/// Chunks that are looked at to find the next frames.
const AHEAD_CHUNK_COUNT_MAX: usize = 4096;
/// Decoded frames kept by one reader.
const FRAME_COUNT_MAX: usize = 4;

/// Opens frames of packs of one dedup domain. Shared by threads.
#[derive(Debug)]
pub(crate) struct Packs<'v> {
    parts: Parts<'v>,
    vault: VaultId,
    keyring: Arc<Keyring>,
    domain: DomainKeys,
    keys: Mutex<HashMap<PackId, Arc<PackKey>>>,
    /// Held while the head of a pack is read, one for each first byte of an id: of many threads that want a pack, one asks, and others ask
    /// for other packs meanwhile.
    asking: Box<[Mutex<()>]>,
}

/// Frames of one pack that are read together, in the order in which they lie there.
#[derive(Debug)]
pub(crate) struct Stretch {
    frames: Vec<Place>,
    /// Where they end in the pack.
    end: u64,
}

impl Stretch {
    pub(crate) fn of(place: &Place) -> Self {
        Self { frames: vec![*place], end: end_of(place) }
    }

    /// How many bytes lie from the beginning of the first frame to the end of the last one.
    pub(crate) fn len(&self) -> u64 {
        self.frames.first().map_or(0, |first| self.end - u64::from(first.frame.offset))
    }

    /// Takes a frame in as well, if it lies so close behind the others that one request brings it along.
    pub(crate) fn take(&mut self, place: &Place) -> bool {
        let (Some(first), from) = (self.frames.first(), u64::from(place.frame.offset)) else { return false };
        let begin = u64::from(first.frame.offset);
        let fits = first.pack == place.pack
            && from >= self.end
            && from - self.end <= GAP_LEN_MAX
            && end_of(place) - begin <= STRETCH_LEN_MAX;
        if fits {
            self.frames.push(*place);
            self.end = end_of(place);
        }
        fits
    }
}

fn end_of(place: &Place) -> u64 {
    u64::from(place.frame.offset) + u64::from(place.frame.sealed_len)
}

/// What opening a frame needs: three times the memory of one. Its contexts are made when it is first used.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    reader: Option<FrameReader>,
    sealed: Vec<u8>,
    /// The frame that was opened last, if it is still there.
    opened: Option<OpenedFrame>,
}

#[derive(Debug)]
struct OpenedFrame {
    pack: PackId,
    number: u16,
    /// As it was fetched, for others who want it.
    _sealed: Option<Arc<SealedFrame>>,
}

impl Opener {
    /// Opens frames, and the working memory to read one into.
    pub(crate) fn parts(&mut self) -> Result<(&mut FrameReader, &mut Vec<u8>), EngineError> {
        self.opened = None;
        if self.reader.is_none() {
            self.reader = Some(FrameReader::new()?);
        }
        let reader = self.reader.as_mut().ok_or(EngineError::WorkerGone)?;
        Ok((reader, &mut self.sealed))
    }

    /// Whether it still has the frame at a place.
    pub(crate) fn has(&self, place: &Place) -> bool {
        let is_same = |opened: &OpenedFrame| (opened.pack, opened.number) == place.frame_id();
        self.opened.as_ref().is_some_and(is_same)
    }

    /// The frame at a place, opened by `open` unless it is still there. `sealed` stays as long as it does.
    pub(crate) fn frame(
        &mut self,
        place: &Place,
        sealed: Option<Arc<SealedFrame>>,
        open: impl FnOnce(&mut FrameReader, &mut Vec<u8>) -> Result<(), EngineError>,
    ) -> Result<(ChunkKind, &[u8]), EngineError> {
        if !self.has(place) {
            let (reader, working_memory) = self.parts()?;
            open(reader, working_memory)?;
        }
        let (pack, number) = place.frame_id();
        self.opened = Some(OpenedFrame { pack, number, _sealed: sealed });
        self.reader.as_ref().and_then(FrameReader::last).ok_or(EngineError::WorkerGone)
    }
}

/// A frame as it lies in its pack, and the pack's key.
#[derive(Debug)]
pub(crate) struct SealedFrame {
    key: Arc<PackKey>,
    /// What was read with it.
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
    /// Whether that begins with the head of the pack.
    with_head: bool,
}

impl SealedFrame {
    fn sealed(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }

    /// The head of the pack, if it came along.
    fn head(&self) -> Option<&[u8]> {
        self.bytes.get(..PACK_HEAD_SIZE).filter(|_| self.with_head)
    }
}

impl<'v> Packs<'v> {
    pub(crate) fn new(vault: &Vault<'v>, domain: &DomainId) -> Result<Self, EngineError> {
        Self::of(vault.access.store, vault.id(), Arc::clone(&vault.keyring), domain, vault.access.cache)
    }

    fn of(
        store: &'v dyn ObjectStore,
        vault: VaultId,
        keyring: Arc<Keyring>,
        domain: &DomainId,
        cache: Option<&'v Cache>,
    ) -> Result<Self, EngineError> {
        let domain = keyring.domain_keys(domain)?;
        let parts = Parts::new(store, vault, cache);
        let asking = (0..=u8::MAX).map(|_| Mutex::default()).collect();
        Ok(Self { parts, vault, keyring, domain, keys: Mutex::default(), asking })
    }

    pub(crate) const fn domain(&self) -> &DomainKeys {
        &self.domain
    }

    /// Whether a request costs more than what it brings.
    pub(crate) fn are_far(&self) -> bool {
        parallel::is_far(self.parts.store())
    }

    fn known_key(&self, pack: PackId) -> Option<Arc<PackKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&pack).cloned()
    }

    fn key(&self, pack: PackId) -> Result<Arc<PackKey>, EngineError> {
        if let Some(known) = self.known_key(pack) {
            return Ok(known);
        }
        let asking = &self.asking[usize::from(pack.0[0])];
        let asking = asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.known_key(pack) {
            return Ok(known);
        }
        let head = (0, PACK_HEAD_SIZE as u64);
        let key = self.parts.range(ObjectName::Pack(pack), head, &mut |head| self.key_from(pack, head));
        drop(asking);
        key
    }

    /// The key that the head of a pack gives.
    fn key_from(&self, pack: PackId, head: &[u8]) -> Result<Arc<PackKey>, EngineError> {
        let head = head.first_chunk::<PACK_HEAD_SIZE>();
        let head = head.ok_or_else(|| EngineError::invalid("it ends within its head"))?;
        let mut failure = EngineError::NotAllowed { action: "read any epoch" };
        // The newest epoch is the likeliest.
        for pair in self.keyring.sealing_pairs().iter().rev() {
            match PackKey::open(self.vault, pair, &self.domain, head) {
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
        let fetch = |sealed: &mut Vec<u8>| -> Result<Arc<PackKey>, EngineError> {
            place.frame.check(place.pack.len)?;
            let known = self.known_key(place.pack.id);
            // The head of the pack comes along where that spares a request.
            let is_near_head = u64::from(place.frame.offset) <= GAP_LEN_MAX + PACK_HEAD_SIZE as u64;
            let from = match known {
                None if is_near_head => 0,
                _ => u64::from(place.frame.offset),
            };
            let len = end_of(place).saturating_sub(from);
            sealed.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
            let key = match known {
                Some(known) => known,
                None if is_near_head => {
                    self.parts.store().read_range(&key_of(name)?, 0, sealed)?;
                    let key = self.key_from(place.pack.id, sealed)?;
                    sealed.drain(..place.frame.offset as usize);
                    return Ok(key);
                }
                None => self.key(place.pack.id)?,
            };
            self.parts.store().read_range(&key_of(name)?, from, sealed)?;
            Ok(key)
        };
        let mut attempt = || -> Result<(), EngineError> {
            let key = fetch(sealed).map_err(|error| EngineError::of_object(name, error))?;
            self.open(place, reader, &key, sealed).map(drop)
        };
        let mut opened = attempt();
        // Another copy may be whole.
        if opened.as_ref().is_err_and(EngineError::is_wrong_bytes)
            && self.parts.store().distrust(&key_of(name)?)
        {
            self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&place.pack.id);
            opened = attempt();
        }
        opened?;
        reader.last().ok_or(EngineError::WorkerGone)
    }

    fn open<'b>(
        &self,
        place: &Place,
        reader: &'b mut FrameReader,
        key: &PackKey,
        sealed: &[u8],
    ) -> Result<(ChunkKind, &'b [u8]), EngineError> {
        let opened = reader.open(key, u64::from(place.frame_number), place.frame.plain_len, sealed);
        opened.map_err(|error| EngineError::damaged(ObjectName::Pack(place.pack.id), error))
    }

    /// Reads the frames of a stretch with one request. Those that cannot be had this way are not among what it gives: whoever asks for them by
    /// themselves learns why.
    pub(crate) fn stretch(&self, stretch: &Stretch) -> Vec<(Place, SealedFrame)> {
        let Some(first) = stretch.frames.first() else { return Vec::new() };
        let is_sound = |place: &&Place| place.frame.check(place.pack.len).is_ok();
        let mut bytes = Vec::new();
        let mut read = || -> Result<(u64, Arc<PackKey>), EngineError> {
            let key = key_of(ObjectName::Pack(first.pack.id))?;
            let known = self.known_key(first.pack.id);
            let begin = u64::from(first.frame.offset);
            let from = if known.is_none() && begin <= GAP_LEN_MAX { 0 } else { begin };
            bytes.resize(usize::try_from(stretch.end - from).unwrap_or(usize::MAX), 0);
            self.parts.store().read_range(&key, from, &mut bytes)?;
            let key = match known {
                Some(known) => known,
                None if from == 0 => self.key_from(first.pack.id, &bytes)?,
                None => self.key(first.pack.id)?,
            };
            Ok((from, key))
        };
        let Ok((from, key)) = read() else { return Vec::new() };
        let bytes = Arc::new(bytes);
        let frames = stretch.frames.iter().filter(is_sound).filter_map(|place| {
            let at = usize::try_from(u64::from(place.frame.offset) - from).ok()?;
            let range = at..at + place.frame.sealed_len as usize;
            bytes.get(range.clone())?;
            let (key, bytes) = (Arc::clone(&key), Arc::clone(&bytes));
            Some((*place, SealedFrame { key, bytes, range, with_head: from == 0 }))
        });
        frames.collect()
    }

    /// Whether the local memory seems to have the frame.
    fn is_kept(&self, place: &Place) -> bool {
        let range = (u64::from(place.frame.offset), u64::from(place.frame.sealed_len));
        self.parts.is_kept(ObjectName::Pack(place.pack.id), range)
    }

    /// Opens a frame that was read in a stretch.
    pub(crate) fn open_frame<'b>(
        &self,
        place: &Place,
        frame: &SealedFrame,
        reader: &'b mut FrameReader,
    ) -> Result<(ChunkKind, &'b [u8]), EngineError> {
        self.open(place, reader, &frame.key, frame.sealed())
    }

    /// Reads the directory of a pack of `len` bytes.
    pub(crate) fn directory(&self, pack: PackRow) -> Result<coffer_format::pack::Directory, EngineError> {
        let name = ObjectName::Pack(pack.id);
        let read = || -> Result<_, EngineError> {
            let key = self.key(pack.id)?;
            let object = key_of(name)?;
            let mut footer = [0; PACK_FOOTER_SIZE];
            let footer_offset = pack.len.saturating_sub(PACK_FOOTER_SIZE as u64);
            self.parts.store().read_range(&object, footer_offset, &mut footer)?;
            let footer = key.footer(&footer, pack.len)?;
            let len = usize::try_from(footer.directory_sealed_len.min(PACK_LEN_MAX)).unwrap_or_default();
            let mut sealed = vec![0; len];
            self.parts.store().read_range(&object, footer.directory_offset, &mut sealed)?;
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
    /// Frames that were read ahead of their turn.
    ahead: HashMap<(PackId, u16), SealedFrame>,
    recovered: bool,
    /// Where chunks were looked for, if that is wanted.
    traced: Option<Vec<Place>>,
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
        let packs = Packs::of(store, vault, keyring, domain, cache)?;
        let (frames, sealed, decoded) = (FrameReader::new()?, Vec::new(), Vec::new());
        let ahead = HashMap::new();
        Ok(Self {
            packs,
            index,
            frames,
            sealed,
            decoded,
            ahead,
            recovered: true,
            traced: None,
            degraded: false,
        })
    }

    /// A reader that finds chunks through live segments alone: what it gives may be referred to by a new snapshot.
    pub(crate) fn without_recovery(vault: &Vault<'v>, domain: &DomainId) -> Result<Self, EngineError> {
        Ok(Self { recovered: true, ..Self::new(vault, domain)? })
    }

    /// From now on notes where chunks are looked for.
    pub(crate) fn trace(&mut self) {
        self.traced = Some(Vec::new());
    }

    /// What was noted, which may hold a place several times.
    pub(crate) fn traced(&mut self) -> Vec<Place> {
        self.traced.take().unwrap_or_default()
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
        Err(match failure {
            None => self.index.unlisted(&chunk.id),
            source => EngineError::ChunkLost { id: chunk.id.to_string(), source },
        })
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
        if let Some(traced) = &mut self.traced
            && traced.last() != Some(place)
        {
            traced.push(*place);
        }
        let known = |kept: &Decoded| kept.pack == place.pack.id && kept.number == place.frame_number;
        let position = match self.decoded.iter().position(known) {
            Some(position) => position,
            None => {
                let (kind, plain) = self.open_frame(kind, place)?;
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

    /// The kind of a frame and its chunks: read ahead, kept, or asked for now. Frames with metadata are kept.
    fn open_frame(
        &mut self,
        kind: ChunkKind,
        place: &Place,
    ) -> Result<(ChunkKind, Arc<Vec<u8>>), EngineError> {
        let (packs, reader) = (&self.packs, &mut self.frames);
        if let Some(frame) = self.ahead.remove(&(place.pack.id, place.frame_number))
            && let Ok((kind, plain)) = packs.open_frame(place, &frame, reader)
        {
            let plain = Arc::new(plain.to_vec());
            if kind == ChunkKind::Meta {
                let name = ObjectName::Pack(place.pack.id);
                packs.parts.keep(name, u64::from(place.frame.offset), frame.sealed());
                frame.head().into_iter().for_each(|head| packs.parts.keep(name, 0, head));
            }
            return Ok((kind, plain));
        }
        if kind == ChunkKind::Meta && packs.parts.has_memory() {
            let name = ObjectName::Pack(place.pack.id);
            let range = (u64::from(place.frame.offset), u64::from(place.frame.sealed_len));
            let mut read = || -> Result<_, EngineError> {
                place.frame.check(place.pack.len)?;
                let key = packs.key(place.pack.id)?;
                packs.parts.range(name, range, &mut |sealed| {
                    let (kind, plain) = packs.open(place, reader, &key, sealed)?;
                    Ok((kind, Arc::new(plain.to_vec())))
                })
            };
            return read().map_err(|error| EngineError::of_object(name, error));
        }
        let (kind, plain) = packs.frame(place, reader, &mut self.sealed)?;
        Ok((kind, Arc::new(plain.to_vec())))
    }

    /// Reads the frames of these chunks at once, unless the first one's is there already. Nothing is read ahead of a store that is near.
    pub(crate) fn read_ahead<'c>(&mut self, chunks: impl Iterator<Item = &'c ChunkRef>) {
        let in_flight = parallel::in_flight(self.packs.parts.store());
        if in_flight == 1 {
            return;
        }
        let (mut wanted, mut wanted_len) = (Vec::<Place>::new(), 0);
        for (number, chunk) in chunks.take(AHEAD_CHUNK_COUNT_MAX).enumerate() {
            let Some(place) = self.index.places(&chunk.id).into_iter().next() else { continue };
            let frame = (place.pack.id, place.frame_number);
            let is_wanted = |known: &Place| (known.pack.id, known.frame_number) == frame;
            let is_there = self.ahead.contains_key(&frame)
                || self.decoded.iter().any(|kept| (kept.pack, kept.number) == frame)
                || self.packs.is_kept(&place);
            if is_there && number == 0 {
                return;
            }
            if is_there || wanted.iter().any(is_wanted) {
                continue;
            }
            wanted_len += u64::from(place.frame.sealed_len);
            if wanted_len > AHEAD_LEN_MAX || wanted.len() == 2 * in_flight {
                break;
            }
            wanted.push(place);
        }
        // What was read ahead and not used is not needed any more.
        self.ahead.clear();
        wanted.sort_unstable_by_key(|place| (place.pack.id, place.frame.offset));
        let mut stretches: Vec<Stretch> = Vec::new();
        for place in &wanted {
            if !stretches.last_mut().is_some_and(|last| last.take(place)) {
                stretches.push(Stretch::of(place));
            }
        }
        let packs = &self.packs;
        let read = parallel::map(in_flight, stretches, |stretch| packs.stretch(&stretch));
        let frames = read.into_iter().flatten();
        self.ahead.extend(frames.map(|(place, frame)| ((place.pack.id, place.frame_number), frame)));
    }

    /// Reads the directories of all packs, once: finds chunks whose index segments are damaged or gone. Says whether it did.
    pub(crate) fn recover(&mut self) -> Result<bool, EngineError> {
        if std::mem::replace(&mut self.recovered, true) {
            return Ok(false);
        }
        let mut packs = Vec::new();
        self.packs.parts.store().list(PACKS_PREFIX, None, &mut |item: ListItem| {
            if let Some(ObjectName::Pack(id)) = ObjectName::parse(&item.name)
                && item.len <= PACK_LEN_MAX
            {
                packs.push(PackRow { id, len: item.len });
            }
            ControlFlow::Continue(())
        })?;
        let reader = &self.packs;
        let in_flight = parallel::in_flight(reader.parts.store());
        // Directories may be long: no more are in memory than are read at once.
        for packs in packs.chunks(in_flight) {
            let read = parallel::map(in_flight, packs, |pack| (*pack, reader.directory(*pack)));
            for (pack, directory) in read {
                if let Ok(directory) = directory
                    && directory.domain.0 == *reader.domain().domain()
                {
                    self.index.add_directory(pack, &directory);
                }
            }
        }
        Ok(true)
    }
}
