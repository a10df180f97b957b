//! Meta chunks by reference: read by range, opened, rehashed, with a bounded cache of frames that all threads share.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffer_format::id::DomainId;
use coffer_format::object::ObjectName;
use coffer_format::pack::{ChunkKind, PACK_HEAD_SIZE};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::pack_reader::{FrameReader, PackKey, chunk_id};

use crate::error::VerifyError;
use crate::packs::{PackFault, Row};
use crate::report::Class;
use crate::source::reason;

use super::chunks::{ChunkTable, Loss};
use super::damage::Damage;
use super::{Domains, Task, open};

/// Frames that are kept take at most this much memory.
const CACHE_LEN_MAX: usize = 32 << 20;
/// What each takes beside its plain bytes: a writer may make frames of one byte.
const FRAME_OVERHEAD: usize = 256;
/// Keys of packs that are kept.
const KEY_COUNT_MAX: usize = 256;

/// The kind and the plain bytes of a frame, or what is wrong with it.
type Opened = Result<(ChunkKind, Arc<[u8]>), PackFault>;

/// Frames that were opened, and keys of packs.
#[derive(Default)]
pub(crate) struct MetaCache {
    frames: Mutex<Frames>,
    keys: Mutex<HashMap<u32, Arc<PackKey>>>,
}

#[derive(Default)]
struct Frames {
    /// By pack and number.
    frames: HashMap<(u32, u16), Frame>,
    /// Pack and number of each, by its last use.
    by_use: BTreeMap<u64, (u32, u16)>,
    /// What all of them take.
    len: usize,
    /// Counts up with each use.
    clock: u64,
}

struct Frame {
    kind: ChunkKind,
    plain: Arc<[u8]>,
    used: u64,
}

impl MetaCache {
    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<u32, Arc<PackKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a frame that was opened for another reason, as long as there is room without giving up others.
    pub(crate) fn offer(&self, pack: u32, number: u16, kind: ChunkKind, plain: &[u8]) {
        let has_room = |frames: &Frames| frames.len + cost(plain) <= CACHE_LEN_MAX;
        if has_room(&self.frames()) {
            let plain = Arc::from(plain);
            let mut frames = self.frames();
            if has_room(&frames) {
                frames.keep(pack, number, kind, plain);
            }
        }
    }
}

/// What a frame takes.
const fn cost(plain: &[u8]) -> usize {
    plain.len() + FRAME_OVERHEAD
}

impl Frames {
    fn get(&mut self, pack: u32, number: u16) -> Option<(ChunkKind, Arc<[u8]>)> {
        self.clock += 1;
        let frame = self.frames.get_mut(&(pack, number))?;
        self.by_use.remove(&frame.used);
        frame.used = self.clock;
        self.by_use.insert(self.clock, (pack, number));
        Some((frame.kind, Arc::clone(&frame.plain)))
    }

    /// Adds a frame and gives up those that were not used for longest.
    fn keep(&mut self, pack: u32, number: u16, kind: ChunkKind, plain: Arc<[u8]>) {
        self.clock += 1;
        self.len += cost(&plain);
        self.by_use.insert(self.clock, (pack, number));
        if let Some(known) = self.frames.insert((pack, number), Frame { kind, plain, used: self.clock }) {
            self.len -= cost(&known.plain);
            self.by_use.remove(&known.used);
        }
        while self.len > CACHE_LEN_MAX && self.frames.len() > 1 {
            let oldest = self.by_use.pop_first();
            let Some(frame) = oldest.and_then(|(_, key)| self.frames.remove(&key)) else { break };
            self.len -= cost(&frame.plain);
        }
    }
}

/// The bytes of a meta chunk, in the frame that they are in.
pub(crate) struct MetaBytes {
    frame: Arc<[u8]>,
    range: Range<usize>,
}

impl Deref for MetaBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.frame[self.range.clone()]
    }
}

/// Reads meta chunks.
pub(crate) struct MetaReader<'a> {
    task: &'a Task<'a>,
    domains: &'a Domains,
    chunks: &'a ChunkTable,
    cache: &'a MetaCache,
    frames: FrameReader,
    sealed: Vec<u8>,
    found: Vec<Row>,
}

impl<'a> MetaReader<'a> {
    pub(crate) fn new(
        task: &'a Task<'a>,
        domains: &'a Domains,
        chunks: &'a ChunkTable,
        cache: &'a MetaCache,
    ) -> Result<Self, VerifyError> {
        let frames = FrameReader::new().map_err(|source| VerifyError::Decoder { source })?;
        Ok(Self { task, domains, chunks, cache, frames, sealed: Vec::new(), found: Vec::new() })
    }

    /// The bytes of a meta chunk, or why they cannot be had. Every place the index gives it is tried.
    pub(crate) fn read(
        &mut self,
        damage: &mut Damage,
        domain: DomainId,
        chunk: &ChunkRef,
    ) -> Result<Result<MetaBytes, Vec<Loss>>, VerifyError> {
        let mut found = std::mem::take(&mut self.found);
        let read = match self.chunks.resolve(domain, chunk, ChunkKind::Meta, &mut found)? {
            Ok(()) => self.try_rows(damage, domain, chunk, &found)?,
            Err(losses) => Err(losses),
        };
        self.found = found;
        Ok(read)
    }

    fn try_rows(
        &mut self,
        damage: &mut Damage,
        domain: DomainId,
        chunk: &ChunkRef,
        rows: &[Row],
    ) -> Result<Result<MetaBytes, Vec<Loss>>, VerifyError> {
        let mut losses = Vec::new();
        for row in rows {
            let fault = match self.frame(row)? {
                Ok((kind, frame)) => {
                    let range = row.offset as usize..row.offset as usize + row.len as usize;
                    let bytes = frame.get(range.clone());
                    let keys = self.domains.get(&domain);
                    let is_intact =
                        bytes.zip(keys).is_some_and(|(bytes, keys)| chunk_id(keys, kind, bytes) == chunk.id);
                    if is_intact && kind == ChunkKind::Meta {
                        return Ok(Ok(MetaBytes { frame, range }));
                    }
                    let (id, frame) = (chunk.id, row.frame);
                    corrupt(format!("chunk {id} in frame {frame} has other bytes than its id says"))
                }
                Err(fault) => fault,
            };
            let pack = self.task.table.listings[row.listing as usize].pack;
            damage.add_to_pack(self.task.table, pack, fault);
            losses.push(Loss::Bad(row.listing));
        }
        Ok(Err(losses))
    }

    /// The frame that a row points into, or what is wrong with it.
    fn frame(&mut self, row: &Row) -> Result<Opened, VerifyError> {
        let number = self.task.table.listings[row.listing as usize].pack;
        let known = self.cache.frames().get(number, row.frame);
        if let Some(known) = known {
            return Ok(Ok(known));
        }
        let name = ObjectName::Pack(self.task.table.packs[number as usize].id);
        let key = match self.key(number)? {
            Ok(key) => key,
            Err(fault) => return Ok(Err(fault)),
        };
        let place = row.place;
        self.sealed.resize(place.sealed_len as usize, 0);
        if let Err(fault) = self.task.source.read_range(name, u64::from(place.offset), &mut self.sealed)? {
            return Ok(Err(PackFault::of_read(&fault)));
        }
        let (kind, plain) = match self.frames.open(&key, u64::from(row.frame), place.plain_len, &self.sealed)
        {
            Ok((kind, plain)) => (kind, Arc::<[u8]>::from(plain)),
            Err(error) => {
                return Ok(Err(corrupt(format!("frame {} is lost: {}", row.frame, reason(&error)))));
            }
        };
        self.cache.frames().keep(number, row.frame, kind, Arc::clone(&plain));
        Ok(Ok((kind, plain)))
    }

    /// The key of a pack, or why it cannot be had.
    fn key(&self, number: u32) -> Result<Result<Arc<PackKey>, PackFault>, VerifyError> {
        let known = self.cache.keys().get(&number).cloned();
        if let Some(key) = known {
            return Ok(Ok(key));
        }
        let pack = &self.task.table.packs[number as usize];
        let mut head = [0; PACK_HEAD_SIZE];
        if let Err(fault) = self.task.source.read_range(ObjectName::Pack(pack.id), 0, &mut head)? {
            return Ok(Err(PackFault::of_read(&fault)));
        }
        let Some((_, _, key)) = open::find_key(self.task, self.domains, pack, &head) else {
            return Ok(Err(corrupt("no key of the vault opens it in a domain that lists it")));
        };
        let key = Arc::new(key);
        let mut keys = self.cache.keys();
        if keys.len() >= KEY_COUNT_MAX {
            keys.clear();
        }
        keys.insert(number, Arc::clone(&key));
        Ok(Ok(key))
    }
}

fn corrupt(what: impl Into<String>) -> PackFault {
    PackFault::new(Class::Corrupt, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(frames: &mut Frames, number: usize, len: usize) {
        let (pack, frame) = (u32::try_from(number >> 16).unwrap(), u16::try_from(number & 0xffff).unwrap());
        frames.keep(pack, frame, ChunkKind::Meta, vec![7; len].into());
    }

    #[test]
    fn tiny_frames_take_no_more_memory_than_long_ones() {
        let (cache, count) = (MetaCache::default(), 2 * CACHE_LEN_MAX / FRAME_OVERHEAD);
        for number in 0..count {
            keep(&mut cache.frames(), number, 1);
        }
        let kept = cache.frames().frames.len();
        assert_eq!((kept, cache.frames().by_use.len()), (CACHE_LEN_MAX / cost(&[7]), kept));
        // The oldest ones went, and none is taken for nothing in their place.
        assert!(cache.frames().get(0, 0).is_none());
        assert!(cache.frames().get(u32::try_from((count - 1) >> 16).unwrap(), u16::MAX).is_some());
        let cache = MetaCache::default();
        for number in 0..u32::try_from(count).unwrap() {
            cache.offer(number, 0, ChunkKind::Meta, &[7]);
        }
        assert_eq!(cache.frames().frames.len(), kept);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut frames = Frames::default();
        let len = CACHE_LEN_MAX / 4 - FRAME_OVERHEAD;
        for number in 0..4 {
            keep(&mut frames, number, len);
        }
        assert!(frames.get(0, 0).is_some());
        // Kept once more, it counts once.
        keep(&mut frames, 2, len);
        keep(&mut frames, 4, len);
        let left: Vec<bool> = (0..5).map(|number| frames.get(0, number).is_some()).collect();
        assert_eq!(left, [true, false, true, true, true]);
        // One that is longer than all others together stays alone.
        keep(&mut frames, 5, CACHE_LEN_MAX);
        assert_eq!(
            (frames.frames.len(), frames.by_use.len(), frames.len),
            (1, 1, CACHE_LEN_MAX + FRAME_OVERHEAD)
        );
    }
}
