//! Meta chunks by reference: read by range, opened, rehashed, with a bounded cache of frames.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

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

/// Plain bytes of frames that are kept.
const CACHE_LEN_MAX: usize = 64 << 20;
/// Keys of packs that are kept.
const KEY_COUNT_MAX: usize = 256;

/// The kind and the plain bytes of a frame, or what is wrong with it.
type Opened = Result<(ChunkKind, Rc<[u8]>), PackFault>;

/// A frame that was opened.
struct Frame {
    pack: u32,
    number: u16,
    kind: ChunkKind,
    plain: Rc<[u8]>,
}

/// Reads meta chunks.
pub(crate) struct MetaReader<'a> {
    task: &'a Task<'a>,
    domains: &'a Domains,
    chunks: &'a ChunkTable,
    frames: FrameReader,
    keys: HashMap<u32, PackKey>,
    /// The frame used last stands first.
    cache: VecDeque<Frame>,
    cache_len: usize,
    sealed: Vec<u8>,
}

impl<'a> MetaReader<'a> {
    pub(crate) fn new(
        task: &'a Task<'a>,
        domains: &'a Domains,
        chunks: &'a ChunkTable,
    ) -> Result<Self, VerifyError> {
        let frames = FrameReader::new().map_err(|source| VerifyError::Decoder { source })?;
        let (keys, cache, sealed) = (HashMap::new(), VecDeque::new(), Vec::new());
        Ok(Self { task, domains, chunks, frames, keys, cache, cache_len: 0, sealed })
    }

    /// The bytes of a meta chunk, or why they cannot be had. Every place the index gives it is tried.
    pub(crate) fn read(
        &mut self,
        damage: &mut Damage,
        domain: DomainId,
        chunk: &ChunkRef,
    ) -> Result<Result<Vec<u8>, Vec<Loss>>, VerifyError> {
        let rows: Vec<Row> =
            match self.chunks.resolve(self.task.table, damage, domain, chunk, ChunkKind::Meta) {
                Ok(rows) => rows.copied().collect(),
                Err(losses) => return Ok(Err(losses)),
            };
        let mut losses = Vec::new();
        for row in rows {
            let listing = &self.task.table.listings[row.listing as usize];
            let fault = match self.frame(&row)? {
                Ok((kind, plain)) => {
                    let bytes = plain.get(row.offset as usize..row.offset as usize + row.len as usize);
                    let keys = self.domains.get(&domain);
                    let intact =
                        bytes.zip(keys).filter(|(bytes, keys)| chunk_id(keys, kind, bytes) == chunk.id);
                    match intact {
                        Some((bytes, _)) if kind == ChunkKind::Meta => return Ok(Ok(bytes.to_vec())),
                        _ => corrupt(format!(
                            "chunk {} in frame {} has other bytes than its id says",
                            chunk.id, row.frame
                        )),
                    }
                }
                Err(fault) => fault,
            };
            damage.add_to_pack(self.task.table, listing.pack, fault);
            losses.push(if damage.has_pack(listing.pack) {
                Loss::Pack(listing.pack)
            } else {
                Loss::Segment(listing.segment)
            });
        }
        Ok(Err(losses))
    }

    /// The frame that a row points into, or what is wrong with it.
    fn frame(&mut self, row: &Row) -> Result<Opened, VerifyError> {
        let listing = &self.task.table.listings[row.listing as usize];
        let known =
            self.cache.iter().position(|frame| frame.pack == listing.pack && frame.number == row.frame);
        if let Some(frame) = known.and_then(|at| self.cache.remove(at)) {
            let found = (frame.kind, Rc::clone(&frame.plain));
            self.cache.push_front(frame);
            return Ok(Ok(found));
        }
        let pack = &self.task.table.packs[listing.pack as usize];
        let name = ObjectName::Pack(pack.id);
        if !self.keys.contains_key(&listing.pack) {
            let mut head = [0; PACK_HEAD_SIZE];
            if let Err(fault) = self.task.source.read_range(name, 0, &mut head)? {
                return Ok(Err(PackFault::of_read(&fault)));
            }
            let Some((_, _, key)) = open::find_key(self.task, self.domains, pack, &head) else {
                return Ok(Err(corrupt("no key of the vault opens it in a domain that lists it")));
            };
            if self.keys.len() >= KEY_COUNT_MAX {
                self.keys.clear();
            }
            self.keys.insert(listing.pack, key);
        }
        let key = &self.keys[&listing.pack];
        let Some(place) = listing.frames.get(usize::from(row.frame)) else {
            return Ok(Err(corrupt(format!("it has no frame {}", row.frame))));
        };
        self.sealed.resize(place.sealed_len as usize, 0);
        if let Err(fault) = self.task.source.read_range(name, u64::from(place.offset), &mut self.sealed)? {
            return Ok(Err(PackFault::of_read(&fault)));
        }
        let (kind, plain) = match self.frames.open(key, u64::from(row.frame), place.plain_len, &self.sealed) {
            Ok((kind, plain)) => (kind, Rc::<[u8]>::from(plain)),
            Err(error) => {
                return Ok(Err(corrupt(format!("frame {} is lost: {}", row.frame, reason(&error)))));
            }
        };
        self.keep(Frame { pack: listing.pack, number: row.frame, kind, plain: Rc::clone(&plain) });
        Ok(Ok((kind, plain)))
    }

    fn keep(&mut self, frame: Frame) {
        self.cache_len += frame.plain.len();
        self.cache.push_front(frame);
        while self.cache_len > CACHE_LEN_MAX && self.cache.len() > 1 {
            let Some(oldest) = self.cache.pop_back() else { break };
            self.cache_len -= oldest.plain.len();
        }
    }
}

fn corrupt(what: impl Into<String>) -> PackFault {
    PackFault::new(Class::Corrupt, what)
}
